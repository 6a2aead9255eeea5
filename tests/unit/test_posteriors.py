"""One calibrated probability a participant, from the scores of several attackers."""

import numpy as np
import pytest
from scipy.special import expit

from privoxel.evaluation.metrics import auc
from privoxel.evaluation.posteriors import (
    Posterior,
    at_prevalence,
    participant_posterior,
    posterior_reliability,
)
from privoxel.evaluation.risk import membership_posterior
from privoxel.evaluation.scored import Evaluated


def scored(people: int, shift: float, *, repeats: int = 3, scans: int = 1, seed: int = 0) -> Evaluated:
    """Scores of normal draws on a scale of its own in each repeat; a quarter is not evaluated in each."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(people), scans) * 2 + 10
    members = np.repeat(np.arange(people) < people // 2, scans)
    base = np.repeat(rng.normal(size=people), scans) + shift * members
    scores = np.stack([10.0**k * (base + 5 * k) for k in range(repeats)])
    for k in range(repeats if repeats > 1 else 0):
        scores[k, codes // 2 % 4 == k] = np.nan
    return Evaluated(scores, np.zeros(repeats), members, codes)


def test_scales_of_the_attackers_do_not_matter():
    evaluated = scored(2000, 1.5)
    found = participant_posterior(evaluated, np.random.default_rng(1))
    score = (evaluated.scores - 5 * np.arange(3)[:, None] * 10.0 ** np.arange(3)[:, None]) / (
        10.0 ** np.arange(3)[:, None]
    )
    truth = expit(1.5 * np.nanmean(score, axis=0) - 1.5**2 / 2)
    np.testing.assert_allclose(found.probability, truth, atol=0.08)
    np.testing.assert_array_equal(found.participants, evaluated.participants)


def test_one_repeat_of_one_scan_each_is_the_plain_posterior():
    evaluated = scored(200, 1.0, repeats=1)
    found = participant_posterior(evaluated, np.random.default_rng(4))
    plain = membership_posterior(evaluated.scores[0], evaluated.members, np.random.default_rng(4))
    np.testing.assert_allclose(found.probability, plain, atol=1e-9)


def test_scans_of_a_person_are_averaged_first():
    one, several = scored(60, 1.0, scans=1), scored(60, 1.0, scans=3)
    first, second = (participant_posterior(e, np.random.default_rng(2)) for e in (one, several))
    assert len(second.probability) == 60
    np.testing.assert_allclose(first.probability, second.probability)


def test_who_was_never_evaluated_has_no_probability():
    evaluated = scored(60, 1.0)
    scores = evaluated.scores.copy()
    scores[:, 7] = np.nan
    found = participant_posterior(
        Evaluated(scores, evaluated.thresholds, evaluated.members, evaluated.participants),
        np.random.default_rng(2),
    )
    assert np.flatnonzero(np.isnan(found.probability)).tolist() == [7]


def test_guessing_scores_give_probabilities_that_do_not_rank_members_first():
    """Were a participant's own membership in its own curve, members would come out above non-members."""
    areas = []
    for seed in range(60):
        evaluated = scored(40, 0.0, seed=seed)
        found = participant_posterior(evaluated, np.random.default_rng(seed))
        areas.append(
            auc(Evaluated(found.probability[None], np.zeros(1), found.members, found.participants)).value
        )
    assert np.mean(areas) <= 0.5 + 2 * np.std(areas) / np.sqrt(60)


def test_bins_of_the_reliability_diagram_are_never_smaller_than_allowed():
    rng = np.random.default_rng(0)
    members = rng.random(83) < 0.3
    posterior = Posterior(np.arange(83), members, rng.random(83))
    for smallest in (5, 12, 83):
        points = posterior_reliability((posterior,), smallest=smallest)
        assert min(point.size for point in points) >= smallest
        assert sum(point.size for point in points) == 83
    assert posterior_reliability((posterior,), smallest=84) == ()


def test_reliability_is_stated_at_each_targets_own_share_of_members():
    rng = np.random.default_rng(3)
    found = []
    for share in (0.2, 0.7):
        members = rng.random(20_000) < share
        score = rng.normal(size=20_000) + members
        found.append(Posterior(np.arange(20_000), members, expit(score - 0.5)))
    points = posterior_reliability(tuple(found), smallest=5, level=0.9999)
    assert all(point.low <= point.stated <= point.high for point in points)


def test_moving_the_prevalence_is_bayes_rule():
    odds = 0.8 / 0.2 * 0.03 / 0.97
    assert at_prevalence(np.array([0.8]), 0.03)[0] == pytest.approx(odds / (1 + odds))


def test_a_person_on_both_sides_is_refused():
    evaluated = Evaluated(
        np.arange(4.0)[None], np.zeros(1), np.array([True, False, True, False]), np.zeros(4, dtype=np.int64)
    )
    with pytest.raises(ValueError, match="one membership a participant"):
        participant_posterior(evaluated, np.random.default_rng(0))


def test_too_few_people_are_refused():
    with pytest.raises(ValueError, match="each class"):
        participant_posterior(scored(8, 1.0, repeats=1), np.random.default_rng(0))
