"""The interval of the least vulnerable of many settings holds although setting and attack were chosen."""

import numpy as np
import pytest
from scipy.stats import binom

from privoxel.evaluation.best_accuracy import accuracy_contributions, most_accurate
from privoxel.evaluation.multipliers import largest_deviation, standard_errors
from privoxel.evaluation.scored import Evaluated
from tests.scores import one_repeat

pytestmark = pytest.mark.slow

REPETITIONS, SETTINGS, ATTACKS, EACH = 400, 12, 3, 60
LIKENESSES = [0.0, 0.5, 0.95]


def settings_by_chance(likeness: float, rng: np.random.Generator) -> list[list[dict[str, Evaluated]]]:
    """Return settings that leak nothing; ``likeness`` of a score's variance is the person's, common."""
    person, own = rng.normal(size=2 * EACH), rng.normal(size=(SETTINGS, ATTACKS, 2 * EACH))
    every = np.sqrt(likeness) * person + np.sqrt(1.0 - likeness) * own
    return [[{str(k): one_repeat(s[:EACH], s[EACH:]) for k, s in enumerate(row)}] for row in every]


def least_vulnerable(settings: list[list[dict[str, Evaluated]]]) -> int:
    reached = [max(_accuracy(one) for one in setting[0].values()) for setting in settings]
    return int(np.argmin(reached))


def _accuracy(one: Evaluated) -> float:
    called = one.scores[0] > 0.0
    return float(called[one.members].mean() + (~called)[~one.members].mean()) / 2.0


@pytest.mark.parametrize("likeness", LIKENESSES)
def test_one_half_lies_in_the_interval_of_the_chosen_setting_as_often_as_said(likeness):
    rng, missed = np.random.default_rng(51), 0
    for _ in range(REPETITIONS):
        settings = settings_by_chance(likeness, rng)
        chosen = settings.pop(least_vulnerable(settings))
        found = most_accurate(chosen, rng, others=settings).accuracy
        missed += not found.low <= 0.5 <= found.high
    assert missed <= binom.isf(1e-3, REPETITIONS, 0.05)


@pytest.mark.parametrize("likeness", LIKENESSES)
def test_all_attacks_of_all_settings_lie_within_the_largest_deviation_as_often_as_said(likeness):
    rng, missed = np.random.default_rng(53), 0
    for _ in range(REPETITIONS):
        scored = [one for setting in settings_by_chance(likeness, rng) for one in setting[0].values()]
        deviations = np.stack([accuracy_contributions(one) for one in scored])
        reached = np.abs([_accuracy(one) - 0.5 for one in scored]) / standard_errors(deviations)
        missed += reached.max() > largest_deviation(deviations, EACH - 1, rng, 0.95)
    assert binom.isf(0.999, REPETITIONS, 0.02) <= missed <= binom.isf(1e-3, REPETITIONS, 0.05)


def test_the_more_alike_settings_are_the_less_their_number_costs():
    rng = np.random.default_rng(54)
    widths = []
    for likeness in (0.0, 0.95, 1.0):
        settings = settings_by_chance(likeness, rng)
        alone, among = (
            most_accurate(settings[0], rng, others=others).accuracy for others in ([], settings[1:])
        )
        widths.append((among.high - among.low) / (alone.high - alone.low))
    assert widths[0] > widths[1] > widths[2]
    assert widths[2] == pytest.approx(1.0, abs=0.1)  # 999 draws give each quantile an SD of 3 %
