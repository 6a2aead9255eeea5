"""What all targets of one model say of each participant: membership probabilities and errors, by code."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.cohort.base import Covariates
from privoxel.cohort.splits import age_of_participants
from privoxel.config import RunConfig
from privoxel.evaluation.posteriors import Posterior, participant_posterior
from privoxel.evaluation.risk import Stability, stability
from privoxel.recipes.judging import Judged
from privoxel.seeding import Streams


class People(NamedTuple):
    """Everyone in a cohort, by code: BIDS label, age in years, sex and site."""

    names: tuple[str, ...]
    age: FloatArray
    sex: tuple[str, ...]
    site: tuple[str, ...]


class ModelRisk(NamedTuple):
    """What all targets of one model say of everyone; arrays are by participants' codes, NaN where unknown.

    ``judged``, ``trained``: targets that a participant was judged in, and those trained on it. ``member``,
    ``non_member``: the posterior over the targets in which it was one. ``member_error``,
    ``non_member_error``: mean absolute errors in years. ``reason`` says why there is no posterior.
    """

    model: str
    judged: IntArray
    trained: IntArray
    member: Stability
    non_member: Stability
    member_error: FloatArray
    non_member_error: FloatArray
    posteriors: tuple[Posterior, ...]
    reason: str


def people_of(covariates: Covariates) -> People:
    """Return the participants of ``covariates`` in their order; sex and site are those of the first scan."""
    first = np.unique(covariates.participant_index, return_index=True)[1]
    return People(
        covariates.participants,
        age_of_participants(covariates),
        tuple(map(str, covariates.sex[first])),
        tuple(map(str, covariates.site[first])),
    )


def model_risk(targets: Sequence[Judged], people: People, config: RunConfig) -> ModelRisk:
    """Return what the targets of one model say of everyone."""
    size, model = len(people.names), targets[0].plan.model.name
    states = np.stack([_states(one, size) for one in targets])
    errors = np.stack([_errors(one, size) for one in targets])
    posteriors, reason = _posteriors(targets, config)
    stated = np.full((len(targets), size), np.nan)
    for row, one in zip(stated, posteriors, strict=False):
        row[one.participants] = one.probability
    inside, outside = states == 1, states == 0
    return ModelRisk(
        model,
        (states >= 0).sum(axis=0),
        inside.sum(axis=0),
        stability(np.where(inside, stated, np.nan)),
        stability(np.where(outside, stated, np.nan)),
        _mean_where(errors, inside),
        _mean_where(errors, outside),
        posteriors,
        reason,
    )


def _posteriors(targets: Sequence[Judged], config: RunConfig) -> tuple[tuple[Posterior, ...], str]:
    found = []
    for one in targets:
        rng = Streams(config.seed).generator(f"risk/{one.plan.name}")
        try:
            found.append(participant_posterior(one.scores.evaluated[config.attacks.primary], rng))
        except ValueError:
            return (), "too few members or non-members are evaluated to calibrate a probability"
    return tuple(found), ""


def _states(one: Judged, size: int) -> IntArray:
    """Return 1 for members of the target, 0 for non-members, -1 for everyone else."""
    states = np.full(size, -1, dtype=np.int64)
    states[one.scores.participants] = one.scores.members
    return states


def _errors(one: Judged, size: int) -> FloatArray:
    """Return each participant's mean absolute error over scans, in years."""
    people = one.scores.participants
    error = np.abs(one.scores.prediction - one.scores.age)
    scans = np.bincount(people, minlength=size)
    total = np.bincount(people, weights=error, minlength=size)
    return np.divide(total, scans, out=np.full(size, np.nan), where=scans > 0)


def _mean_where(values: FloatArray, rows: BoolArray) -> FloatArray:
    counts = rows.sum(axis=0)
    total = np.where(rows, values, 0.0).sum(axis=0)
    return np.divide(total, counts, out=np.full(values.shape[1], np.nan), where=counts > 0)
