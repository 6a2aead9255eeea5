"""Per-participant risk: calibrated probabilities, stability and the summary that may be shown."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from privoxel.evaluation.risk import (
    _platt,
    k_anonymous_summary,
    membership_posterior,
    reliability,
    stability,
)


def sample(size: int, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    members = np.arange(size) < size // 2
    return rng.normal(size=size) + shift * members, members


def test_the_posterior_of_two_normals_approaches_bayes_rule():
    scores, members = sample(6000, 1.5)
    for prevalence in (0.5, 0.05):
        odds = 1.5 * scores - 1.5**2 / 2 + np.log(prevalence / (1 - prevalence))
        found = membership_posterior(scores, members, np.random.default_rng(1), prevalence=prevalence)
        np.testing.assert_allclose(found, expit(odds), atol=0.05)


def test_the_curve_is_the_minimum_of_the_smoothed_loss_found_without_gradients():
    scores, members = sample(61, 0.8)
    n, m = members.sum(), (~members).sum()
    targets = np.where(members, (n + 1) / (n + 2), 1 / (m + 2))

    def loss(w: np.ndarray) -> float:
        p = expit(w[0] + w[1] * scores)
        return float(-np.sum(targets * np.log(p) + (1 - targets) * np.log1p(-p)) + 5e-4 * w[1] ** 2)

    slow = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12}).x
    np.testing.assert_allclose(_platt(scores, members), slow, atol=1e-4)


def test_scores_without_meaning_give_the_prevalence():
    scores, members = sample(2000, 0.0)
    found = membership_posterior(scores, members, np.random.default_rng(1), prevalence=0.1)
    assert abs(found.mean() - 0.1) < 0.01
    constant = membership_posterior(np.zeros(40), np.arange(40) < 20, np.random.default_rng(1))
    np.testing.assert_allclose(constant, 0.5, atol=1e-6)


def test_perfect_separation_stays_finite():
    members = np.arange(40) < 20
    found = membership_posterior(members * 2.0, members, np.random.default_rng(1))
    assert found[members].min() > 0.9
    assert found[~members].max() < 0.1


def test_a_calibrated_posterior_lies_on_the_diagonal():
    scores, members = sample(5000, 1.0)
    posterior = membership_posterior(scores, members, np.random.default_rng(1))
    points = reliability(posterior, members, level=0.999)
    assert sum(point.size for point in points) == 5000
    assert all(point.low <= point.stated <= point.high for point in points)
    overconfident = reliability(expit(4 * scores - 2), members, level=0.999)
    assert not all(point.low <= point.stated <= point.high for point in overconfident)


def test_stability_counts_the_targets_a_participant_was_in():
    found = stability(np.array([[0.9, 0.2, np.nan], [0.7, np.nan, np.nan], [0.2, np.nan, np.nan]]))
    np.testing.assert_allclose(found.called, [2 / 3, 0.0, np.nan])
    np.testing.assert_allclose(found.mean, [0.6, 0.2, np.nan])
    np.testing.assert_allclose(found.sd, [np.std([0.9, 0.7, 0.2], ddof=1), np.nan, np.nan])


@pytest.mark.parametrize("size", [5, 6, 23, 90])
@pytest.mark.parametrize("k", [2, 5])
def test_no_group_of_the_summary_is_smaller_than_k_and_nobody_is_left_out(size, k):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        posterior, age = rng.random(size), rng.uniform(18, 90, size)
        found = k_anonymous_summary(
            posterior, age, rng.choice(["F", "M"], size), rng.choice(["a", "b"], size), k=k
        )
        assert min(group.size for group in found) >= k
        assert sum(group.size for group in found) == size
        total = sum(group.size * group.mean_posterior for group in found)
        assert total == pytest.approx(posterior.sum())


def test_large_groups_keep_their_labels():
    found = k_anonymous_summary(np.full(12, 0.3), np.full(12, 47.0), ["F"] * 12, ["x"] * 12)
    assert found[0][:4] == ("40-49", "F", "x", 12)


def test_what_cannot_be_stated_is_refused():
    with pytest.raises(ValueError, match="each class"):
        membership_posterior(np.zeros(6), np.arange(6) < 3, np.random.default_rng(0))
    with pytest.raises(ValueError, match="k-anonymous"):
        k_anonymous_summary(np.zeros(3), np.zeros(3), ["F"] * 3, ["x"] * 3)
