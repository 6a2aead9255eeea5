"""The audit: cohort → split → train → snapshots → signals → attacks → evaluation → report.

``run_audit`` is the whole pipeline. Each stage is finished in the run folder before the next begins, so
that a killed run continues where it stopped.
"""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np

from privoxel.attacks.base import Attack
from privoxel.cohort.base import Cohort
from privoxel.cohort.splits import Design, draw_design
from privoxel.config import RunConfig
from privoxel.errors import StoreError
from privoxel.evaluation.archive import Archive
from privoxel.evaluation.results import Results
from privoxel.executor import Executor
from privoxel.progress import Progress, Silent, duration
from privoxel.recipes.assemble import assemble_results
from privoxel.recipes.budget import fit_budget, numbers_in, with_numbers
from privoxel.recipes.canaries import draw_canaries, people_besides, with_canaries, with_false_ages
from privoxel.recipes.cohorts import describe_cohort, read_cohort, summarise_cohort
from privoxel.recipes.environment import machine_facts, version_facts
from privoxel.recipes.feasible import check_feasible
from privoxel.recipes.judging import Judged, judge
from privoxel.recipes.plan import (
    Crews,
    Needs,
    check_disk,
    chosen_attacks,
    estimate_needs,
    not_run,
    not_run_on,
    plan_targets,
)
from privoxel.recipes.rewrite import read_results, rewrite_report
from privoxel.recipes.risk import assess_risk, write_risk
from privoxel.recipes.runs import Clock, announce, cohort_content, log_file, now, write_config
from privoxel.recipes.target import TargetPlan, Workplace
from privoxel.recipes.trainers import Trainers, choose_trainers
from privoxel.report import mid_slices, results_tsv, write_report
from privoxel.report.card import card_markdown, privacy_card
from privoxel.seeding import Streams
from privoxel.store import RunFolder, atomic_path, open_run, write_json, write_text
from privoxel.training.runtime import Runtime, choose_runtime
from privoxel.version import __version__

logger = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out. Of these only ``skip_bad`` can change a number, by the scans it leaves out.

    ``cohort`` is the folder or table of a real cohort, ``root`` the folder its table's paths may point into,
    ``workers`` the processes that attack, ``executor`` where shadows are trained. ``budget`` is the
    most seconds that all may take; it decides how many shadows there are.
    """

    cohort: Path | None = None
    root: Path | None = None
    resume: bool = False
    skip_bad: bool = False
    include_participants: bool = False
    workers: int = 1
    budget: float | None = None
    executor: Executor = field(default_factory=Executor)
    progress: Progress = field(default_factory=Silent)


class Outcome(NamedTuple):
    """What a run leaves: its results, and where its report is."""

    results: Results
    report: Path


def run_audit(config: RunConfig, output: Path, options: RunOptions) -> Outcome:
    """Run the whole audit of ``config`` in the folder ``output`` and return its results.

    Raises:
        PrivoxelError: for bad settings, cohorts or folders; finished stages are kept.
    """
    cohort = describe_cohort(config, options.cohort, skip_bad=options.skip_bad, root=options.root)
    runtime = choose_runtime(config.training)
    config, needs, said = _within_budget(config, cohort, runtime, options, output)
    attacks = chosen_attacks(config)
    check_feasible(config, draw_designs(config, cohort), attacks, cohort)
    facts = {"versions": version_facts(), "machine": machine_facts() | runtime.to_dict()}
    settings = {
        "config": config.to_dict(),
        "cohort": cohort.name,
        "cohort_content": cohort_content(cohort),
        "privoxel": __version__,
    }
    folder = open_run(output, settings, resume=options.resume, facts=facts)
    if folder.is_complete:
        return Outcome(read_results(output), rewrite_report(output))
    with log_file(folder):
        clock = Clock()
        write_config(folder, config.to_dict())
        trainers = choose_trainers(options.executor, config.training, runtime)
        needs = needs or _estimate(config, cohort, runtime, trainers, options)
        announce(f"{said}{_plan_in_words(needs, trainers)}", options.progress, logger)
        check_disk(needs, folder.path)
        cohort = read_cohort(cohort, skip_bad=options.skip_bad, progress=options.progress)
        clock.lap("volumes")
        designs = draw_designs(config, cohort)
        _record_designs(folder, designs)
        taught = with_false_ages(cohort, draw_canaries(config, cohort), config.seed)
        workplace = Workplace(
            config,
            taught,
            folder,
            runtime,
            options.progress,
            options.workers,
            trainers.executor,
            trainers.runtime,
            needs.each,
        )
        plans = plan_targets(config, designs)
        idle = {plan.name: not_run_on(plan, attacks, config) for plan in plans}
        for fault in sorted({fault for faults in idle.values() for fault in faults.values()}):
            logger.info("not run: %s", fault)
        judged = [_timed(clock, plan, attacks, workplace) for plan in plans]
        pictures = _pictures(cohort, config, include=options.include_participants)
        risk = assess_risk([j for j in judged if not j.plan.is_null], cohort.covariates, config)
        write_risk(risk, folder)
        results = assemble_results(
            judged,
            config=config,
            cohort=summarise_cohort(cohort, folder),
            risk=risk.summaries,
            facts=facts | {"created": now(), "seconds": clock.laps},
            workers=options.workers,
        )
        results = _with_not_run(results, idle)
        report = write_outputs(folder, results, _archive(judged, pictures))
    return Outcome(results, report)


def _with_not_run(results: Results, idle: Mapping[str, Mapping[str, str]]) -> Results:
    """Return the results with the attacks that were asked for and could not run on each target."""
    targets = [
        target.model_copy(
            update={"design": {**target.design, "not_run": f"{', '.join(idle[target.name])} (see run.log)"}}
        )
        if idle[target.name]
        else target
        for target in results.targets
    ]
    return results.model_copy(update={"targets": targets})


def draw_designs(config: RunConfig, cohort: Cohort) -> tuple[Design, ...]:
    """Return the memberships of the run: one random design per target and model."""
    split = config.split
    streams = Streams(config.seed).child("design")
    canaries = draw_canaries(config, cohort)
    rest = people_besides(cohort.covariates, canaries)
    return tuple(
        with_canaries(
            draw_design(
                rest,
                streams.generator(str(k)),
                members=split.members,
                non_members=split.non_members,
                others=split.others,
                validation=split.validation,
                population=split.population,
                stratify=split.stratify,
                coin=split.coin,
            ),
            canaries,
            streams.generator(f"{k}/canaries"),
        )
        for k in range(split.designs)
    )


def _within_budget(
    config: RunConfig, cohort: Cohort, runtime: Runtime, options: RunOptions, output: Path | None = None
) -> tuple[RunConfig, Needs | None, str]:
    """Return ``config`` with the shadow models that the budget allows, what it needs if known, and why.

    A run that was begun in ``output`` keeps its numbers: a pace that is measured again may be another.
    """
    if options.budget is None:
        return config, None, ""
    budget, before = duration(options.budget), None if output is None else numbers_in(output)
    if before is not None:
        return with_numbers(config, before), None, f"Budget {budget}: {before.in_words}, as begun. "
    trainers = choose_trainers(options.executor, config.training, runtime)
    designs, crews = draw_designs(config, cohort), Crews(trainers.executor.workers, options.workers)
    fitted = fit_budget(config, designs, cohort, runtime, crews, budget=options.budget)
    return fitted.config, fitted.needs, f"Budget {budget}: {fitted.numbers.in_words}. "


def _estimate(
    config: RunConfig, cohort: Cohort, runtime: Runtime, trainers: Trainers, options: RunOptions
) -> Needs:
    plans = plan_targets(config, draw_designs(config, cohort))
    crews = Crews(trainers.executor.workers, options.workers)
    return estimate_needs(plans, config, cohort, runtime, crews)


def _plan_in_words(needs: Needs, trainers: Trainers) -> str:
    many = trainers.executor.workers
    at_once = f", {many} shadows at a time" if needs.each and many > 1 else ""
    models = "model" if needs.trainings == 1 else "models"
    return f"{needs.trainings} {models} to train{at_once}: {needs}."


def plan_audit(config: RunConfig, options: RunOptions) -> dict[str, Any]:
    """Return what ``run_audit`` would do: participants, targets, attacks, time and disk. Nothing is written.

    Raises:
        PrivoxelError: for the bad settings and cohorts that ``run_audit`` would refuse before reading
        volumes.
    """
    cohort = describe_cohort(config, options.cohort, skip_bad=options.skip_bad, root=options.root)
    runtime = choose_runtime(config.training)
    config, needs, _ = _within_budget(config, cohort, runtime, options)
    designs = draw_designs(config, cohort)
    check_feasible(config, designs, chosen_attacks(config), cohort)
    trainers = choose_trainers(options.executor, config.training, runtime)
    needs = needs or _estimate(config, cohort, runtime, trainers, options)
    plans, attacks = plan_targets(config, designs), chosen_attacks(config)
    idle = not_run(plans, attacks, config)
    return {
        "cohort": repr(cohort),
        "targets": [f"{plan.name}: {len(plan.trained_on)} participants" for plan in plans],
        "attacks": [name for name in attacks if name not in idle],
        **({"not_run": list(idle.values())} if idle else {}),
        "shadows": config.shadows.count,
        "distilled": config.shadows.distilled,
        "shadows_at_a_time": trainers.executor.workers,
        "trainings": needs.trainings,
        "needs": str(needs),
    }


def _timed(clock: Clock, plan: TargetPlan, attacks: Mapping[str, Attack], workplace: Workplace) -> Judged:
    announce(f"Target {plan.name}", workplace.progress, logger)
    judged = judge(plan, attacks, workplace)
    clock.lap(plan.name)
    return judged


def _archive(judged: Sequence[Judged], pictures: tuple[Any, tuple[str, ...]]) -> Archive:
    slices, captions = pictures
    return Archive({j.plan.name: j.scores for j in judged if not j.plan.is_null}, slices, captions)


def _pictures(cohort: Cohort, config: RunConfig, *, include: bool) -> tuple[Any, tuple[str, ...]]:
    """Return mid slices of a few scans spread over age; real ones only if ``include``."""
    wanted = config.report.slices
    if not wanted or not (cohort.is_simulated or include):
        return None, ()
    ages = cohort.covariates.age
    order = ages.argsort()
    rows = [int(order[round(k * (len(order) - 1) / max(wanted - 1, 1))]) for k in range(wanted)]
    pictures = np.stack([mid_slices(cohort.volume(row)) for row in rows])
    kind = "simulated, " if cohort.is_simulated else ""
    return pictures, tuple(f"{kind}{ages[row]:.0f} years" for row in rows)


def _record_designs(folder: RunFolder, designs: Sequence[Design]) -> None:
    """Write who was in which group, as keyed hashes; refuse to go on with other groups than before."""
    always = ("members", "non_members", "others", "validation")
    further = ("population", "canaries", "inserted")
    record = [
        {
            group: sorted(folder.hashed(p) for p in getattr(design, group))
            for group in (*always, *further)
            if group in always or getattr(design, group)
        }
        for design in designs
    ]
    if folder.manifest.get("designs", record) != record:
        raise StoreError(
            f"{folder.path} needs the participants it was started with, got others (scans were left out then "
            "or now). Mend the cohort, or choose another --output."
        )
    folder.record(designs=record)


def write_outputs(folder: RunFolder, results: Results, archive: Archive) -> Path:
    """Write everything that a finished run leaves, and return the path of its report."""
    write_json(folder.path / "results.json", results.model_dump(mode="json"))
    write_text(folder.path / "results.tsv", results_tsv(results))
    card = privacy_card(results)
    write_json(folder.path / "privacy_card.json", card.model_dump(mode="json"))
    write_text(folder.path / "privacy_card.md", card_markdown(card))
    with atomic_path(folder.path / "scores.npz") as temporary:
        archive.save(temporary)
    report = folder.path / "report.html"
    write_report(results, archive, report)
    shutil.rmtree(folder.path / "state", ignore_errors=True)
    folder.record(complete=True)
    return report
