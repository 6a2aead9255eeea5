"""Judging one target: attacks and controls on its signals, kept so that a killed run need not repeat them."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from privoxel.arrays import BoolArray, FloatArray
from privoxel.attacks import CONTROLS
from privoxel.attacks.base import Attack, Knowledge, ThreatModel, needs_models
from privoxel.cohort.splits import Sessions, people_by_session, training_scans
from privoxel.errors import PrivoxelError
from privoxel.evaluation.archive import Archive, TargetScores
from privoxel.evaluation.draws import (
    Draw,
)
from privoxel.evaluation.results import TrainingPoint, Utility
from privoxel.evaluation.scored import Evaluated
from privoxel.progress import Silent
from privoxel.recipes.adversaries import adversary_draws, attack_streams, null_members
from privoxel.recipes.attacking import Attacked, Crew, run_attacks, usable_by
from privoxel.recipes.canaries import attack_canaries
from privoxel.recipes.course import along, with_courses
from privoxel.recipes.covariate_control import best_of_covariates
from privoxel.recipes.plan import attacks_on
from privoxel.recipes.shadows import Shadows, observe_shadows
from privoxel.recipes.target import Observed, TargetPlan, Workplace, observe, with_tail
from privoxel.seeding import Streams
from privoxel.signals.extract import total_norm
from privoxel.signals.release import Release
from privoxel.signals.table import SignalTable

logger = logging.getLogger(__name__)

COVARIATES_ONLY = "covariates_only"
COVARIATES_BEST = "covariates_best"
PSEUDO_MEMBERS = "null_pseudo_members"


class AttackFacts(NamedTuple):
    """What is known of an attack's run besides its scores."""

    notes: tuple[str, ...]
    n_leaked: int
    seconds: float


class Judged(NamedTuple):
    """A judged target: how well it predicts, and every attack's and control's scores.

    ``defence`` says what was done against attacks; ``sessions`` how many participants have a scan of each
    session that counted as trained on, empty where all did.
    """

    plan: TargetPlan
    curve: tuple[TrainingPoint, ...]
    utility: Utility
    scores: TargetScores
    facts: Mapping[str, AttackFacts]
    defence: Mapping[str, str] = MappingProxyType({})
    sessions: Mapping[str, int] = MappingProxyType({})


def judge(plan: TargetPlan, attacks: Mapping[str, Attack], workplace: Workplace) -> Judged:
    """Return the judged target of ``plan``, from the run folder where it was finished before."""
    mine = attacks_on(plan, attacks, workplace.config)
    observed = with_courses(observe(plan, mine, workplace), mine, workplace)
    return judge_observed(observed, mine, workplace)


def judge_observed(observed: Observed, attacks: tuple[Attack, ...], workplace: Workplace) -> Judged:
    """Return the judged target whose signals are known already."""
    plan = observed.plan
    curve = tuple(TrainingPoint(**point._asdict()) for point in observed.curve)
    folder, step = workplace.folder, f"{plan.name}/attacks"
    kept = folder.path / "state" / plan.name / "scores.npz"
    if folder.done(step) and kept.exists() and _is_complete(folder.manifest["steps"][step], plan):
        scores = Archive.load(kept).targets[plan.name]
        facts = {
            name: AttackFacts(tuple(n), k, s) for name, (n, k, s) in folder.manifest["steps"][step].items()
        }
        defence = {**observed.defence, **folder.manifest["steps"].get(f"{plan.name}/release", {})}
        first = _on_training_scans(observed, workplace)
        return Judged(plan, curve, _utility(first), scores, facts, defence, _sessions(first, workplace))
    scene = _set_scene(observed, attacks, workplace)
    answered = released_facts(scene.observed.table, scene.release)
    folder.finish(f"{plan.name}/release", **answered)
    attacked, controls = _attack(scene, workplace)
    scores = _scores(scene.observed, attacked, controls, workplace)
    scores = replace(
        scores,
        other_scans=attack_other_scans(scene, workplace),
        answers=answers_of(scene.observed.table, scene.release),
        canaries=_attack_canaries(scene, workplace),
    )
    kept.parent.mkdir(parents=True, exist_ok=True)
    Archive({plan.name: scores}).save(kept)
    facts = {
        name: AttackFacts(a.notes, a.n_leaked, round(a.seconds, 2))
        for name, a in (*attacked.items(), *controls.items())
    }
    folder.finish(step, **{name: list(fact) for name, fact in facts.items()})
    defence = {**observed.defence, **answered}
    sessions = _sessions(scene.observed, workplace)
    return Judged(plan, curve, _utility(scene.observed), scores, facts, defence, sessions)


def _is_complete(finished: Collection[str], plan: TargetPlan) -> bool:
    """Return whether the control that the verdict needs is there; what earlier versions finished has none."""
    return plan.is_null or COVARIATES_BEST in finished


class _Scene(NamedTuple):
    """What every attack on a target shares.

    ``observed`` holds the scans of the sessions that train, ``others`` those of the other sessions, None
    where all sessions train; ``draws`` are of the former. ``other_population`` is to ``others`` what the
    population of ``observed`` is to its table.
    """

    observed: Observed
    others: SignalTable | None
    other_population: SignalTable | None
    ready: tuple[Attack, ...]
    draws: tuple[Draw, ...]
    crew: Crew
    shadows: Shadows | None
    release: Release | None


def _on_training_scans(observed: Observed, workplace: Workplace) -> Observed:
    sessions = workplace.config.split.train_sessions
    if sessions is None:
        return observed
    return observed._replace(
        table=observed.table.select(training_scans(observed.table.covariates, sessions)),
        population=_of_sessions(observed.population, sessions, trained=True),
        canaries=_of_sessions(observed.canaries, sessions, trained=True),
    )


def _sessions(observed: Observed, workplace: Workplace) -> Mapping[str, int]:
    """Return how many participants have each session that trains, empty where all of them do."""
    if workplace.config.split.train_sessions is None:
        return {}
    return people_by_session(observed.table.covariates)


def _of_sessions(table: SignalTable | None, sessions: Sessions, *, trained: bool) -> SignalTable | None:
    """Return the scans of the sessions that train, or of the others; None where there are none."""
    if table is None:
        return None
    kept = training_scans(table.covariates, sessions) == trained
    return table.select(kept) if kept.any() else None


def _set_scene(observed: Observed, attacks: tuple[Attack, ...], workplace: Workplace) -> _Scene:
    sessions, everything = workplace.config.split.train_sessions, observed
    observed = _on_training_scans(observed, workplace)
    others = other_population = None
    if sessions is not None and not observed.plan.is_null:
        others = _of_sessions(everything.table, sessions, trained=False)
        other_population = _of_sessions(everything.population, sessions, trained=False)
    streams = attack_streams(workplace.config, observed.plan.number)
    coin = workplace.config.split.coin
    draws = adversary_draws(observed.table, workplace.config.attacks, streams, coin=coin)
    ready = tuple(with_tail(attack, observed.model) for attack in attacks)
    crew = Crew(streams, workplace.people, workplace.workers, workplace.progress)
    shadows = None
    if observed.references is None and any(map(needs_models, ready)):
        shadows = observe_shadows(observed.plan, ready, workplace)
    release = _release(observed.plan, workplace)
    return _Scene(observed, others, other_population, ready, draws, crew, shadows, release)


def _release(plan: TargetPlan, workplace: Workplace) -> Release | None:
    """Return how a target and its shadows answer black-box questions; None if with their predictions."""
    settings = workplace.config.defences.release
    if not settings.is_on:
        return None
    seed = Streams(workplace.config.seed).child(plan.name).seed("release")
    return Release.over(workplace.cohort, settings, seed)


def released_facts(table: SignalTable, release: Release | None) -> dict[str, str]:
    """Return what is done to answers, and the mean absolute errors (years) of what is answered."""
    if release is None:
        return {}
    error, members = np.abs(release.of(table).error()), table.is_member()
    return {
        "release": str(release.settings.model_dump(exclude_defaults=True)),
        "released_members_mae": f"{error[members].mean():.3f}",
        "released_non_members_mae": f"{error[~members].mean():.3f}",
    }


def answers_of(table: SignalTable, release: Release | None) -> FloatArray | None:
    """Return what is given out for each scan of ``table`` (years); None where that is the prediction."""
    return None if release is None else table.age + release.of(table).error()


def _views(scene: _Scene) -> Callable[[Attack, SignalTable], SignalTable]:
    """Return what an attack sees of a table: the course of training that it reads, through the release."""
    released, courses = seen_through(scene.release), scene.observed.courses
    return lambda attack, table: released(attack, along(courses, attack, table))


def seen_through(release: Release | None) -> Callable[[Attack, SignalTable], SignalTable]:
    """Return what an attack sees of a table: black-box ones see answers where there is a ``release``."""
    answered: dict[int, tuple[SignalTable, SignalTable]] = {}  # many attacks ask about few tables

    def seen(attack: Attack, table: SignalTable) -> SignalTable:
        if release is None or attack.threat_model is not ThreatModel.BLACK_BOX:
            return table
        if id(table) not in answered:
            answered[id(table)] = (table, release.of(table))
        return answered[id(table)][1]

    return seen


def attack_other_scans(scene: _Scene, workplace: Workplace) -> Mapping[str, Evaluated]:
    """Return the chosen attacks' scores when the adversary holds other scans of the same people.

    It knows the same people's membership as on the scans that trained; those without another scan are left
    out. Empty where all sessions train, or too few people have other scans.
    """
    if scene.others is None:
        return {}
    settings = workplace.config.attacks
    names = {settings.primary, *settings.other_scans}
    chosen = [attack for attack in scene.ready if attack.name in names]
    draws = _same_people(scene.draws, scene.observed.table, scene.others)
    try:
        seen = _views(scene)
        found = run_attacks(
            chosen,
            scene.others,
            draws,
            crew=scene.crew,
            models_for=_models_for(scene, workplace, trained=False),
            population=scene.other_population,
            seen_by=seen,
        )
    except (PrivoxelError, ValueError) as error:
        logger.warning("no attack on other scans of %s: %s", scene.observed.plan.name, error)
        return {}
    return {name: one.evaluated for name, one in found.items()}


def _attack_canaries(scene: _Scene, workplace: Workplace) -> Mapping[str, Evaluated]:
    """Return the primary attack's scores on canaries, to one who knows the membership of everybody else."""
    name, seen = workplace.config.attacks.primary, seen_through(scene.release)
    attack = next(one for one in scene.ready if one.name == name)
    canaries = usable_by(attack, scene.observed.canaries)
    if canaries is None:
        return {}

    def view(table: SignalTable | None) -> SignalTable | None:
        return None if table is None else seen(attack, table)

    models = _models_for(scene, workplace, trained=True)(attack)
    knowledge = Knowledge(view(scene.observed.table), view(models), view(scene.observed.population))
    return attack_canaries(attack, seen(attack, canaries), knowledge, scene.crew)


def _same_people(draws: Sequence[Draw], table: SignalTable, others: SignalTable) -> tuple[Draw, ...]:
    """Return ``draws`` over ``table`` as draws of the same people over ``others``."""

    def mask(scans: BoolArray) -> BoolArray:
        people = {table.scans[row].participant for row in np.flatnonzero(scans)}
        return np.array([scan.participant in people for scan in others.scans], dtype=np.bool_)

    return tuple(Draw(mask(draw.leaked), mask(draw.evaluated)) for draw in draws)


def _attack(scene: _Scene, workplace: Workplace) -> tuple[Mapping[str, Attacked], Mapping[str, Attacked]]:
    """Return attacks and controls; every model under one design meets the same adversary's draws."""
    observed, settings, table = scene.observed, workplace.config.attacks, scene.observed.table
    streams, draws, crew, ready = scene.crew.streams, scene.draws, scene.crew, scene.ready
    models_for = _models_for(scene, workplace, trained=True)
    seen = _views(scene)
    population = observed.population
    attacked = run_attacks(
        ready, table, draws, crew=crew, models_for=models_for, population=population, seen_by=seen
    )
    if scene.shadows is not None:
        attacked = _with_fidelity(attacked, scene.shadows, table)
    if observed.plan.is_null:
        return attacked, {}
    alone = crew._replace(workers=1, progress=Silent())
    (covariates,) = run_attacks([CONTROLS["covariates-only"]], table, draws, crew=alone).values()
    controls = {COVARIATES_ONLY: covariates, COVARIATES_BEST: best_of_covariates(table, draws, alone)}
    primary = next(attack for attack in ready if attack.name == settings.primary)
    alone = alone._replace(streams=streams.child("pseudo-members"))
    try:
        null, null_draws = null_members(table, settings, alone.streams)
        (controls[PSEUDO_MEMBERS],) = run_attacks(
            [primary],
            null,
            null_draws,
            crew=alone,
            models_for=models_for,
            population=population,
            seen_by=seen,
        ).values()
    except PrivoxelError as error:
        logger.warning("no pseudo-member control for %s: %s", observed.plan.name, error)
    return attacked, controls


def _models_for(
    scene: _Scene, workplace: Workplace, *, trained: bool
) -> Callable[[Attack], SignalTable | None]:
    """Return what gives an attack its reference models: shadows on those sessions, or what came along."""
    if scene.shadows is None:
        return lambda _: scene.observed.references
    return scene.shadows.on(workplace.config.split.train_sessions, trained=trained).models_for


def _with_fidelity(
    attacked: Mapping[str, Attacked], shadows: Shadows, table: SignalTable
) -> Mapping[str, Attacked]:
    """Return the attacks that used reference models with a note on how like the target these are."""
    notes = {name: shadows.notes_for(one.attack, table) for name, one in attacked.items()}
    for note in dict.fromkeys(note for said in notes.values() for note in said):
        logger.info(note)
    return {name: one._replace(notes=(*one.notes, *notes[name])) for name, one in attacked.items()}


def _utility(observed: Observed) -> Utility:
    table, members = observed.table, observed.table.is_member()
    error = np.abs(table.error())
    inside, outside = float(error[members].mean()), float(error[~members].mean())
    validation = observed.curve[-1].validation_mae if observed.curve else None
    return Utility(
        members=inside,
        non_members=outside,
        validation=validation,
        null=float(np.abs(table.age[~members] - observed.train_age).mean()),
        gap=outside - inside,
        stated=observed.plan.model.stated_mae,
    )


def _scores(
    observed: Observed,
    attacked: Mapping[str, Attacked],
    controls: Mapping[str, Attacked],
    workplace: Workplace,
) -> TargetScores:
    table = observed.table
    people = workplace.people
    return TargetScores(
        age=table.age,
        prediction=table.age + table.error(),
        gradient_norm=total_norm(table),
        members=table.is_member(),
        participants=np.array([people[scan.participant] for scan in table.scans]),
        evaluated={name: a.evaluated for name, a in attacked.items()},
        controls={name: a.evaluated for name, a in controls.items()},
    )
