"""Appendix E: an adversary who knows nobody's membership trains one shadow, and learns from that.

The paper's shadow is trained on 5,000 of the 7,312 participants that trained the target too; the classifier
learns who trained the shadow and is asked about members outside of it and about unseen participants. Beside
it stands a classifier that learns from a model of other people only (the null target), asked about the same.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from privoxel.arrays import IntArray
from privoxel.attacks import get_attack
from privoxel.attacks.base import Attack, Knowledge, optional_signals
from privoxel.cohort.base import Covariates
from privoxel.cohort.splits import Design
from privoxel.config import RunConfig
from privoxel.evaluation.draws import reproduction_draws
from privoxel.evaluation.frontier import estimate
from privoxel.evaluation.intervals import participant_weights
from privoxel.evaluation.metrics import balanced_accuracy, to_metric
from privoxel.evaluation.reproduction_results import ShadowResults, ShadowRow
from privoxel.evaluation.scored import Estimate, Evaluated
from privoxel.evaluation.weighted import weighted_balanced_accuracy
from privoxel.recipes.audit import RunOptions, draw_designs
from privoxel.recipes.cohorts import describe_cohort, read_cohort
from privoxel.recipes.environment import machine_facts, version_facts
from privoxel.recipes.plan import plan_targets
from privoxel.recipes.reproduction.central import ShadowSettings
from privoxel.recipes.runs import cohort_content, log_file, write_config
from privoxel.recipes.target import TargetPlan, Workplace, observe, signals_of, started
from privoxel.seeding import Streams
from privoxel.signals.table import LazyArray, SignalTable
from privoxel.store import RunFolder, open_run, write_json
from privoxel.training.job import TrainingFolders
from privoxel.training.runtime import choose_runtime
from privoxel.version import __version__

ATTACK = "combined"
"""The classifier of appendix E: prediction, label, gradients of conv 6 and output."""
KNOWN = 0.5
"""Share of the unseen participants whom the adversary knows, as non-members of the shadow."""
FITTED = 0.8
"""Share of the shadow's participants that the classifier learns from; the rest is the paper's validation."""


class Groups(NamedTuple):
    """Who is who in appendix E."""

    shadow: tuple[str, ...]
    outside: tuple[str, ...]
    known: tuple[str, ...]
    unseen: tuple[str, ...]


def divide(design: Design, share: float, rng: np.random.Generator) -> Groups:
    """Return a random ``share`` of the members for the shadow, and half of the non-members known to it."""
    members, others = rng.permutation(np.array(design.members)), rng.permutation(np.array(design.non_members))
    inside, known = round(share * len(members)), round(KNOWN * len(others))
    parts = (members[:inside], members[inside:], others[:known], others[known:])
    return Groups(*(tuple(str(name) for name in sorted(part)) for part in parts))


def run_shadow(
    config: RunConfig, wanted: ShadowSettings, central: Path, output: Path, options: RunOptions
) -> ShadowResults:
    """Run appendix E for the network of ``config``, whose finished run is in ``central``, in ``output``.

    Raises:
        PrivoxelError: for bad cohorts or folders; finished stages are kept.
    """
    cohort = describe_cohort(config, options.cohort, skip_bad=options.skip_bad, root=options.root)
    runtime = choose_runtime(config.training)
    facts = {"versions": version_facts(), "machine": machine_facts() | runtime.to_dict()}
    settings = {
        "config": config.to_dict(),
        "shadow": wanted.model_dump(mode="json"),
        "cohort": cohort.name,
        "cohort_content": cohort_content(cohort),
        "privoxel": __version__,
    }
    folder = open_run(output, settings, resume=True, facts=facts)
    if folder.is_complete:
        return read_shadow(output)
    with log_file(folder):
        started = time.perf_counter()
        write_config(folder, config.to_dict())
        cohort = read_cohort(cohort, skip_bad=options.skip_bad, progress=options.progress)
        place = Workplace(config, cohort, folder, runtime, options.progress, options.workers)
        at_target = Workplace(config, cohort, RunFolder(central), runtime, options.progress)
        results = _carry_out(place, at_target, wanted)
        results = results.model_copy(update={"seconds": round(time.perf_counter() - started, 1)})
        write_json(output / "results.json", results.model_dump(mode="json"))
        folder.record(complete=True)
    return results


def read_shadow(folder: Path) -> ShadowResults:
    """Return the results of the finished appendix E in ``folder``."""
    return ShadowResults.model_validate_json((folder / "results.json").read_text(encoding="utf-8"))


def _carry_out(place: Workplace, at_target: Workplace, wanted: ShadowSettings) -> ShadowResults:
    config = place.config
    (design, *_) = draw_designs(config, place.cohort)
    plan = plan_targets(config, [design])[0]
    streams = Streams(config.seed).child(f"appendix-e/{plan.name}")
    groups = divide(design, wanted.share, streams.generator("groups"))
    attack = get_attack(ATTACK)
    everyone = observe(plan, (attack,), at_target).table
    target = everyone.select(_rows(everyone, (*groups.outside, *groups.unseen)))

    drawn = Design(groups.shadow, groups.known, validation=design.validation)
    own = observe(TargetPlan(f"{plan.model.name}-shadow", plan.model, drawn), (attack,), place).table
    found = _transfer(attack, own, target, streams.child("own"), wanted.repeats)
    other = None
    if design.others:
        apart = _of_others(plan, groups, (attack,), place, at_target)
        other = _transfer(attack, apart, target, streams.child("disjoint"), wanted.repeats)
    judged = found.evaluated
    return ShadowResults(
        model=plan.model.name,
        attack=attack.title,
        judged_members=judged.n_members,
        judged_non_members=judged.n_non_members,
        own=found.row,
        disjoint=None if other is None else other.row,
        difference=None if other is None else to_metric(_difference(judged, other.evaluated, streams)),
    )


def _of_others(
    plan: TargetPlan,
    groups: Groups,
    attacks: Sequence[Attack],
    place: Workplace,
    at_target: Workplace,
) -> SignalTable:
    """Return the null target's signals on those who trained it and on the known non-members."""
    name, others = f"{plan.name}-null", plan.design.others
    weights = TrainingFolders(at_target.folder.path / "snapshots" / name, at_target.folder.path / "state")
    design = Design(others, groups.known)
    disjoint = TargetPlan(f"{plan.model.name}-disjoint", plan.model, design)
    mean_age = float(place.cohort.covariates.age[place.training_rows(others)].mean())
    model = started(plan.model, place.cohort, mean_age, 0, None)
    return signals_of(disjoint, model, weights.existing()[-1], attacks, place)


class _Transferred(NamedTuple):
    evaluated: Evaluated
    row: ShadowRow


def _transfer(
    attack: Attack, shadow: SignalTable, target: SignalTable, streams: Streams, repeats: int
) -> _Transferred:
    """Return what a classifier that learnt from ``shadow`` reaches on ``target`` and on the rest of it."""
    codes = shadow.covariates.participant_index
    draws = reproduction_draws(
        shadow.membership[0], codes, repeats=repeats, rng=streams.generator("draws"), leak=FITTED
    )
    on_target = np.empty((repeats, len(target)))
    on_shadow = np.full((repeats, len(shadow)), np.nan)
    thresholds = np.empty(repeats)
    for k, draw in enumerate(draws):
        knowledge = Knowledge(leaked=shadow.select(draw.leaked))
        asked = _joined(target, shadow.select(draw.evaluated), attack.requires | optional_signals(attack))
        scored = attack.score(asked.blinded(), knowledge, streams.generator(f"attack/{k}"))
        on_target[k], on_shadow[k, draw.evaluated] = np.split(scored.scores, [len(target)])
        thresholds[k] = scored.threshold
    judged = Evaluated(on_target, thresholds, target.is_member(), target.covariates.participant_index)
    held_out = Evaluated(on_shadow, thresholds, shadow.is_member(), codes)
    error, members = np.abs(shadow.error()), shadow.is_member()
    row = ShadowRow(
        members=len(np.unique(codes[members])),
        known_non_members=len(np.unique(codes[~members])),
        mae_members=float(error[members].mean()),
        mae_non_members=float(error[~members].mean()),
        target=to_metric(balanced_accuracy(judged, streams.generator("bootstrap/target"))),
        validation=to_metric(balanced_accuracy(held_out, streams.generator("bootstrap/validation"))),
    )
    return _Transferred(judged, row)


def _joined(first: SignalTable, second: SignalTable, names: frozenset[str]) -> SignalTable:
    """Return the scans of both tables as one: a classifier that is fitted once is asked about all of them."""
    mine, other = first.covariates, second.covariates
    covariates = Covariates(
        (*mine.scans, *other.scans),
        np.concatenate([mine.age, other.age]),
        np.concatenate([mine.sex, other.sex]),
        np.concatenate([mine.site, other.site]),
    )
    values = {
        name: LazyArray(np.concatenate([first.values[name].read(), second.values[name].read()])[None, None])
        for name in sorted(names & set(first.values) & set(second.values))
    }
    membership = np.concatenate([first.membership, second.membership], axis=1)
    return replace(first, covariates=covariates, membership=membership, values=values)


def _difference(own: Evaluated, disjoint: Evaluated, streams: Streams) -> Estimate:
    weights = participant_weights(own, 1000, streams.generator("bootstrap/difference"))
    ones = np.ones((1, own.scores.shape[1]))
    value, drawn = (
        weighted_balanced_accuracy(own, w) - weighted_balanced_accuracy(disjoint, w) for w in (ones, weights)
    )
    return estimate(float(value[0]), drawn)


def _rows(table: SignalTable, people: Sequence[str]) -> IntArray:
    wanted = set(people)
    return np.flatnonzero([scan.participant in wanted for scan in table.scans])
