import numpy as np
import pytest

from privoxel.attacks import ON_TRAINING
from privoxel.attacks.base import Knowledge
from privoxel.signals.table import LazyArray, SignalTable
from tests.tables import leak, make_table

ALIGNMENT = ON_TRAINING["movement-alignment"]


def course(rng, scans=9, snapshots=4, weights=13):
    """Return a table made from explicit gradients and movements, and both."""
    base = make_table(members=5, non_members=4)
    gradients = rng.normal(0, 1, (snapshots, scans, weights))
    moves = rng.normal(0, 1, (snapshots, weights))
    unit = moves / np.linalg.norm(moves, axis=1, keepdims=True)
    products = np.einsum("ksp,kp->ks", gradients, unit)
    halves = np.stack(
        [np.linalg.norm(gradients[..., :6], axis=2), np.linalg.norm(gradients[..., 6:], axis=2)], axis=-1
    )
    values = {
        "product:movement": LazyArray(products[None].astype(np.float32)),
        "gradient-norms": LazyArray(halves[None].astype(np.float32)),
    }
    names = tuple(f"epoch-{k}" for k in range(snapshots))
    return SignalTable(base.covariates, ("model",), names, base.membership, values), gradients, moves


def test_the_score_is_the_mean_cosine_between_gradient_and_minus_the_movement(rng):
    table, gradients, moves = course(rng)
    found = ALIGNMENT.score(table.blinded(), Knowledge(leaked=table), rng).scores
    for scan in range(9):
        cosines = []
        for g, move in zip(gradients[:, scan], moves, strict=True):
            cosines.append(g @ -move / ((g @ g) * (move @ move)) ** 0.5)
        assert found[scan] == pytest.approx(np.mean(cosines), rel=1e-5)


def test_one_step_down_the_members_gradients_points_along_them(rng):
    """Δ = −η Σ g over the members: each of them pulled, nobody else did."""
    people = make_table(members=12, non_members=13)
    members = people.is_member()
    gradients = rng.normal(0, 1, (25, 400))
    move = -0.1 * gradients[members].sum(axis=0)
    values = {
        "product:movement": LazyArray(
            (gradients @ move / np.linalg.norm(move))[None, None].astype(np.float32)
        ),
        "gradient-norms": LazyArray(
            np.linalg.norm(gradients, axis=1)[None, None, :, None].astype(np.float32)
        ),
    }
    table = SignalTable(people.covariates, ("model",), ("start",), people.membership, values)
    found = ALIGNMENT.score(table.blinded(), Knowledge(leaked=table), rng)
    assert found.scores[members].min() > found.scores[~members].max()
    np.testing.assert_array_equal(found.scores > found.threshold, members)


def test_the_notes_say_how_many_intervals_were_read():
    split = leak(make_table(gap=2.0), per_class=20)
    found = ALIGNMENT.score(split.target, Knowledge(leaked=split.leaked), np.random.default_rng(0))
    assert found.notes == ("3 intervals between snapshots",)
