"""Numerical defects found in other tools, and that none of our attacks has them."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from privoxel.attacks import ON_COPIES, ON_TRAINING, WITH_STATED_SD, list_attacks
from privoxel.attacks.base import Knowledge
from privoxel.attacks.influence import SELF_INFLUENCE
from privoxel.attacks.population import POPULATION, Sizes, share_of_larger
from privoxel.attacks.quantile import QUANTILE, QUANTILE_ACTIVATION, QUANTILE_GAUSSIAN
from privoxel.attacks.stacked import STACKED
from privoxel.attacks.svm import PREDICTION_LABEL_SVM
from privoxel.attacks.threshold import ABS_ERROR
from privoxel.attacks.thresholds import best_threshold
from privoxel.attacks.tube import TUBE
from privoxel.cohort.splits import MEMBER, NON_MEMBER, draw_design, membership_of, training_rows
from privoxel.config import ModelConfig, RunConfig, parse_config
from privoxel.errors import CohortError, SignalError
from privoxel.evaluation.archive import TargetScores
from privoxel.evaluation.draws import pseudo_members
from privoxel.evaluation.epsilon import Canaries, HeldOutThreshold, canaries_of
from privoxel.evaluation.frontier import Choice
from privoxel.evaluation.scored import Evaluated
from privoxel.evaluation.selection import best_of_many
from privoxel.recipes.defending.bounding import bound_privacy
from privoxel.recipes.defending.reading import Finished
from privoxel.recipes.defending.settings import Point
from privoxel.recipes.target import TargetPlan
from privoxel.seeding import Streams
from privoxel.signals.table import PREDICTION, LazyArray, SignalTable
from tests.conftest import make_cohort
from tests.fabricated import Fabrication, fabricated_run
from tests.scores import one_repeat
from tests.tables import Widths, leak, make_references, make_table, with_errors, with_signal

FITTED = (TUBE, PREDICTION_LABEL_SVM, POPULATION, QUANTILE, QUANTILE_GAUSSIAN, SELF_INFLUENCE, STACKED)
EVERYONE = (*list_attacks(), *ON_COPIES.values(), *ON_TRAINING.values(), *WITH_STATED_SD.values())
NO_AGE_OF_THE_TARGET = ("self-influence", "stability", "stability-rotation", "stability-noise")
"""Attacks that read predictions, but no error of the scans that they score."""


def scored(attack, split, seed=0):
    return attack.score(split.target.blinded(), Knowledge(leaked=split.leaked), np.random.default_rng(seed))


def balanced_accuracy(result, truth):
    called = result.scores > result.threshold
    return (called[truth].mean() + (~called[~truth]).mean()) / 2


def test_a_small_loss_means_member_so_no_score_is_upside_down():
    """A loss attack that returns the wrong sign has an AUC of one minus the right one."""
    split = leak(make_table(members=150, non_members=151, gap=5.0, seed=2), per_class=50)
    for attack in (ABS_ERROR, *FITTED):
        assert roc_auc_score(split.target.is_member(), scored(attack, split).scores) > 0.6, attack.name


@pytest.mark.parametrize("name", ["prediction", "stated-sd"])
def test_a_column_of_predictions_is_refused_before_it_meets_a_row_of_ages(name):
    """(N, 1) against (N,) silently gives N × N losses."""
    table = make_table(members=5, non_members=8)
    column = LazyArray(table.values[name].source[..., None])
    with pytest.raises(SignalError, match=rf"{name} needs one number a scan, of shape \(1, 3, 13\), got"):
        replace(table, values={**table.values, name: column})


def test_a_column_of_ages_is_refused():
    """(N,) against (N, 1): ART broadcasts the other way round, too."""
    people = make_table(members=5, non_members=8).covariates
    with pytest.raises(CohortError, match=r"one age for each of 13 scans, got shape \(13, 1\)"):
        replace(people, age=people.age[:, None])


def test_the_error_of_each_scan_is_its_own():
    table = make_table(members=5, non_members=8)
    slow = [float(p) - float(a) for p, a in zip(table.read("prediction"), table.age, strict=True)]
    assert table.error().shape == (13,)
    np.testing.assert_allclose(table.error(), slow)


@pytest.mark.parametrize("attack", [ABS_ERROR, *FITTED], ids=lambda a: a.name)
def test_no_scan_is_scored_by_the_loss_of_the_last_one(attack):
    """A loss that a loop overwrites is that of the last sample for everyone."""
    split = leak(make_table(gap=2.0), per_class=20)
    signal = "gradient:output" if attack is SELF_INFLUENCE else "prediction"
    changed = split.target.read(signal)
    changed[-1] = 0.0 if attack is SELF_INFLUENCE else split.target.age[-1]
    before = scored(attack, split).scores
    after = scored(attack, split._replace(target=with_signal(split.target, signal, changed))).scores
    assert before[-1] != after[-1]
    np.testing.assert_allclose(after[:-1], before[:-1], rtol=1e-4, atol=1e-5)
    assert len(np.unique(before)) > 5


def test_prediction_and_age_are_not_swapped():
    """The signed error is prediction minus age, as the gradient of the squared error is."""
    table = make_table(members=5, non_members=8)
    np.testing.assert_allclose(with_errors(table, np.full(13, 2.5)).error(), 2.5, atol=1e-5)


@pytest.mark.parametrize("attack", [QUANTILE, QUANTILE_GAUSSIAN, QUANTILE_ACTIVATION], ids=lambda a: a.name)
def test_no_scan_is_judged_by_a_quantile_model_that_was_trained_on_it(attack):
    """In sample, non-members lie near their own quantile and look better calibrated than anyone else."""
    split = leak(make_table(members=60, non_members=400, seed=3), per_class=50)
    own = split.leaked.select(~split.leaked.is_member())
    result = scored(attack, split._replace(target=own))
    fresh = scored(attack, split)
    # Scoring the training scans themselves is in sample; the threshold must not come from such scores.
    in_sample = best_threshold(
        attack.score(split.leaked.blinded(), Knowledge(leaked=split.leaked), np.random.default_rng(0)).scores,
        split.leaked.is_member(),
    )
    assert result.threshold == fresh.threshold
    assert fresh.threshold != in_sample


@pytest.mark.parametrize("attack", FITTED, ids=lambda a: a.name)
def test_a_threshold_is_not_tuned_on_the_scans_it_is_judged_on(attack):
    """With the membership of the target hidden or wrong, threshold and scores stay the same."""
    split = leak(make_table(gap=1.0), per_class=20)
    hidden = scored(attack, split)
    wrong = split.target.with_membership(~split.target.is_member())
    shown = attack.score(wrong, Knowledge(leaked=split.leaked), np.random.default_rng(0))
    assert shown.threshold == hidden.threshold
    np.testing.assert_array_equal(shown.scores, hidden.scores)


@pytest.mark.parametrize("attack", FITTED, ids=lambda a: a.name)
def test_no_threshold_calls_everyone_the_same_where_the_scores_tell_them_apart(attack):
    """A tool that guesses which way its scores point calls everyone the same: accuracy 0.5 at AUC 0.77."""
    split = leak(make_table(members=200, non_members=201, gap=6.0, seed=5), per_class=80)
    assert balanced_accuracy(scored(attack, split), split.target.is_member()) > 0.6


STEPS = 1024


class World(NamedTuple):
    """What an attack is given: the scans to score, and everything that it knows."""

    target: SignalTable
    knowledge: Knowledge


def aged(table: SignalTable, age: np.ndarray) -> SignalTable:
    """Return ``table`` at other ages: every prediction, also on copies, moves along, so that errors stay.

    Errors are whole numbers of ``STEPS`` a year: at ages of eighths nothing is rounded, nowhere.
    """
    moved = {}
    for name, array in table.values.items():
        if name == "prediction" or name.startswith("augmented:"):
            shape = (1, 1, -1, *[1] * (len(array.shape) - 3))
            errors = np.round((array.source - table.age.reshape(shape)) * STEPS) / STEPS
            moved[name] = LazyArray((errors + age.reshape(shape)).astype(np.float32))
    return replace(table, covariates=replace(table.covariates, age=age), values={**table.values, **moved})


def world(age_of: Callable[[np.ndarray], np.ndarray]) -> World:
    """Return the same small world, everyone at the age that ``age_of`` makes of theirs."""
    table = make_table(gap=2.0, seed=1)
    references = make_references(table, gap=2.0)
    table, references = (aged(one, age_of(one.age)) for one in (table, references))
    split = leak(table, per_class=20)
    return World(split.target.blinded(), Knowledge(leaked=split.leaked, models=references))


def an_eighth(age: np.ndarray) -> np.ndarray:
    """Return the age at which everyone is an eighth of a year past a birthday."""
    return np.floor(age) + 0.125


@pytest.fixture(scope="module", params=EVERYONE, ids=lambda attack: attack.name)
def attack(request):
    return request.param


@pytest.fixture(scope="module")
def baseline(attack):
    return scores_in(attack, world(an_eighth))


def scores_in(attack, made: World) -> np.ndarray:
    return attack.score(*made, np.random.default_rng(5)).scores


def test_a_common_offset_of_age_and_prediction_hides_no_leak(attack, baseline):
    """All errors are the same 20 years later, to the last bit, and so is the order of the scores."""
    later = scores_in(attack, world(lambda age: an_eighth(age) + 20.0))
    assert spearmanr(baseline, later).statistic > 0.999


def test_labels_that_are_all_zero_hide_no_leak(attack, baseline):
    """A regressor of residuals has labels of zero: relative errors divide by it, spreads of age are none.

    Attacks that learn from age itself, not from errors, have nothing to learn there and need only be finite.
    """
    zero = scores_in(attack, world(np.zeros_like))
    assert np.isfinite(zero).all()
    if "prediction-label" not in attack.name:
        assert spearmanr(baseline, zero).statistic > 0.7


def test_ages_are_kept_as_fractions_of_years(attack, baseline):
    """Cast to whole years, an age three tenths of a year later is the same age."""
    made = world(an_eighth)
    people = made.target.covariates
    later, much_later = (
        made._replace(target=replace(made.target, covariates=replace(people, age=people.age + years)))
        for years in (0.3, 7.0)
    )
    reads_ages = (scores_in(attack, much_later) != baseline).any()
    assert reads_ages or PREDICTION not in attack.requires or attack.name in NO_AGE_OF_THE_TARGET
    assert (scores_in(attack, later) != baseline).any() == reads_ages


def test_leverage_does_not_tell_who_was_leaked():
    """Curvature from leaked members has leverage near 1 for them and far more for everyone else."""
    wide = Widths(output=(1, 30, 1, 1, 1))
    accuracies = []
    for seed in range(4):
        split = leak(make_table(members=120, non_members=121, gap=1.5, seed=seed, widths=wide), per_class=40)
        accuracies.append(balanced_accuracy(scored(SELF_INFLUENCE, split), split.target.is_member()))
    assert np.mean(accuracies) > 0.55


def test_scores_belong_to_the_scan_in_the_same_row():
    """Wrong pairing: rows of the leaked table in another order change nothing but the folds' draw."""
    split = leak(make_table(gap=3.0), per_class=25)
    order = np.random.default_rng(1).permutation(len(split.leaked))
    for attack in (TUBE, PREDICTION_LABEL_SVM, POPULATION, SELF_INFLUENCE):
        first = scored(attack, split).scores
        second = scored(attack, split._replace(leaked=split.leaked.select(order))).scores
        np.testing.assert_allclose(first, second, rtol=1e-2, atol=1e-2, err_msg=attack.name)


def test_equal_scores_count_half_in_a_rank():
    """Counting ties as smaller (or larger) inflates one class."""
    same = Sizes(np.ones(7), np.full(7, 60.0))
    for bandwidth in (None, 5.0):
        np.testing.assert_allclose(share_of_larger(same, same, bandwidth), 0.5)


def test_rows_that_are_exchanged_are_in_another_order():
    """A permutation that is bound to a local name and dropped leaves members members, and p-values at 1."""
    membership = np.repeat([1, 0], [10, 40])
    halves = [pseudo_members(membership, np.arange(50), np.random.default_rng(k)) for k in range(30)]
    named = np.mean([half[10:] == 1 for half in halves], axis=0)
    assert (named > 0.1).all()
    assert (named < 0.9).all()
    perfect = one_repeat(np.arange(20.0) + 100.0, np.arange(20.0))
    assert best_of_many({"perfect": perfect}, np.random.default_rng(0), draws=99).p_value == 0.01


def test_every_model_has_a_bound_of_its_own_and_the_level_is_shared():
    """Joined, the scores of two trainings are no single run: their bound holds for neither."""
    results = fabricated_run(Fabrication(targets=2))[0]
    spent = {"privacy_epsilon": "9", "privacy_guarantee": "ε = 9", "privacy_accountant": "prv"}
    of_both = [one.model_copy(update={"design": one.design | {"defence": spent}}) for one in results.targets]
    results = results.model_copy(update={"targets": of_both})
    attacked = [learned_well(seed) for seed in (1, 2)]
    targets = tuple(
        TargetScores(*[np.zeros(80)] * 3, one.members, one.participants, {"abs-error": one}, {})
        for one in attacked
    )
    config = parse_config({"privacy": {"noise_multiplier": 1.0, "delta": 1e-3}})
    setting = Finished(Point("a", "privacy", "a", config, {}), results, Choice("a", targets), 1.0)
    (found,) = bound_privacy([setting], "abs-error").values()
    own = [
        HeldOutThreshold(0.975).bound(canaries_of(one), 1e-3, streams_of(config, k)).epsilon
        for k, one in enumerate(attacked)
    ]
    assert found.lower == pytest.approx(max(own))
    both = Canaries(
        np.concatenate([canaries_of(one).scores for one in attacked]),
        np.concatenate([one.members for one in attacked]),
    )
    joined = HeldOutThreshold(0.95).bound(both, 1e-3, np.random.default_rng(0)).epsilon
    assert found.lower < joined


def learned_well(seed: int) -> Evaluated:
    rng = np.random.default_rng(seed)
    return one_repeat(rng.normal(3.0, 1.0, 40), rng.normal(0.0, 1.0, 40), threshold=1.5)


def streams_of(config: RunConfig, number: int) -> np.random.Generator:
    return Streams(config.seed).child("epsilon/a").generator(str(number))


def test_nobody_who_trained_a_model_is_among_its_non_members():
    """A tool that splits the training set in two compares members with members."""
    cohort = make_cohort(40)
    for seed in range(5):
        design = draw_design(
            cohort.covariates,
            np.random.default_rng(seed),
            members=12,
            non_members=11,
            others=12,
            validation=3,
        )
        for is_null in (False, True):
            plan = TargetPlan("cnn3d-1", ModelConfig(), design, is_null=is_null)
            trained = training_rows(cohort, plan.trained_on, None)
            states = membership_of(design, cohort.covariates)
            assert not (states[trained] == NON_MEMBER).any()
            assert (set(trained) == set(np.flatnonzero(states == MEMBER))) != is_null
