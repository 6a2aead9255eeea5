from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from privoxel.attacks.attack_r import AttackR
from privoxel.attacks.base import Knowledge
from privoxel.attacks.base_lr import Base
from privoxel.attacks.difficulty import Difficulty
from privoxel.attacks.likelihoods import Likelihood, log_likelihood, residual_scale
from privoxel.attacks.lira import Lira
from privoxel.attacks.paper import PREDICTION_LABEL
from privoxel.attacks.references import references_of
from privoxel.attacks.rmia import NOT_THE_POPULATION, Rmia
from privoxel.attacks.shadow_transfer import ShadowTransfer
from privoxel.errors import SignalError
from privoxel.signals.table import LazyArray
from tests.tables import leak, make_references, make_table
from tests.twins import references as twin

RNG = np.random.default_rng(0)
ONLINE = Lira("online", "", online=True)
OFFLINE = Lira("offline", "", online=False)
OWN_VARIANCE = Lira("own", "", online=True, variance="scan")
OFFLINE_SCAN = Lira("offline-scan", "", online=False, variance="scan")
OFFLINE_KINDS = [AttackR(), Difficulty(), OFFLINE, Rmia(), Base(), Base(likelihood=Likelihood.STUDENT)]


def a_case(*, gap=2.0, models=7, members=29, non_members=37, per_class=9, seed=2):
    table = make_table(members=members, non_members=non_members, gap=gap, seed=seed)
    split = leak(table, per_class=per_class)
    return split, Knowledge(leaked=split.leaked, models=make_references(table, models=models, gap=gap))


def numbers(table, models):
    """Return target residuals, references' residuals and membership on ``table``'s scans, as plain arrays."""
    rows = [models.scans.index(scan) for scan in table.scans]
    residuals = np.stack([models.error(model=k) for k in range(len(models.models))])
    return table.error(), residuals, models.membership, rows


def with_residuals(models, residuals):
    values = (models.age + residuals)[:, None].astype(np.float64)
    return replace(models, values={"prediction": LazyArray(values)})


def scores(attack, table, knowledge):
    return attack.score(table, knowledge, RNG).scores


def on(table, models):
    """Return the references on exactly the scans of ``table``, so that pooled numbers are over them alone."""
    return models.select([models.scans.index(scan) for scan in table.scans])


@pytest.mark.parametrize(
    ("attack", "slow"),
    [
        (ONLINE, twin.lira_online),
        (OWN_VARIANCE, lambda *case: twin.lira_online(*case, own_variance=True)),
        (OFFLINE, twin.lira_offline),
        (OFFLINE_SCAN, lambda *case: twin.lira_offline(*case, own_variance=True)),
        (Base(), twin.base),
        (Base(offline_factor=0.8), lambda *case: twin.base(*case, factor=0.8)),
        (Base(online=True), twin.base_online),
    ],
)
def test_scores_are_those_of_the_loop_over_scans_and_models(attack, slow):
    split, knowledge = a_case()
    models = on(split.target, knowledge.models)
    target, residuals, membership, _ = numbers(split.target, models)
    found = scores(attack, split.target, Knowledge(models=models))
    np.testing.assert_allclose(found, slow(target, residuals, membership), rtol=1e-9)


@pytest.mark.parametrize("a", [0.0, 0.3, 1.0])
def test_rmia_counts_the_population_scans_of_the_double_loop(a):
    split, knowledge = a_case()
    target, residuals, membership, rows = numbers(split.target, knowledge.models)
    population = split.leaked.select(~split.leaked.is_member())
    z, *_, z_rows = numbers(population, knowledge.models)
    expected = twin.rmia(
        target,
        z,
        residuals=residuals,
        membership=membership,
        population_rows=z_rows,
        target_rows=rows,
        a=a,
    )
    found = scores(Rmia(a=a), split.target, knowledge)
    assert np.floor(found * (len(z) + 1)).astype(int).tolist() == expected


def test_online_rmia_judges_population_scans_by_inside_and_outside_references_too():
    split, knowledge = a_case()
    target, residuals, membership, rows = numbers(split.target, knowledge.models)
    z, *_, z_rows = numbers(split.leaked.select(~split.leaked.is_member()), knowledge.models)
    found = np.floor(scores(Rmia(online=True), split.target, knowledge) * (len(z) + 1)).astype(int).tolist()
    case = {
        "residuals": residuals,
        "membership": membership,
        "population_rows": z_rows,
        "target_rows": rows,
    }
    assert found == twin.rmia(target, z, **case)
    assert found != twin.rmia(target, z, a=0.3, **case)


def test_online_rmia_leaves_out_population_scans_that_no_reference_was_trained_on():
    split, knowledge = a_case()
    z = split.leaked.select(~split.leaked.is_member())
    states = knowledge.models.membership.copy()
    unseen = [knowledge.models.scans.index(scan) for scan in z.scans]
    states[:, unseen[:4]] = 0
    models = replace(knowledge.models, membership=states)
    online = Rmia(online=True)
    some = scores(online, split.target, Knowledge(models=models, population=z))
    rest = scores(online, split.target, Knowledge(models=models, population=z.select(np.arange(len(z)) >= 4)))
    np.testing.assert_array_equal(some, rest)
    with pytest.raises(SignalError, match="inside some references and outside others, got 4 that are not"):
        scores(online, split.target, Knowledge(models=models, population=z.select(np.arange(4))))


def test_online_rmia_turns_to_the_leaked_where_no_reference_was_trained_on_the_population():
    split, knowledge = a_case()
    taken, models = np.arange(len(split.target)) < 6, knowledge.models
    population = split.target.select(taken)
    states = models.membership.copy()
    states[:, [models.scans.index(scan) for scan in population.scans]] = 0
    known = Knowledge(split.leaked, replace(models, membership=states))
    online, target = Rmia(online=True), split.target.select(~taken)
    given = online.score(target, replace(known, population=population), RNG)
    np.testing.assert_array_equal(given.scores, online.score(target, known, RNG).scores)
    assert NOT_THE_POPULATION in given.notes
    assert NOT_THE_POPULATION not in Rmia().score(target, replace(known, population=population), RNG).notes


def test_attack_r_and_difficulty_are_a_rank_and_a_difference_in_years():
    split, knowledge = a_case()
    target, residuals, membership, rows = numbers(split.target, knowledge.models)
    outs = [np.abs(twin.outs(residuals, membership, row)) for row in rows]
    ranks = [np.mean(out > abs(r)) for out, r in zip(outs, target, strict=True)]
    gains = [np.mean(out) - abs(r) for out, r in zip(outs, target, strict=True)]
    np.testing.assert_allclose(scores(AttackR(), split.target, knowledge), ranks)
    np.testing.assert_allclose(scores(Difficulty(), split.target, knowledge), gains, rtol=1e-9)


@pytest.mark.parametrize("attack", OFFLINE_KINDS, ids=lambda a: type(a).__name__)
def test_what_inside_references_say_is_nothing_to_an_offline_attack(attack):
    # A model that is not OUT must be masked: a value of 0 in its place would be the likeliest residual.
    split, knowledge = a_case()
    models = knowledge.models
    residuals = np.stack([models.error(model=k) for k in range(len(models.models))])
    inside = models.membership == 1
    changed = with_residuals(models, np.where(inside, 1e3, residuals))
    zeroed = with_residuals(models, np.where(inside, 0.0, residuals))
    expected = scores(attack, split.target, replace(knowledge, models=with_residuals(models, residuals)))
    for other in (changed, zeroed):
        found = scores(attack, split.target, replace(knowledge, models=other))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("attack", [*OFFLINE_KINDS, ONLINE, OWN_VARIANCE], ids=lambda a: type(a).__name__)
def test_excluded_references_count_neither_as_inside_nor_as_outside(attack):
    split, knowledge = a_case(models=9)
    models = knowledge.models
    states = models.membership.copy()
    states[0] = -1
    fewer = replace(
        models,
        models=models.models[1:],
        membership=models.membership[1:],
        values={"prediction": LazyArray(models.values["prediction"].source[1:])},
    )
    np.testing.assert_allclose(
        scores(attack, split.target, replace(knowledge, models=replace(models, membership=states))),
        scores(attack, split.target, replace(knowledge, models=fewer)),
        rtol=1e-12,
    )


@pytest.mark.parametrize("attack", OFFLINE_KINDS, ids=lambda a: type(a).__name__)
def test_all_outside_references_count_alike_whatever_their_order_and_size(attack):
    # Keeping the k largest OUT likelihoods would favour references that happen to fit the scan.
    split, knowledge = a_case(models=11)
    models = knowledge.models
    order = np.random.default_rng(1).permutation(11)
    shuffled = replace(
        models,
        membership=models.membership[order],
        values={"prediction": LazyArray(models.values["prediction"].source[order])},
    )
    before = scores(attack, split.target, knowledge)
    np.testing.assert_allclose(
        before, scores(attack, split.target, replace(knowledge, models=shuffled)), rtol=1e-9
    )


def test_offline_lira_is_not_the_two_sided_density_that_calls_outliers_members():
    table = make_table(members=300, non_members=310, gap=3.0, seed=4)
    models = make_references(table, models=6, inside=False)
    truth = table.is_member()
    found = scores(OFFLINE, table.blinded(), Knowledge(models=models))
    residuals = np.stack([models.error(model=k) for k in range(6)])
    density = np.square(table.error() - residuals.mean(axis=0))
    assert roc_auc_score(truth, found) > 0.8
    assert roc_auc_score(truth, density) < 0.4


def test_the_variance_of_outside_models_is_not_that_of_inside_ones():
    split, knowledge = a_case(gap=6.0, models=40)
    table = replace(split.target, values={"prediction": split.target.values["prediction"]})
    found = scores(ONLINE, table, knowledge)
    models = knowledge.models
    residuals = np.stack([models.error(model=k) for k in range(40)])
    spread = {kind: twin.pooled_sd(residuals, models.membership, kind) for kind in (twin.ins, twin.outs)}
    assert spread[twin.outs] > 5 * spread[twin.ins]
    # At a residual far from both means the ratio falls as r²(1/2s_out² − 1/2s_in²).
    far = np.abs(table.error()) > 6
    assert (found[far] < -20).all()


def test_rows_are_matched_by_scan_and_a_lacking_scan_is_named():
    split, knowledge = a_case()
    order = np.random.default_rng(0).permutation(len(knowledge.models))
    shuffled = replace(knowledge, models=knowledge.models.select(order))
    for attack in (*OFFLINE_KINDS, ONLINE):
        np.testing.assert_allclose(
            scores(attack, split.target, shuffled), scores(attack, split.target, knowledge), rtol=1e-9
        )
    lacking = replace(knowledge, models=on(split.leaked, knowledge.models))
    with pytest.raises(SignalError, match=rf"got none on {len(split.target)} of them .sub-"):
        scores(Difficulty(), split.target, lacking)


def test_scans_without_enough_references_are_counted_and_named():
    split, knowledge = a_case()
    states = knowledge.models.membership.copy()
    row = knowledge.models.scans.index(split.target.scans[3])
    states[:, row] = 1
    models = replace(knowledge.models, membership=states)
    for attack in OFFLINE_KINDS:
        with pytest.raises(
            SignalError, match=rf"at least 1 OUT references .*1 scans \({split.target.scans[3]}\)"
        ):
            scores(attack, split.target, replace(knowledge, models=models))
    outside = replace(knowledge, models=make_references(knowledge.models, models=5, inside=False))
    for attack in (ONLINE, Base(online=True)):
        with pytest.raises(SignalError, match="at least 1 IN references"):
            scores(attack, split.target, outside)


def test_rmia_takes_a_population_and_then_needs_nobody_leaked():
    split, knowledge = a_case()
    population = split.leaked.select(~split.leaked.is_member())
    found = scores(Rmia(), split.target, Knowledge(models=knowledge.models, population=population.blinded()))
    np.testing.assert_array_equal(found, scores(Rmia(), split.target, knowledge))


def test_population_scans_that_every_reference_was_trained_on_are_left_out():
    split, knowledge = a_case()
    z = split.leaked.select(~split.leaked.is_member())
    states = knowledge.models.membership.copy()
    seen = [knowledge.models.scans.index(scan) for scan in z.scans]
    states[:, seen[:4]] = 1
    models = replace(knowledge.models, membership=states)
    some = scores(Rmia(), split.target, Knowledge(models=models, population=z))
    rest = scores(Rmia(), split.target, Knowledge(models=models, population=z.select(np.arange(len(z)) >= 4)))
    np.testing.assert_array_equal(some, rest)
    with pytest.raises(SignalError, match="outside some reference, got 4 that all"):
        scores(Rmia(), split.target, Knowledge(models=models, population=z.select(np.arange(4))))


def test_a_few_population_references_beat_the_plain_error_where_scans_differ_in_difficulty():
    table = make_table(members=300, non_members=310, seed=6)
    rng = np.random.default_rng(3)
    truth, hard = table.is_member(), rng.normal(0, 4, len(table))
    error = np.where(truth, 0.5, 1.0) * hard + rng.normal(0, 1, len(table))
    values = {"prediction": LazyArray((table.age + error)[None, None])}
    target = replace(table, snapshots=("last",), values=values)
    models = make_references(target, models=4, inside=False)
    models = with_residuals(models, hard + rng.normal(0, 1, (4, len(table))))
    plain = roc_auc_score(truth, -np.abs(error))
    for attack in (OFFLINE, Base(), Difficulty()):
        assert roc_auc_score(truth, scores(attack, target, Knowledge(models=models))) > plain + 0.03


def test_one_reference_is_enough_and_its_scale_is_said():
    split, knowledge = a_case()
    one = make_references(knowledge.models, models=1, inside=False)
    references = references_of(Base(), split.target, replace(knowledge, models=one))
    scale = residual_scale(references)
    assert scale.years == pytest.approx(np.sqrt(np.mean(one.error() ** 2)))
    for attack in (Rmia(), Base()):
        notes = attack.score(split.target, replace(knowledge, models=one), RNG).notes
        assert notes == ("scale=rms of the residuals (no scan has two OUT references)",)
    assert Rmia().score(split.target, knowledge, RNG).notes == ()


def test_what_is_common_to_all_models_on_a_scan_is_not_part_of_the_scale():
    split, knowledge = a_case()
    models = knowledge.models
    residuals = np.stack([models.error(model=k) for k in range(len(models.models))])
    hard = np.random.default_rng(1).normal(0, 20, len(models))
    scales = [
        residual_scale(
            references_of(Base(), split.target, replace(knowledge, models=with_residuals(models, r)))
        )
        for r in (residuals, residuals + hard)
    ]
    assert scales[0].years == pytest.approx(scales[1].years, rel=1e-5)  # stored in float32


def test_with_slope_one_rmia_ranks_as_base_with_factor_one_does():
    split, knowledge = a_case()
    one = scores(Rmia(a=1.0), split.target, knowledge)
    base = scores(Base(offline_factor=1.0), split.target, knowledge)
    assert spearmanr(one, base).statistic > 1 - 1e-12


def test_likelihoods_are_one_at_zero_and_the_student_has_the_heavier_tail():
    r = np.array([0.0, 1.0, 40.0])
    gaussian, student = (log_likelihood(r, 2.0, kind) for kind in Likelihood)
    assert gaussian[0] == student[0] == 0.0
    np.testing.assert_allclose(gaussian[1], -1 / 8)
    np.testing.assert_allclose(student[1], -2.5 * np.log1p(1 / 8))
    assert student[2] > gaussian[2]


def test_the_transferred_classifier_learns_from_the_shadow_alone():
    split, knowledge = a_case(members=60, non_members=60, gap=4.0)
    attack = ShadowTransfer(replace(PREDICTION_LABEL, epochs=3))
    first = replace(
        knowledge.models,
        models=("one",),
        membership=knowledge.models.membership[:1],
        values={"prediction": LazyArray(knowledge.models.values["prediction"].source[:1])},
    )
    expected = attack.classifier.score(split.target, Knowledge(leaked=first), np.random.default_rng(1))
    found = attack.score(split.target, knowledge, np.random.default_rng(1))
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert found.threshold == expected.threshold


def test_scans_the_adversary_did_not_draw_do_not_train_the_transferred_classifier():
    split, knowledge = a_case(members=60, non_members=60)
    attack = ShadowTransfer(replace(PREDICTION_LABEL, epochs=3))
    states = knowledge.models.membership.copy()
    states[:, ::3] = -1
    drawn = np.arange(len(knowledge.models)) % 3 != 0
    found = attack.score(
        split.target,
        replace(knowledge, models=replace(knowledge.models, membership=states)),
        np.random.default_rng(1),
    )
    fewer = replace(knowledge, models=knowledge.models.select(drawn))
    expected = attack.score(split.target, fewer, np.random.default_rng(1))
    np.testing.assert_array_equal(found.scores, expected.scores)
