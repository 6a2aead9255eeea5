"""Canaries: people with a false age, each trained on or not by a fair coin, on whom ε is bounded in one run.

A real scan with an age drawn at random can be learnt by heart only. Nobody's membership follows from that of
a canary or the other way round, so an attacker may be told everything of the others, and canaries take part
in no other number. The manifest records who they were and who was inserted, as keyed hashes.

References:
    Steinke, Nasr and Jagielski 2023 (canaries that independent coins include). The false ages are ours.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from privoxel.attacks.base import Attack, Course, Knowledge, course_of, fewest_references, reference_kind
from privoxel.cohort.base import Cohort, Covariates
from privoxel.cohort.splits import Design, age_of_participants, tossed
from privoxel.config import RunConfig
from privoxel.errors import ConfigError
from privoxel.evaluation.scored import Evaluated
from privoxel.recipes.attacking import Crew, checked_scores
from privoxel.seeding import Streams
from privoxel.signals.table import AUGMENTED, SignalTable


def draw_canaries(config: RunConfig, cohort: Cohort) -> tuple[str, ...]:
    """Return who becomes a canary, the same in every design; nobody unless that is asked for.

    Raises:
        ConfigError: if there are not that many participants.
    """
    if config.canaries is None:
        return ()
    people, count = cohort.covariates.participants, config.canaries.count
    if count >= len(people):
        raise ConfigError(
            f"[canaries] needs fewer than the {len(people)} participants, got count = {count}. Lower it."
        )
    drawn = Streams(config.seed).generator("canaries").permutation(len(people))[:count]
    return tuple(people[place] for place in np.sort(drawn))


def people_besides(people: Covariates, canaries: tuple[str, ...]) -> Covariates:
    """Return the scans of everybody else."""
    if not canaries:
        return people
    barred = set(canaries)
    return people.select(np.array([scan.participant not in barred for scan in people.scans], dtype=np.bool_))


def with_canaries(design: Design, canaries: tuple[str, ...], rng: np.random.Generator) -> Design:
    """Return ``design`` with canaries, of whom fair coins of their own say who trains."""
    if not canaries:
        return design
    inserted, _ = tossed(np.arange(len(canaries)), rng)
    return replace(design, canaries=canaries, inserted=tuple(canaries[place] for place in inserted))


def with_false_ages(cohort: Cohort, canaries: tuple[str, ...], seed: int) -> Cohort:
    """Return ``cohort`` with an age for each canary that is drawn from everybody's; all scans move alike."""
    if not canaries:
        return cohort
    people = cohort.covariates
    true = age_of_participants(people)
    false = true.copy()
    rows = np.isin(np.array(people.participants, dtype=object), np.array(canaries, dtype=object))
    false[rows] = Streams(seed).child("canaries").generator("ages").choice(true, int(rows.sum()))
    shifted = people.age + (false - true)[people.participant_index]
    return replace(cohort, covariates=replace(people, age=shifted))


def unfit_for_canaries(attack: Attack) -> str | None:
    """Return why ``attack`` cannot judge canaries, None if it can.

    They are observed with the last weights alone, as they are, and no reference model is trained on them.
    """
    reads, inside = course_of(attack), fewest_references(attack)[0]
    if reads is not Course.LAST:
        why = f"reads {reads}, with which canaries are not observed"
    elif any(signal.startswith(AUGMENTED) for signal in attack.requires):
        why = "reads copies of scans, of which canaries have none"
    elif inside:
        why = f"needs {reference_kind(attack)} trained on each person ({inside}), and none is on canaries"
    else:
        return None
    return (
        f"[canaries] needs another [attacks] primary than {attack.name}, which {why}. Choose one that "
        "needs none of that, or drop [canaries]."
    )


def attack_canaries(
    attack: Attack, canaries: SignalTable, knowledge: Knowledge, crew: Crew
) -> Mapping[str, Evaluated]:
    """Return the scores of ``attack`` on canaries by its name; nothing where all of them fell on one side."""
    inside = canaries.is_member()
    if inside.all() or not inside.any():
        return {}
    scored = checked_scores(attack, canaries, knowledge, crew.streams.child(f"{attack.name}/canaries"))
    codes = np.array([crew.people[scan.participant] for scan in canaries.scans])
    return {attack.name: Evaluated(scored.scores[None], np.array([scored.threshold]), inside, codes)}
