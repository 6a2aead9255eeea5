"""An audit of predictions alone: a table in, the same run folder out as from a trained target.

No model and no scan is needed: every black-box attack without reference models runs on the table's errors,
beside the same controls, and is judged by the same code as any other target.
"""

import hashlib
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np

from privoxel.arrays import Float32Array
from privoxel.attacks import ATTACKS, WITH_STATED_SD
from privoxel.attacks.base import Attack, ThreatModel, needs_models
from privoxel.cohort.base import Cohort, Grid
from privoxel.cohort.predictions import Predictions, load_predictions
from privoxel.cohort.splits import EXCLUDED, MEMBER, NON_MEMBER, Design
from privoxel.config import AttackConfig, ModelConfig, ReportConfig, RunConfig
from privoxel.errors import CohortError, ConfigError
from privoxel.evaluation.archive import Archive
from privoxel.evaluation.balance import categorical_difference, standardised_difference
from privoxel.evaluation.results import Results
from privoxel.progress import Progress, Silent
from privoxel.recipes.assemble import assemble_results
from privoxel.recipes.audit import Outcome, write_outputs
from privoxel.recipes.cohorts import summarise_cohort
from privoxel.recipes.environment import machine_facts, version_facts
from privoxel.recipes.judging import Judged, judge_observed, protocol_draws
from privoxel.recipes.matched import CALIPER, Matched, match_groups
from privoxel.recipes.rewrite import read_results, rewrite_report
from privoxel.recipes.runs import Clock, cohort_content, log_file, now, write_config
from privoxel.recipes.scans import write_scores
from privoxel.recipes.target import Observed, TargetPlan, Workplace
from privoxel.seeding import Streams
from privoxel.signals.table import PREDICTION, STATED_SD, LazyArray, SignalTable
from privoxel.store import RunFolder, open_run
from privoxel.training.runtime import Runtime
from privoxel.version import __version__

logger = logging.getLogger(__name__)

PRIMARY = "default-black-box"
NAME = "predictions"


@final
@dataclass(frozen=True)
class PredictionAudit:
    """How predictions are audited.

    ``primary``: the attack that the verdict rests on; ``attacks``: those to run, empty for all.
    ``stated_mae``: error (years) that the model is known to reach on unseen people. ``match``: what pairs of
    a member and a non-member must have in common; empty compares everybody. ``caliper``: largest difference
    in age within a pair, years. ``tolerated_auc``: the limit below which a leak is tolerated. ``skip_bad``:
    leave faulty lines out. The rest changes no number.
    """

    primary: str = PRIMARY
    attacks: tuple[str, ...] = ()
    stated_mae: float | None = None
    match: tuple[str, ...] = ()
    caliper: float = CALIPER
    tolerated_auc: float = 0.6
    seed: int = 0
    title: str = "Membership-inference audit of predictions"
    skip_bad: bool = False
    resume: bool = False
    workers: int = 1
    progress: Progress = field(default_factory=Silent)


def black_box_attacks(*, stated_sd: bool = False) -> dict[str, Attack]:
    """Return every attack that needs predictions and ages alone: no gradients, no reference models.

    With ``stated_sd`` those too that need the standard deviation that the model states.
    """
    held = {PREDICTION, STATED_SD} if stated_sd else {PREDICTION}
    return {
        name: attack
        for name, attack in {**ATTACKS, **WITH_STATED_SD}.items()
        if attack.threat_model is ThreatModel.BLACK_BOX
        and attack.requires <= held
        and not needs_models(attack)
    }


def audit_predictions(path: Path, output: Path, options: PredictionAudit) -> Outcome:
    """Audit the table of predictions at ``path`` in the run folder ``output`` and return the results.

    Raises:
        PrivoxelError: for a table, settings or a folder that cannot be used.
    """
    clock = Clock()
    table = load_predictions(path, skip_bad=options.skip_bad)
    attacks = _chosen(options, stated_sd=table.sd is not None)
    judged, matched = _judged_scans(table, options)
    config = _config(options, tuple(attacks))
    _check_sizes(judged, config, matched)
    cohort = _cohort(path.name, judged)
    settings: dict[str, Any] = {
        "config": _shown_config(config, options),
        "cohort": cohort.name,
        "cohort_content": cohort_content(cohort),
        "privoxel": __version__,
    }
    facts = {"versions": version_facts(), "machine": machine_facts()}
    folder = open_run(output, settings, resume=options.resume, facts=facts)
    if folder.is_complete:
        return Outcome(read_results(output), rewrite_report(output))
    with log_file(folder):
        write_config(folder, settings["config"])
        clock.lap("table")
        plan = TargetPlan(NAME, config.models[0], _design(judged))
        workplace = Workplace(config, cohort, folder, Runtime(), options.progress, options.workers)
        done = judge_observed(_observed(plan, judged), tuple(attacks.values()), workplace)
        clock.lap("attacks")
        results = assemble_results(
            [done],
            config=config,
            cohort=summarise_cohort(cohort, folder),
            facts=facts | {"created": now(), "seconds": clock.laps},
        )
        clock.lap("estimates")
        results = _with_context(results, table, judged, matched, options)
        results = results.model_copy(update={"seconds": clock.laps})
        report = _write(folder, results, done, cohort)
    return Outcome(results, report)


def _chosen(options: PredictionAudit, *, stated_sd: bool) -> dict[str, Attack]:
    """Return the attacks to run.

    Raises:
        ConfigError: if one of them, or the primary one, does not work on a table of predictions.
    """
    known = black_box_attacks(stated_sd=stated_sd)
    asked = set(options.attacks or known) | {options.primary}
    unknown = sorted(asked - set(known))
    if unknown:
        raise ConfigError(
            f"An audit of predictions needs attacks on predictions alone, got {', '.join(unknown)}. "
            f"Choose among {', '.join(known)}."
        )
    return {name: attack for name, attack in known.items() if name in asked}


def _judged_scans(table: Predictions, options: PredictionAudit) -> tuple[Predictions, Matched | None]:
    """Return the scans of members and non-members, of matched pairs alone where that is asked for."""
    judged = table.select(table.state != EXCLUDED)
    if not options.match:
        return judged, None
    rng = Streams(options.seed).generator("match")
    members = judged.state == MEMBER
    matched = match_groups(judged.covariates, members, options.match, rng, caliper=options.caliper)
    return judged.select(matched.kept), matched


def _config(options: PredictionAudit, attacks: tuple[str, ...]) -> RunConfig:
    return RunConfig(
        seed=options.seed,
        models=(ModelConfig(name=NAME, stated_mae=options.stated_mae),),
        attacks=AttackConfig(names=attacks, primary=options.primary, protocol="audit"),
        report=ReportConfig(title=options.title, tolerated_auc=options.tolerated_auc, slices=0),
    )


def _shown_config(config: RunConfig, options: PredictionAudit) -> dict[str, Any]:
    """Return the settings that decided something: nothing was trained here."""
    shown = config.to_dict()
    kept: dict[str, Any] = {"seed": shown["seed"], "attacks": shown["attacks"], "report": shown["report"]}
    kept["predictions"] = {
        "match": list(options.match),
        "caliper": options.caliper,
        "skip_bad": options.skip_bad,
        **({} if options.stated_mae is None else {"stated_mae": options.stated_mae}),
    }
    return kept


def _check_sizes(judged: Predictions, config: RunConfig, matched: Matched | None) -> None:
    """Raise ``ConfigError`` if there are too few participants for the protocol."""
    try:
        protocol_draws(
            judged.state, judged.covariates.participant_index, config.attacks, Streams(config.seed)
        )
    except ConfigError as error:
        if matched is None:
            raise
        raise ConfigError(
            f"{error} Matching left {matched.pairs} pairs: widen --caliper, or match on less."
        ) from error


@final
@dataclass(frozen=True)
class _NoVolumes:
    """Scans of which nothing but predictions is known."""

    scans: int

    def __len__(self) -> int:
        return self.scans

    def volume(self, row: int) -> Float32Array:
        raise CohortError(f"Scan {row} needs a volume, got a table of predictions. Audit the scans instead.")


def _cohort(name: str, judged: Predictions) -> Cohort:
    parts = (judged.prediction, judged.state, *(() if judged.sd is None else (judged.sd,)))
    digest = hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()
    return Cohort(
        name,
        judged.covariates,
        Grid((0, 0, 0), 0.0, (0.0, 0.0, 0.0)),
        _NoVolumes(len(judged.covariates)),
        digest,
        problems=judged.problems,
    )


def _design(judged: Predictions) -> Design:
    people = judged.covariates.participants
    state = dict(zip((scan.participant for scan in judged.covariates.scans), judged.state, strict=True))
    return Design(
        tuple(name for name in people if state[name] == MEMBER),
        tuple(name for name in people if state[name] == NON_MEMBER),
    )


def _observed(plan: TargetPlan, judged: Predictions) -> Observed:
    signals = {PREDICTION: judged.prediction}
    if judged.sd is not None:
        signals[STATED_SD] = judged.sd
    table = SignalTable(
        judged.covariates,
        (NAME,),
        ("given",),
        judged.state[None],
        {name: LazyArray(values[None, None].astype(np.float32)) for name, values in signals.items()},
    )
    train_age = float(table.age[table.is_member()].mean())
    return Observed(plan, None, (), train_age, table)


def _with_context(
    results: Results,
    table: Predictions,
    judged: Predictions,
    matched: Matched | None,
    options: PredictionAudit,
) -> Results:
    """Return the results with what only a table of predictions has: differences, matching, left out."""
    (target,) = results.targets
    excluded = table.covariates.select(table.state == EXCLUDED).participants
    left = 0 if matched is None else matched.members_left + matched.non_members_left
    design: dict[str, Any] = {"protocol": target.design["protocol"]}
    if matched is not None:
        design["matched_on"] = ", ".join(options.match)
        design["without_a_partner"] = left
        everyone = table.select(table.state != EXCLUDED)
        design["differences_before_matching"] = differences(everyone)
    design["standardised_differences"] = differences(judged)
    target = target.model_copy(update={"design": design, "n_excluded": len(excluded) + left})
    verdict = results.verdict
    advice = _advice(results, options)
    if advice:
        verdict = verdict.model_copy(update={"reasons": [*verdict.reasons, advice]})
    config = _shown_config(RunConfig.model_validate(results.config), options)
    return results.model_copy(update={"targets": [target], "verdict": verdict, "config": config})


def differences(judged: Predictions) -> dict[str, float | None]:
    """Return the standardised differences of age, sex and site between members and non-members.

    Participants count once, with their mean age; sex and site are left out where they are not known.
    """
    people, members = judged.covariates, judged.state == MEMBER
    first = np.unique(people.participant_index, return_index=True)[1]
    ages = np.bincount(people.participant_index, people.age) / np.bincount(people.participant_index)
    found: dict[str, float | None] = {"age": _rounded(standardised_difference(ages, members[first]))}
    for name in ("sex", "site"):
        labels = getattr(people, name)[first]
        if np.any(labels != ""):
            found[name] = _rounded(categorical_difference(labels, members[first]))
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _advice(results: Results, options: PredictionAudit) -> str:
    """Return what to do where the groups differ as people, "" where they do not or are matched already."""
    (target,) = results.targets
    control = next(one for one in target.controls if one.name == "covariates_only").metrics["auc"]
    if options.match or control.low is None or control.low <= 0.5:
        return ""
    return (
        "members and non-members differ in age, sex or site; --match age,sex,site compares only people who "
        "have a partner in the other group"
    )


def _write(folder: RunFolder, results: Results, judged: Judged, cohort: Cohort) -> Path:
    write_scores(folder.path, judged, cohort.covariates)
    return write_outputs(folder, results, Archive({NAME: judged.scores}))
