from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ncx2
from sklearn.metrics import roc_auc_score

from privoxel.attacks.base import Knowledge
from privoxel.attacks.glir import (
    Background,
    GradientLikelihoodRatio,
    fit_background,
    folded,
    log_noncentral_chi_square_cdf,
    step_log_p,
)
from privoxel.errors import SignalError
from privoxel.signals.table import LazyArray, SignalTable
from tests.tables import leak, make_table

GLIR = GradientLikelihoodRatio()


def test_the_log_probability_is_that_of_the_exact_distribution_scan_by_scan(rng):
    """The formula with explicit inverses, and scipy's distribution in the place of the approximation."""
    dimensions, scans = 24, 40
    root = rng.normal(0, 1, (dimensions, dimensions))
    covariance, mean = root @ root.T + np.eye(dimensions), rng.normal(0, 1, dimensions)
    lengths, axes = np.linalg.eigh(covariance)
    gradients = rng.multivariate_normal(mean, covariance, 11)
    step = rng.multivariate_normal(mean, covariance / scans)
    found = step_log_p(gradients, step, Background(mean, axes / np.sqrt(lengths)), scans)
    inverse = np.linalg.inv(covariance)
    for g, log_p in zip(gradients, found, strict=True):
        k = (scans - 1) * (step - g) @ inverse @ (step - g)
        exact = ncx2.logcdf(k, dimensions, scans * (g - mean) @ inverse @ (g - mean))
        assert log_p == pytest.approx(exact, rel=0.02, abs=0.02)


@pytest.mark.parametrize("freedom", [16, 61])
def test_the_approximation_follows_the_exact_distribution_into_its_tail(freedom):
    noncentrality = np.array([0.5, 9.0, 400.0])
    for quantile in (1e-4, 0.02, 0.5, 0.97):
        values = ncx2.ppf(quantile, freedom, noncentrality)
        found = log_noncentral_chi_square_cdf(values, freedom, noncentrality)
        np.testing.assert_allclose(found, np.log(quantile), rtol=0.06, atol=0.02)


def test_the_probability_is_uniform_for_scans_that_the_step_did_not_see(rng):
    """The promise of the null, for many scans (n − 1 against n): p below α in a share of α."""
    dimensions, scans = 5, 2000
    gradients = rng.normal(0, 1, (4000, dimensions))
    background = Background(np.zeros(dimensions), np.eye(dimensions))
    steps = rng.normal(0, 1, (4000, dimensions)) / np.sqrt(scans)
    log_p = np.array(
        [step_log_p(g[None], m, background, scans)[0] for g, m in zip(gradients, steps, strict=True)]
    )
    for level in (0.05, 0.5, 0.9):
        assert np.mean(log_p < np.log(level)) == pytest.approx(level, abs=0.03)


def test_members_of_a_step_are_told_from_others(rng):
    scans, steps = 24, 12
    gradients = rng.normal(0, 1, (steps, 2 * scans, 16))
    members = np.arange(2 * scans) < scans
    background = Background(np.zeros(16), np.eye(16))
    score = sum(-step_log_p(g, g[members].mean(axis=0), background, scans) for g in gradients)
    assert roc_auc_score(members, score) > 0.9


def test_the_background_is_whitened(rng):
    root = rng.normal(0, 1, (4, 4))
    background = fit_background(rng.normal(0, 1, (20000, 4)) @ root + 3.0)
    white = (rng.normal(0, 1, (20000, 4)) @ root) @ background.whiten
    np.testing.assert_allclose(np.cov(white.T), np.eye(4), atol=0.06)


def test_fewer_scans_than_dimensions_make_a_usable_background(rng):
    background = fit_background(rng.normal(0, 1, (5, 16)))
    assert np.isfinite(background.whiten).all()


def test_folding_keeps_every_number_once(rng):
    values = rng.normal(0, 1, (3, 11))
    slow = [[sum(row[k::4]) for k in range(4)] for row in values]
    np.testing.assert_allclose(folded(values, 4), slow)


def table_of(people, gradients, means):
    scans = gradients.shape[1]
    values = {
        "projection:512": LazyArray(gradients[None].astype(np.float32)),
        "step:512": LazyArray(np.repeat(means[:, None], scans, axis=1)[None].astype(np.float32)),
    }
    names = tuple(f"step-{k}" for k in range(len(means)))
    return SignalTable(people.covariates, ("model",), names, people.membership, values)


def test_members_of_recorded_steps_are_found_from_leaked_scans(rng):
    people = make_table(members=60, non_members=61, seed=4)
    members = people.is_member()
    gradients = rng.normal(0, 2, (10, 121, 512)) + 0.3
    table = table_of(people, gradients, gradients[:, members].mean(axis=1))
    split = leak(table, per_class=25)
    attack = replace(GLIR, scans=60)
    found = attack.score(split.target.blinded(), Knowledge(leaked=split.leaked), rng)
    assert roc_auc_score(split.target.is_member(), found.scores) > 0.75
    assert found.notes == ("glir steps=10 scans=60",)
    shuffled = table_of(people, gradients, rng.permuted(gradients[:, members].mean(axis=1), axis=1))
    split = leak(shuffled, per_class=25)
    found = attack.score(split.target.blinded(), Knowledge(leaked=split.leaked), rng)
    assert abs(roc_auc_score(split.target.is_member(), found.scores) - 0.5) < 0.2


def test_tables_of_different_steps_are_refused(rng):
    people = make_table(members=6, non_members=7)
    gradients = rng.normal(0, 1, (3, 13, 512))
    three, two = (table_of(people, gradients[:k], gradients[:k].mean(axis=1)) for k in (3, 2))
    with pytest.raises(SignalError, match=r"needs the same steps .*got 3 and 2"):
        GLIR.score(two, Knowledge(leaked=three), rng)
