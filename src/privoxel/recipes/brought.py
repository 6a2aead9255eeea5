"""An audit of a model that somebody brought: people with a known state in, the run folder of any audit out.

Nothing is trained. ``Brought`` says who was a member and how the model is observed on the judged scans, which
is all that differs between a table of predictions, a model to query and a model to look into. Matching,
controls, attacks, estimates, verdict, report and card are the same code for all of them.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from privoxel.arrays import BoolArray
from privoxel.attacks import CENTRED_NAMES
from privoxel.attacks.base import Attack
from privoxel.attacks.recentred import centred_forms
from privoxel.cohort.base import Cohort, NoVolumes
from privoxel.cohort.names import are_numbered
from privoxel.cohort.splits import (
    EXCLUDED,
    MEMBER,
    SOME,
    Sessions,
    people_by_session,
    training_scans,
    without_training_scans,
)
from privoxel.cohort.tables import label
from privoxel.config import (
    RunConfig,
)
from privoxel.errors import ConfigError, Problem, ProblemsError
from privoxel.evaluation.archive import Archive
from privoxel.evaluation.results import Results
from privoxel.recipes.assemble import assemble_results
from privoxel.recipes.audit import Outcome, write_outputs
from privoxel.recipes.brought_settings import Brought, BroughtAudit, run_config, shown_config
from privoxel.recipes.cohorts import read_cohort, summarise_cohort
from privoxel.recipes.environment import machine_facts, version_facts
from privoxel.recipes.groups import Compared, advice_on_groups, check_sizes, compare_groups, describe_groups
from privoxel.recipes.judging import judge_observed
from privoxel.recipes.rewrite import read_results, rewrite_report
from privoxel.recipes.risk import assess_risk, write_risk
from privoxel.recipes.runs import Clock, cohort_content, log_file, now, write_config
from privoxel.recipes.scans import describe_derivative, write_scores
from privoxel.recipes.screening import screen_people
from privoxel.recipes.target import Observed, TargetPlan, Workplace, part_of
from privoxel.signals.table import LazyArray, SignalTable
from privoxel.store import RunFolder, open_run
from privoxel.version import __version__

logger = logging.getLogger(__name__)

BY_ALPHABET = "Session labels are words, so that the alphabet decided which come first."


class RefusedScansError(ProblemsError):
    """Scans on which the model cannot be observed; ``scans`` are their rows in the cohort it was given."""

    def __init__(self, title: str, problems: Sequence[Problem], scans: Sequence[int]) -> None:
        super().__init__(title, problems, "Continue with the rest by --skip-bad.")
        self.scans = tuple(scans)


def audit_brought(brought: Brought, output: Path, options: BroughtAudit) -> Outcome:
    """Audit what was brought in the run folder ``output`` and return the results.

    Raises:
        PrivoxelError: for a cohort, a model, settings or a folder that cannot be used; a run that was stopped
        by an error or a signal can be resumed, and keeps what it had finished.
    """
    clock = Clock()
    _refuse_unfair_coins(options)
    _refuse_idle_attacks(options)
    options = replace(options, train_sessions=_sessions(options.train_sessions))
    primary = options.primary or brought.primary
    brought = _screened(_without_population(brought, options), options)
    notes = (*brought.notes, *_notes_on_sessions(brought, options))
    attacks = _chosen(brought, options, primary)
    compared = _compared(brought.cohort, brought, options)
    config = run_config(brought, options, tuple(attacks), primary)
    check_sizes(compared, config)
    shown = shown_config(config, brought, options)
    settings: dict[str, Any] = {
        "config": shown,
        "cohort": brought.cohort.name,
        "cohort_content": cohort_content(compared.cohort),
        "groups": hashlib.sha256(_groups(compared, brought, options)).hexdigest()[:16],
        "privoxel": __version__,
    }
    facts = {"versions": version_facts(), "machine": machine_facts() | options.runtime.to_dict()}
    folder = open_run(output, settings, resume=options.resume, facts=facts)
    if folder.is_complete:
        return Outcome(read_results(output), rewrite_report(output))
    with log_file(folder):
        write_config(folder, shown)
        clock.lap("table")
        compared, observed, workplace = _observed(brought, tuple(attacks.values()), config, folder, options)
        clock.lap("signals")
        done = judge_observed(observed, tuple(attacks.values()), workplace)
        clock.lap("attacks")
        risk = assess_risk([done], compared.cohort.covariates, config)
        write_risk(risk, folder)
        results = assemble_results(
            [done],
            config=config,
            cohort=summarise_cohort(compared.cohort, folder),
            risk=risk.summaries,
            facts=facts | {"created": now(), "seconds": clock.laps},
            workers=options.workers,
            drawn=options.coin,
        )
        clock.lap("estimates")
        results = _with_context(results, compared, shown, options, notes)
        results = results.model_copy(update={"seconds": clock.laps})
        people = compared.cohort.covariates
        write_scores(folder.path, done, people.select(training_scans(people, options.train_sessions)))
        describe_derivative(folder.path)
        report = write_outputs(folder, results, Archive({observed.plan.name: done.scores}))
    return Outcome(results, report)


def _sessions(given: Any) -> Sessions:
    """Return which sessions were trained on, labels without prefix.

    Raises:
        ConfigError: if that is neither a number from 1 nor labels.
    """
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and given > 0):
        return given
    labels = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else ()
    if not labels or not all(isinstance(one, str) for one in labels):
        raise ConfigError(
            f"train_sessions needs a number from 1, or labels of sessions as text, got {given!r}. Correct it."
        )
    return tuple(label(one, "ses") for one in labels)


def _notes_on_sessions(brought: Brought, options: BroughtAudit) -> tuple[str, ...]:
    """Return what a reader should know of the sessions that count as trained on."""
    people, sessions = brought.cohort.covariates, options.train_sessions
    labels, notes = list(people_by_session(people)), []
    if isinstance(sessions, int) and not are_numbered(labels):
        notes.append(BY_ALPHABET)
        some = f"{', '.join(labels[:SOME])}{', …' if len(labels) > SOME else ''}"
        logger.warning(
            "%s They are %s. If that is wrong, name sessions by --trained-session.", BY_ALPHABET, some
        )
    lacking = sum(
        brought.states.get(who, EXCLUDED) != EXCLUDED for who in without_training_scans(people, sessions)
    )
    if lacking:
        notes.append(f"{lacking} people without a scan of the sessions that were trained on are left out.")
    return tuple(notes)


def _without_population(brought: Brought, options: BroughtAudit) -> Brought:
    """Return the same with the population in neither group.

    Raises:
        ConfigError: if some of it are unknown, or were trained on.
    """
    known = set(brought.cohort.covariates.participants)
    wrong = [
        name
        for name in options.population
        if name not in known or brought.states.get(name, EXCLUDED) == MEMBER
    ]
    if wrong:
        raise ConfigError(
            f"A population needs people of {brought.cohort.name} who were not trained on, got {len(wrong)} "
            f"others (sub-{wrong[0]} first). Correct --population."
        )
    return replace(brought, states={**brought.states, **dict.fromkeys(options.population, EXCLUDED)})


def _groups(compared: Compared, brought: Brought, options: BroughtAudit) -> bytes:
    """Return who is in which group, without names."""
    groups = compared.members.tobytes()
    return groups + _of_population(brought.cohort, options).tobytes() if options.population else groups


def _of_population(cohort: Cohort, options: BroughtAudit) -> BoolArray:
    people = set(options.population)
    return np.array([scan.participant in people for scan in cohort.covariates.scans], dtype=np.bool_)


def _refuse_idle_attacks(options: BroughtAudit) -> None:
    if options.other_scans and options.train_sessions is None:
        raise ConfigError(
            f"Attacks on other scans (--other-scans {', '.join(options.other_scans)}) need sessions that "
            "were trained on, got none. Give --train-sessions or --trained-session."
        )


def _refuse_unfair_coins(options: BroughtAudit) -> None:
    if options.coin and options.match:
        raise ConfigError(
            "Members by coins (--coin) need everybody whom coins decided on, got --match, which chooses "
            "pairs by membership. Drop one of them."
        )


def _screened(brought: Brought, options: BroughtAudit) -> Brought:
    """Return the same with its volumes read, and without members among the non-members."""
    if isinstance(brought.cohort.source, NoVolumes):
        return brought
    cohort = read_cohort(brought.cohort, skip_bad=options.skip_bad, progress=options.progress)
    states = dict(brought.states)
    overlap = screen_people(cohort, states, workers=options.workers, progress=options.progress)
    notes = (*brought.notes, *overlap.notes)
    return replace(brought, cohort=cohort, states=overlap.states, notes=notes)


def given_table(
    plan: TargetPlan, workplace: Workplace, values: Mapping[str, np.ndarray], *, snapshot: str = "given"
) -> Observed:
    """Return a target of which only answers are known: ``values`` hold each signal, scans × value axes."""
    cohort, design = workplace.cohort, plan.design
    inside = set(design.members)
    members = np.array([scan.participant in inside for scan in cohort.covariates.scans], dtype=np.int8)
    table = SignalTable(
        cohort.covariates,
        (plan.model.name,),
        (snapshot,),
        members[None],
        {name: LazyArray(np.asarray(value)[None, None].astype(np.float32)) for name, value in values.items()},
    )
    return Observed(plan, None, (), float(table.age[members == 1].mean()), table)


def _observed(
    brought: Brought,
    attacks: tuple[Attack, ...],
    config: RunConfig,
    folder: RunFolder,
    options: BroughtAudit,
) -> tuple[Compared, Observed, Workplace]:
    """Return the model as observed on the groups; scans that cannot be used are left out if that is asked."""
    cohort = brought.cohort
    while True:
        compared = _compared(cohort, brought, options)
        check_sizes(compared, config)
        design = replace(compared.design, population=options.population)
        plan = TargetPlan(brought.name, config.models[0], design)
        workplace = Workplace(
            config, compared.cohort, folder, options.runtime, options.progress, options.workers
        )
        everyone = _with_population(compared, cohort, options)
        try:
            observed = brought.observe(plan, attacks, replace(workplace, cohort=everyone))
            return compared, _parted(observed), workplace
        except RefusedScansError as refusal:
            if not options.skip_bad:
                raise
            logger.warning("%d scans left out: %s", len(refusal.scans), refusal.problems[0].what)
            scans = everyone.covariates.scans
            cohort = without_scans(cohort, {scans[row] for row in refusal.scans}, refusal.problems)


def _with_population(compared: Compared, cohort: Cohort, options: BroughtAudit) -> Cohort:
    """Return the scans of those who are judged and of the population."""
    if not options.population:
        return compared.cohort
    judged = set(compared.cohort.covariates.scans)
    is_judged = np.array([scan in judged for scan in cohort.covariates.scans], dtype=np.bool_)
    return cohort.select(is_judged | _of_population(cohort, options))


def _parted(observed: Observed) -> Observed:
    """Return a target with the population's signals in a table of their own."""
    design = observed.plan.design
    if not design.population:
        return observed
    population = part_of(observed.table, design.population, ())
    return observed._replace(table=part_of(observed.table, design.judged), population=population)


def without_scans(cohort: Cohort, scans: set[Any], problems: Sequence[Problem]) -> Cohort:
    """Return ``cohort`` without ``scans``, and why."""
    kept = np.array([scan not in scans for scan in cohort.covariates.scans], dtype=np.bool_)
    return replace(cohort.select(kept), problems=(*cohort.problems, *problems))


def _compared(cohort: Cohort, brought: Brought, options: BroughtAudit) -> Compared:
    lacking = without_training_scans(cohort.covariates, options.train_sessions)
    states = {**brought.states, **dict.fromkeys(lacking, EXCLUDED)}
    return compare_groups(cohort, states, options.match, caliper=options.caliper, seed=options.seed)


def _chosen(brought: Brought, options: BroughtAudit, primary: str) -> dict[str, Attack]:
    """Return the attacks to run.

    Raises:
        ConfigError: if one of them, or the primary one, does not work on what was brought.
    """
    listed = {**brought.attacks, **brought.when_named}
    known = {**listed, **centred_forms(listed.values())}
    asked = set(options.attacks or brought.attacks) | {primary, *options.other_scans}
    unknown = sorted(asked - set(known))
    if unknown:
        alone = "on predictions alone" if brought.kind == "predictions" else "that work on it"
        raise ConfigError(
            f"An audit of {brought.name} needs attacks {alone}, got {', '.join(unknown)}. "
            f"Choose among {', '.join(listed)}; {CENTRED_NAMES}."
        )
    return {name: attack for name, attack in known.items() if name in asked}


def _with_context(
    results: Results,
    compared: Compared,
    shown: dict[str, Any],
    options: BroughtAudit,
    notes: Sequence[str],
) -> Results:
    """Return the results with what only such an audit has: differences, matching, who was left out."""
    (target,) = results.targets
    design = {"protocol": target.design["protocol"], **describe_groups(compared, options.match)}
    if options.population:
        design["participants"] = {"population": len(options.population)}
    if notes:
        design["groups"] = " ".join(notes)
    excluded = compared.excluded + (compared.unmatched or 0)
    target = target.model_copy(update={"design": design, "n_excluded": excluded})
    verdict = results.verdict
    advice = advice_on_groups(results, options.match)
    if advice:
        verdict = verdict.model_copy(update={"reasons": [*verdict.reasons, advice]})
    return results.model_copy(update={"targets": [target], "verdict": verdict, "config": shown})
