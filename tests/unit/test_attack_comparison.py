"""The benchmark of attacks: who is in which group, and how paired differences are formed."""

import sys
from pathlib import Path

import numpy as np
import pytest

from privoxel.attacks import PAPER_TABLE_1

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from comparison.settings import read_settings  # noqa: PLC0415

    yield read_settings(ROOT / "examples" / "benchmark_attacks.toml")
    for name in [name for name in sys.modules if name.split(".")[0] == "comparison"]:
        del sys.modules[name]


@pytest.fixture
def groups(settings):
    from comparison.people import Groups  # noqa: PLC0415

    return Groups(settings)


def test_every_target_leaves_a_thousand_non_members_to_be_judged(settings, groups):
    for number in range(settings.trainings.targets):
        draw = groups.target(number, 100)
        assert (~draw.members[draw.judged]).sum() >= 1000
        assert draw.members.sum() == settings.people.members


def test_the_same_people_are_judged_whatever_is_leaked_and_none_of_them_is(settings, groups):
    few, many = groups.target(3, 25), groups.target(3, 100)
    assert np.array_equal(few.judged, many.judged)
    assert set(few.leaked) < set(many.leaked)
    assert not set(many.leaked) & set(many.judged)
    assert few.members[few.leaked].sum() == 25


def test_references_train_on_nobody_who_is_judged_and_the_unseen_train_nothing(settings, groups):
    trained = np.concatenate([groups.reference(k) for k in range(settings.trainings.references)])
    assert not set(trained) & (set(groups.pool) | set(groups.unseen))
    assert len(groups.reference(0)) == settings.people.members


def test_no_shadow_has_exactly_the_members_of_a_target_or_all_others(settings, groups):
    inside = groups.shadows()
    for number in range(settings.trainings.targets):
        members = groups.target(number, 25).members
        assert not ((inside == members).all(axis=1) | (inside != members).all(axis=1)).any()


def test_every_participant_is_inside_and_outside_enough_shadows_for_a_variance(groups):
    counts = groups.shadows().sum(axis=0)
    assert counts.min() >= 2
    assert (len(groups.shadows()) - counts).min() >= 2


def test_targets_are_attacked_with_four_references_and_no_two_with_the_same_four(settings, groups):
    used = [frozenset(groups.references_of(k).tolist()) for k in range(settings.trainings.targets)]
    assert {len(each) for each in used} == {settings.trainings.references_a_target}
    assert len(set(used)) == len(used)


def _targets(shift, *, seed):
    from comparison.statistics import Attacked, evaluated  # noqa: PLC0415

    rng = np.random.default_rng(seed)
    people = np.arange(400)
    members = people % 4 == 0
    noise = rng.standard_normal((5, 400))
    return Attacked([evaluated(noise[k] + shift * members, members, people) for k in range(5)])


@pytest.mark.parametrize("metric", ["auc", "tpr_at_fpr_0.01"])
def test_a_difference_is_the_mean_of_the_targets_own_differences(settings, metric):
    from comparison.statistics import compare, mean_of  # noqa: PLC0415

    strong, weak = _targets(2.0, seed=1), _targets(0.5, seed=1)
    found = compare(strong, weak, metric, 0.01)
    assert found.value == pytest.approx(mean_of(strong.targets, metric) - mean_of(weak.targets, metric))
    assert found.low < found.value < found.high
    assert found.finding == "superior"
    half = compare(strong, weak, metric, times=0.5)
    assert half.value == pytest.approx(mean_of(strong.targets, metric) - 0.5 * mean_of(weak.targets, metric))


def test_an_attack_is_not_superior_to_itself(settings):
    from comparison.statistics import compare  # noqa: PLC0415

    same = _targets(1.0, seed=2)
    for metric, margin, finding in (("auc", 0.01, "non-inferior"), ("tpr_at_fpr_0.01", 0.0, "not shown")):
        found = compare(same, same, metric, margin)
        assert found.value == 0.0
        assert found.low <= 0.0 <= found.high
        assert found.finding == finding


def test_the_interval_covers_zero_between_two_equally_good_attacks(settings):
    from comparison.statistics import compare  # noqa: PLC0415

    found = compare(_targets(1.0, seed=3), _targets(1.0, seed=4), "tpr_at_fpr_0.01", 0.01)
    assert found.low < 0.0 < found.high


def _sharing(rng, *, keep):
    """Return eight targets attacked with the mean of four shared, noisy references, and an attack with none.

    Both have a mean AUC that depends on nothing but the references' luck; ``keep`` keeps the scores without
    each of them.
    """
    from comparison.statistics import Attacked, evaluated  # noqa: PLC0415

    people = np.arange(200)
    members = people % 2 == 0
    luck = rng.normal(0.0, 0.6, 4)  # how well each reference helps, the same for all targets
    noise = rng.standard_normal((8, 200))

    def one(target, used):
        return evaluated(noise[target] + (1.0 + luck[used].mean()) * members, members, people)

    everyone = np.arange(4)
    without = {f"references-{k}": {t: one(t, everyone[everyone != k]) for t in range(8)} for k in everyone}
    return Attacked([one(t, everyone) for t in range(8)], without if keep else {})


def test_the_interval_counts_the_luck_of_references_that_the_targets_share(settings):
    from comparison.statistics import Attacked, compare, evaluated  # noqa: PLC0415
    from scipy.stats import norm  # noqa: PLC0415

    rng = np.random.default_rng(8)
    people = np.arange(200)
    covered = {True: 0, False: 0}
    plain = [evaluated(np.zeros(200), people % 2 == 0, people) for _ in range(8)]
    shift = rng.normal(0.0, 0.3, 20_000)  # of the mean of four references
    truth = norm.cdf((1.0 + shift) / np.sqrt(2.0)).mean() - 0.5
    for _ in range(40):
        for keep in covered:
            found = compare(_sharing(rng, keep=keep), Attacked(plain), "auc")
            covered[keep] += found.low <= truth <= found.high
    assert covered[False] < 28  # what ignoring them costs
    assert covered[True] >= 33


def test_the_stack_is_claimed_over_each_of_the_papers_encoders_and_over_the_best(settings):
    from comparison.tables import AUC, ENCODERS, expanded  # noqa: PLC0415

    assert expanded(["@encoders"], []) == [name for name in PAPER_TABLE_1 if name != "error-forest"]
    assert set(ENCODERS) <= set(settings.attacks.shadow_free)
    claimed = {claim.over for claim in settings.claims if claim.first == "stacked" and claim.metric == AUC}
    assert claimed == {("@encoders",), *((name,) for name in ENCODERS)}
