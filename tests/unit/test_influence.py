import numpy as np
import pytest

from privoxel.attacks.base import Knowledge
from privoxel.attacks.curvature import gauss_newton
from privoxel.attacks.folds import out_of_fold
from privoxel.attacks.influence import SELF_INFLUENCE, self_influence
from privoxel.errors import SignalError
from tests.tables import leak, make_table


def linear_layer(rng, scans, weights, sd=3.0):
    """Return gradients 2 r φ of a linear output, and r."""
    embeddings, errors = rng.normal(0.3, 1, (scans, weights)), rng.normal(0, sd, scans)
    return 2.0 * errors[:, None] * embeddings, errors, embeddings


def test_the_curvature_is_the_hessian_of_the_mean_squared_error_of_a_linear_output(rng):
    gradients, errors, embeddings = linear_layer(rng, 40, 5)
    seen = [k for k in range(40) if abs(errors[k]) >= 0.1]
    hessian = np.zeros((5, 5))
    for k in seen:
        for i in range(5):
            for j in range(5):
                hessian[i, j] += 2.0 * embeddings[k, i] * embeddings[k, j] / len(seen)
    np.testing.assert_allclose(gauss_newton(gradients, errors, damping=0.0), hessian, rtol=1e-9)
    damped = gauss_newton(gradients, errors, damping=0.5)
    np.testing.assert_allclose(damped - hessian, 0.5 * np.trace(hessian) / 5 * np.eye(5), atol=1e-9)


def test_self_influence_is_the_quadratic_form_scan_by_scan(rng):
    gradients, errors, _ = linear_layer(rng, 17, 4)
    curvature = gauss_newton(gradients, errors, damping=0.1)
    slow = [g @ np.linalg.inv(curvature) @ g for g in gradients]
    np.testing.assert_allclose(self_influence(gradients, curvature), slow, rtol=1e-9)


def test_leverage_of_leaked_scans_is_not_smaller_because_they_made_the_curvature(rng):
    gradients, errors, embeddings = linear_layer(rng, 160, 30)
    leaked, others = embeddings[:40], embeddings[40:]

    def leverage(fit, rows):
        curvature = gauss_newton(gradients[:40][fit], errors[:40][fit], damping=0.01)
        return self_influence(leaked[rows], curvature)

    everyone = np.arange(40)
    outside = np.median(self_influence(others, gauss_newton(gradients[:40], errors[:40], damping=0.01)))
    in_sample = np.median(leverage(everyone, everyone))
    crossed = np.median(out_of_fold(leverage, everyone % 5))
    assert in_sample < 0.6 * outside
    assert crossed > 0.8 * outside


def test_members_do_not_make_the_curvature():
    split = leak(make_table(gap=1.0), per_class=20)
    moved = split.leaked.select(np.flatnonzero(~split.leaked.is_member()))
    again = split.leaked.select(np.flatnonzero(split.leaked.is_member())[:10])
    rows = [s in (*moved.scans, *again.scans) for s in split.leaked.scans]
    fewer = split.leaked.select(np.array(rows))
    first, second = (
        SELF_INFLUENCE.score(split.target, Knowledge(leaked=table), np.random.default_rng(0)).scores
        for table in (split.leaked, fewer)
    )
    np.testing.assert_array_equal(first, second)


def test_a_population_makes_the_curvature_where_there_is_one():
    split = leak(make_table(gap=1.0), per_class=20)
    population = make_table(members=0, non_members=50, seed=8)
    given = Knowledge(leaked=split.leaked, population=population)
    first = SELF_INFLUENCE.score(split.target, given, np.random.default_rng(0)).scores
    second = SELF_INFLUENCE.score(
        split.target, Knowledge(leaked=split.leaked), np.random.default_rng(0)
    ).scores
    assert not np.allclose(first, second)


def test_non_members_that_the_model_predicts_exactly_are_refused():
    with pytest.raises(SignalError, match=r"needs non-members with .*got none among 3"):
        gauss_newton(np.ones((3, 2)), np.zeros(3), damping=0.1)
