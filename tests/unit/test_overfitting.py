"""The overfitting line against the paper's own points, SciPy's regression and data with a known line."""

import numpy as np
import pytest
from scipy import stats

from privoxel.evaluation.overfitting import PUBLISHED, Resampled, fisher_interval, fit_line

# Gap (years) and attack accuracy (%) of the 26 private models of Gupta et al. 2021, figures 3, 7 and 8.
SLICE_MEAN = [
    (1.88, 80.4), (1.79, 77.9), (1.42, 78.6), (1.63, 77.6), (1.53, 75.7), (0.79, 63.8), (0.42, 56.3),
    (0.17, 52.6), (0.05, 51.3), (0.03, 51.1), (-0.01, 53.2), (0.06, 52.1), (0.06, 51.9), (0.05, 50.8),
    (0.06, 49.9),
]  # fmt: skip
CNN3D = [
    (1.63, 71.1), (1.46, 68.7), (1.28, 66.8), (0.72, 60.3), (0.14, 52.6), (0.05, 51.6), (0.00, 50.4),
    (-0.01, 51.6), (-0.09, 50.3), (0.06, 51.5), (0.07, 53.5),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "points"), [("all", SLICE_MEAN + CNN3D), ("slice-mean", SLICE_MEAN), ("cnn3d", CNN3D)]
)
def test_the_published_points_give_the_published_line(name: str, points: list[tuple[float, float]]) -> None:
    gaps, accuracies = np.array(points).T
    line, published = fit_line(gaps, accuracies / 100), PUBLISHED[name]
    assert line.intercept.value == pytest.approx(published.intercept, abs=0.0011)
    assert line.slope.value == pytest.approx(published.slope, abs=0.0011)
    assert line.r.value == pytest.approx(published.r, abs=0.0015)
    assert line.models == published.models


def test_line_and_intervals_are_those_of_ordinary_least_squares() -> None:
    rng = np.random.default_rng(3)
    gaps = rng.uniform(0, 4, 23)
    accuracies = 0.5 + 0.1 * gaps + rng.normal(0, 0.02, 23)
    line, slow = fit_line(gaps, accuracies, level=0.9), stats.linregress(gaps, accuracies)
    reach = stats.t.ppf(0.95, 21)
    expected = [
        (line.slope, slow.slope, slow.stderr * reach),
        (line.intercept, slow.intercept, slow.intercept_stderr * reach),
    ]
    for estimate, value, arm in expected:
        assert estimate.value == pytest.approx(value)
        assert (estimate.low, estimate.high) == pytest.approx((value - arm, value + arm))
    ends = stats.pearsonr(gaps, accuracies).confidence_interval(0.9)
    assert (line.r.low, line.r.high) == pytest.approx((ends.low, ends.high))


def test_the_band_at_no_gap_is_the_interval_of_the_intercept() -> None:
    line = fit_line([0.2, 1.0, 2.5, 3.0, 3.1], [0.52, 0.61, 0.8, 0.83, 0.9])
    assert line.at(0.0)[:3] == pytest.approx(line.intercept[:3])


def test_participants_whom_all_models_share_widen_the_interval_of_the_intercept() -> None:
    rng = np.random.default_rng(5)
    gaps = np.linspace(0, 3, 20)
    accuracies = 0.5 + 0.15 * gaps  # no residuals at all
    shared = rng.normal(0, 0.03, (4000, 1))
    line = fit_line(gaps, accuracies, resampled=Resampled(np.tile(gaps, (4000, 1)), accuracies + shared))
    assert line.intercept.low == pytest.approx(0.5 - 1.96 * 0.03, abs=0.004)
    assert line.intercept.high == pytest.approx(0.5 + 1.96 * 0.03, abs=0.004)
    assert (line.slope.low, line.slope.high) == pytest.approx((0.15, 0.15))


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_intervals_hold_where_models_and_shared_participants_are_both_uncertain(ratio: float) -> None:
    """``ratio``: the SD that shared participants give intercept and slope over the one that models give."""
    rng, hits = np.random.default_rng(17), np.zeros(3)
    gaps = np.random.default_rng(7).exponential(1.0, 20)
    apart, sd = gaps - gaps.mean(), 0.03
    errors = (
        ratio
        * sd
        * np.array([np.sqrt(1 / 20 + gaps.mean() ** 2 / (apart**2).sum()), 1 / np.sqrt((apart**2).sum())])
    )
    pure = 0.1 * gaps.std() / np.hypot(0.1 * gaps.std(), sd)

    def by_participants(draws: int) -> np.ndarray:
        shifts, tilts = errors[:, None, None] * rng.normal(size=(2, draws, 1))
        return shifts + tilts * gaps

    for _ in range(300):
        seen = 0.5 + 0.1 * gaps + sd * rng.normal(size=20) + by_participants(1)[0]
        resampled = Resampled(np.tile(gaps, (300, 1)), seen + by_participants(300))
        line = fit_line(gaps, seen, resampled=resampled)
        for k, (estimate, truth) in enumerate([(line.intercept, 0.5), (line.slope, 0.1), (line.r, pure)]):
            hits[k] += estimate.low <= truth <= estimate.high
    assert np.all(hits / 300 > 0.92)
    assert np.all(hits[:2] / 300 < 0.99)  # not by being much too wide


def test_reaches_over_models_and_participants_add_in_quadrature() -> None:
    rng = np.random.default_rng(3)
    gaps, tilts = rng.uniform(0, 4, 23), rng.normal(0, 0.01, (4001, 1))
    accuracies = 0.5 + 0.1 * gaps + rng.normal(0, 0.02, 23)
    alone = fit_line(gaps, accuracies)
    both = fit_line(
        gaps, accuracies, resampled=Resampled(np.tile(gaps, (4001, 1)), accuracies + tilts * gaps)
    )
    low, middle, high = np.quantile(tilts, [0.025, 0.5, 0.975])
    own = alone.slope.high - alone.slope.value
    assert both.slope.high - both.slope.value == pytest.approx(np.hypot(own, high - middle))
    assert both.slope.value - both.slope.low == pytest.approx(np.hypot(own, middle - low))
    assert both.r.low < alone.r.low < alone.r.high < both.r.high < 1.0
    assert both.at(0.0)[:3] == pytest.approx(both.intercept[:3])
    assert both.at(3.0).high - both.at(3.0).low > alone.at(3.0).high - alone.at(3.0).low


def test_intervals_hold_the_true_line_as_often_as_they_say() -> None:
    rng, hits = np.random.default_rng(7), np.zeros(3)
    gaps = rng.exponential(1.0, 20)
    noise = 0.1 * np.sqrt(gaps.var())
    for _ in range(400):
        line = fit_line(gaps, 0.5 + 0.1 * gaps + rng.normal(0, noise, 20))
        for k, (estimate, truth) in enumerate([(line.intercept, 0.5), (line.slope, 0.1)]):
            hits[k] += estimate.low <= truth <= estimate.high
        pairs = rng.multivariate_normal([1, 0.6], [[1, 0.9], [0.9, 1]], 20)
        r = fit_line(*pairs.T).r
        hits[2] += r.low <= 0.9 <= r.high
    assert np.all(hits / 400 > 0.92)


def test_equal_accuracies_have_no_correlation_and_say_so() -> None:
    r = fit_line([0.0, 1.0, 2.0], [0.5, 0.5, 0.5]).r
    assert r.value is None
    assert r.reason == "all models have the same accuracy"


def test_three_models_say_nothing_of_their_correlation() -> None:
    assert fisher_interval(0.9, 3) == (-1.0, 1.0)


def test_a_line_needs_three_models_of_different_gaps() -> None:
    with pytest.raises(ValueError, match="at least 3 models, got 2 and 2"):
        fit_line([0.0, 1.0], [0.5, 0.6])
    with pytest.raises(ValueError, match="different gaps, got the same"):
        fit_line([1.0, 1.0, 1.0], [0.5, 0.6, 0.7])
