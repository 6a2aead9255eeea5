"""Members without non-members: no attack and no verdict, but who is fitted unlike others of the age.

The owner gets a line a participant; what is printed, and ``difficulty.json``, hold groups of people alone.
"""

import csv
import hashlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.cohort.base import Cohort, Covariates, NoVolumes
from privoxel.cohort.splits import MEMBER, Design
from privoxel.errors import ConfigError
from privoxel.evaluation.members_only import (
    FAR,
    FEWEST,
    NEAR,
    WINDOW,
    Fit,
    Tail,
    close_tail,
    errors_by_age,
    fit_among_neighbours,
    hard_tail,
    mean_with_interval,
)
from privoxel.recipes.brought import RefusedScansError, without_scans
from privoxel.recipes.brought_settings import Brought, BroughtAudit, run_config
from privoxel.recipes.cohorts import read_cohort
from privoxel.recipes.environment import machine_facts, version_facts
from privoxel.recipes.runs import cohort_content, log_file
from privoxel.recipes.scans import describe_derivative
from privoxel.recipes.target import TargetPlan, Workplace
from privoxel.store import RunFolder, open_run, write_json, write_text
from privoxel.version import __version__

logger = logging.getLogger(__name__)

WIDTH = 80
ATTACK = "abs-error"
"""It reads predictions alone, which is all that is needed here; it is not run."""

TABLE, SIDECAR = "participants_difficulty.tsv", "participants_difficulty.json"
SUMMARY, TEXT = "difficulty.json", "difficulty.txt"
NO_VERDICT = (
    "No verdict: of members alone, a model that remembers looks like one that fits. Add about 100 people of "
    "the same scanners and ages who were never trained on; privoxel scan MODEL looks into the released file."
)
COLUMNS = {
    "participant_id": {"Description": "Participant, as in the cohort"},
    "age": {"Description": "Age, mean over scans", "Units": "year"},
    "error": {"Description": "Predicted minus true age, mean over scans", "Units": "year"},
    "neighbours_median": {
        "Description": f"Median error of the {WINDOW} other members of the nearest ages",
        "Units": "year",
    },
    "neighbours_sd": {
        "Description": "SD of their errors, from the median absolute deviation",
        "Units": "year",
    },
    "z": {"Description": "Error minus their median, over their SD"},
    "chance_as_close": {
        "Description": "Probability that a normal error of their median and SD lies as near to zero",
        "Units": "fraction, 0-1",
    },
    "remark": {
        "Description": "What is unusual, n/a where nothing is",
        "Levels": {"hard": f"z beyond {FAR:g}", "fitted-closely": f"chance_as_close below {NEAR:g}"},
    },
}


class MembersChecked(NamedTuple):
    """What a check of members found, fit to be shown: ``summary`` as plain values, ``lines`` for a reader."""

    summary: dict[str, Any]
    lines: list[str]
    table: Path


def check_members(brought: Brought, output: Path, options: BroughtAudit) -> MembersChecked:
    """Observe the members of what was brought, and write how they are fitted, in the folder ``output``.

    Raises:
        PrivoxelError: for a cohort, a model or a folder that cannot be used, or too few members.
    """
    cohort = _members_of(brought)
    config = run_config(brought, options, (ATTACK,), ATTACK)
    settings = {
        "kind": "members only",
        brought.kind: {**brought.facts, "skip_bad": options.skip_bad, "stated_mae": options.stated_mae},
        "cohort": cohort.name,
        "cohort_content": cohort_content(cohort),
        "groups": hashlib.sha256("\0".join(map(str, cohort.covariates.scans)).encode()).hexdigest()[:16],
        "privoxel": __version__,
    }
    facts = {"versions": version_facts(), "machine": machine_facts()}
    folder = open_run(output, settings, resume=options.resume, facts=facts)
    with log_file(folder):
        people, error = _errors(brought, cohort, config, folder, options)
        age, own = _each(people, people.age), _each(people, error)
        fit = fit_among_neighbours(age, own)
        smallest = config.report.smallest_group
        summary = summarise(age, own, fit, smallest=smallest, stated=options.stated_mae)
        lines = said(summary)
        _write(folder.path, people, age, own, fit)
        write_json(folder.path / SUMMARY, summary)
        write_text(folder.path / TEXT, "\n".join(lines) + "\n")
        describe_derivative(folder.path)
    return MembersChecked(summary, lines, folder.path / TABLE)


def _members_of(brought: Brought) -> Cohort:
    scans = brought.cohort.covariates.scans
    inside = np.array([brought.states.get(scan.participant) == MEMBER for scan in scans], dtype=np.bool_)
    cohort = brought.cohort.select(inside)
    _check_number(cohort.covariates)
    return cohort


def _check_number(people: Covariates) -> None:
    if len(people.participants) < FEWEST:
        raise ConfigError(
            f"Members are compared with others of their age, which needs {FEWEST} of them, got "
            f"{len(people.participants)}. Bring more members."
        )


def _errors(
    brought: Brought, cohort: Cohort, config: Any, folder: RunFolder, options: BroughtAudit
) -> tuple[Covariates, FloatArray]:
    """Return the members' scans and their signed errors, years; unusable scans are left out if asked."""
    if not isinstance(brought.cohort.source, NoVolumes):
        cohort = read_cohort(cohort, skip_bad=options.skip_bad, progress=options.progress)
    while True:
        _check_number(cohort.covariates)
        plan = TargetPlan(brought.name, config.models[0], Design(cohort.covariates.participants, ()))
        workplace = Workplace(config, cohort, folder, options.runtime, options.progress, options.workers)
        try:
            observed = brought.observe(plan, (brought.attacks[ATTACK],), workplace)
        except RefusedScansError as refusal:
            if not options.skip_bad:
                raise
            logger.warning("%d scans left out: %s", len(refusal.scans), refusal.problems[0].what)
            scans = cohort.covariates.scans
            cohort = without_scans(cohort, {scans[row] for row in refusal.scans}, refusal.problems)
            continue
        return observed.table.covariates, observed.table.error()


def _each(people: Covariates, values: FloatArray) -> FloatArray:
    """Return the mean of each participant's scans: people count once."""
    return np.bincount(people.participant_index, values) / np.bincount(people.participant_index)


def summarise(
    age: FloatArray, error: FloatArray, fit: Fit, *, smallest: int, stated: float | None
) -> dict[str, Any]:
    """Return what may be shown of members: means and groups of at least ``smallest`` people."""
    mae, low, high = mean_with_interval(np.abs(error))
    return {
        "schema_version": "1.0",
        "verdict": None,
        "n_members": len(age),
        "mae": {
            "value": mae,
            "low": low,
            "high": high,
            "level": 0.95,
            "method": "Student's t",
            "unit": "years",
        },
        "null_mae": float(np.mean(np.abs(age - age.mean()))),
        "stated_mae": stated,
        "smallest_group": smallest,
        "by_age": [band._asdict() for band in errors_by_age(age, error, smallest=smallest)],
        "hard": _shown(hard_tail(fit), len(age), smallest),
        "fitted_closely": {
            **_shown(close_tail(fit), len(age), smallest),
            "more_than_by_chance": close_tail(fit).is_more,
        },
    }


def _shown(found: Tail, people: int, smallest: int) -> dict[str, Any]:
    count = round(found.share * people)
    if 0 < count < smallest:
        return {"fewer_than": smallest, "by_chance": found.by_chance}
    return {"count": count, **found._asdict(), "level": 0.95, "method": "Clopper-Pearson"}


def said(summary: dict[str, Any]) -> list[str]:
    """Return a summary as lines for a reader, at most 80 columns wide."""
    mae = summary["mae"]
    lines = [
        NO_VERDICT,
        "",
        f"{summary['n_members']} members, mean absolute error {mae['value']:.2f} years (95 % interval "
        f"{mae['low']:.2f} to {mae['high']:.2f}); predicting their mean age: {summary['null_mae']:.2f}.",
    ]
    if summary["stated_mae"] is not None:
        gap = summary["stated_mae"] - mae["value"]
        lines.append(
            f"Stated on unseen people: {summary['stated_mae']:.2f} years, {gap:+.2f} against "
            "the members' own; the further above, the closer members are fitted than others."
        )
    lines += [
        f"- {band['low']:.0f} to {band['high']:.0f} years: {band['size']} members, error {band['mae']:.2f} "
        f"({band['mae_low']:.2f} to {band['mae_high']:.2f}), mean {band['mean']:+.2f}"
        for band in summary["by_age"]
    ]
    lines.append(_tail_line("with an error unlike others of their age", summary["hard"]))
    lines.append(_tail_line("fitted closer than others of their age", summary["fitted_closely"]))
    return [part for line in lines for part in wrap(line, WIDTH, subsequent_indent="    ") or [""]]


def _tail_line(what: str, found: dict[str, Any]) -> str:
    if "fewer_than" in found:
        number = f"fewer than {found['fewer_than']}"
    else:
        number = (
            f"{found['count']} ({100 * found['share']:.1f} %, interval {100 * found['low']:.1f} to "
            f"{100 * found['high']:.1f})"
        )
    more = "; that is more than chance" if found.get("more_than_by_chance") else ""
    return f"Members {what}: {number}; of normal errors {100 * found['by_chance']:.1f} %{more}."


def _write(folder: Path, people: Covariates, age: FloatArray, error: FloatArray, fit: Fit) -> None:
    text = io.StringIO()
    rows = csv.writer(text, delimiter="\t", lineterminator="\n")
    rows.writerow(COLUMNS)
    for row, name in enumerate(people.participants):
        remarks = [
            word for word, flags in (("hard", fit.is_hard), ("fitted-closely", fit.is_close)) if flags[row]
        ]
        values: Sequence[float] = (
            age[row],
            error[row],
            fit.middle[row],
            fit.spread[row],
            fit.z[row],
            fit.chance[row],
        )
        numbers = ["n/a" if np.isnan(value) else f"{value:.4f}" for value in values]
        rows.writerow((f"sub-{name}", *numbers, ",".join(remarks) or "n/a"))
    table = folder / TABLE
    table.touch(mode=0o600)
    write_text(table, text.getvalue())
    table.chmod(0o600)
    write_json(folder / SIDECAR, COLUMNS)
