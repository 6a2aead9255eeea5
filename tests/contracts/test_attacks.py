"""What every registered attack and control must keep, whatever it computes."""

import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from privoxel.attacks import (
    ATTACKS,
    CENTRED,
    CENTRED_WITH_STATED_SD,
    CONTROLS,
    PAPER_TABLE_1,
    WHEN_NAMED,
    WITH_STATED_SD,
    get_attack,
    list_attacks,
)
from privoxel.attacks.base import (
    Attack,
    Course,
    Knowledge,
    Scored,
    ThreatModel,
    course_of,
    needs_models,
    optional_signals,
)
from privoxel.errors import ConfigError, SignalError
from privoxel.signals.table import LazyArray, Membership, SignalTable
from tests.tables import leak, make_references, make_table

EVERYONE = (
    *list_attacks(with_controls=True),
    *WHEN_NAMED.values(),
    *WITH_STATED_SD.values(),
    *CENTRED_WITH_STATED_SD.values(),
    *(pytest.param(attack, marks=pytest.mark.slow) for attack in CENTRED.values()),
)
NULL_SEEDS = range(6)
PAPER = r"\b(19|20)\d\d\b"
PLACE = r"section|§|appendix|algorithm|equation|table|figure|adversary \d|attack [A-Z]\b"


@pytest.fixture(scope="module", params=EVERYONE, ids=lambda attack: attack.name)
def attack(request: pytest.FixtureRequest) -> Iterator[Attack]:
    return request.param


@pytest.fixture(scope="module")
def planted() -> tuple[SignalTable, Knowledge]:
    table = make_table(members=230, non_members=241, gap=7.0, seed=3)
    split = leak(table, per_class=150)
    return split.target.blinded(), Knowledge(leaked=split.leaked, models=make_references(table, gap=7.0))


@pytest.fixture(scope="module")
def small() -> tuple[SignalTable, Knowledge]:
    table = make_table(gap=2.0, seed=1)
    split = leak(table, per_class=20)
    return split.target.blinded(), Knowledge(leaked=split.leaked, models=make_references(table, gap=2.0))


@pytest.fixture(scope="module")
def baseline(attack: Attack, small: tuple[SignalTable, Knowledge]) -> Scored:
    return scored(attack, small)


def scored(attack: Attack, case: tuple[SignalTable, Knowledge], seed: int = 5) -> Scored:
    return attack.score(*case, np.random.default_rng(seed))


def test_there_is_one_finite_score_per_scan_and_a_finite_threshold(baseline, small):
    result = baseline
    assert result.scores.shape == (len(small[0]),)
    assert result.scores.dtype == np.float64
    assert np.isfinite(result.scores).all()
    assert np.isfinite(result.threshold)
    assert all(isinstance(note, str) for note in result.notes)


def test_permuting_the_scans_permutes_the_scores(attack, small, baseline):
    target, knowledge = small
    order = np.random.default_rng(0).permutation(len(target))
    permuted = scored(attack, (target.select(order), knowledge))
    np.testing.assert_allclose(permuted.scores, baseline.scores[order], rtol=1e-4, atol=1e-5)
    assert permuted.threshold == pytest.approx(baseline.threshold)


def test_a_population_that_no_reference_was_trained_on_will_do(attack, small):
    target, knowledge = small
    taken, models = np.arange(len(target)) < 9, knowledge.models
    population = target.select(taken)
    states = models.membership.copy()
    states[:, [models.scans.index(scan) for scan in population.scans]] = Membership.NON_MEMBER
    apart = Knowledge(knowledge.leaked, replace(models, membership=states), population)
    result = scored(attack, (target.select(~taken), apart))
    assert np.isfinite(result.scores).all()
    assert len(np.unique(result.scores)) > 1


def test_the_same_seed_gives_the_same_scores_whatever_the_global_random_state(attack, small, baseline):
    torch.rand(3)
    np.random.random(3)  # noqa: NPY002 - the legacy state is what must not matter, nor move
    states = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    again = scored(attack, small)
    np.testing.assert_array_equal(again.scores, baseline.scores)
    assert again.threshold == baseline.threshold
    np.testing.assert_array_equal(np.random.get_state()[1], states[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[1])


@pytest.mark.parametrize("flip", [False, True])
def test_the_membership_of_the_target_is_not_read(attack, small, baseline, flip):
    target, knowledge = small
    members = (np.arange(len(target)) % 3 == 0) ^ flip
    seen = scored(attack, (target.with_membership(members), knowledge))
    np.testing.assert_array_equal(seen.scores, baseline.scores)
    assert seen.threshold == baseline.threshold


def test_a_scan_is_scored_alike_whoever_else_is_scored(attack, small, baseline):
    target, knowledge = small
    alone = scored(attack, (target.select([4, 9, 2]), knowledge)).scores
    np.testing.assert_allclose(alone, baseline.scores[[4, 9, 2]], rtol=1e-4, atol=1e-5)


def test_tables_are_left_as_they_were(attack):
    table = make_table(gap=2.0, seed=1)
    split, models = leak(table, per_class=20), make_references(table)
    before = {name: array.read().copy() for name, array in split.target.values.items()}
    scored(attack, (split.target.blinded(), Knowledge(leaked=split.leaked, models=models)))
    for name, values in before.items():
        np.testing.assert_array_equal(split.target.read(name), values)


def test_a_missing_signal_is_named(attack, small):
    target, knowledge = small
    for signal in attack.requires:
        values = {name: array for name, array in target.values.items() if name != signal}
        with pytest.raises(SignalError, match=rf"{attack.name} needs the signals {signal}"):
            scored(attack, (replace(target, values=values), knowledge))


def only_what_it_reads(attack: Attack, table: SignalTable) -> SignalTable:
    read = attack.requires | optional_signals(attack)
    return replace(table, values={name: array for name, array in table.values.items() if name in read})


def test_signals_that_other_attacks_brought_change_nothing(attack, small, baseline):
    target, knowledge = small
    models = knowledge.models
    alone = replace(
        knowledge,
        leaked=only_what_it_reads(attack, knowledge.leaked),
        models=only_what_it_reads(attack, models) if needs_models(attack) else models,
    )
    again = scored(attack, (only_what_it_reads(attack, target), alone))
    np.testing.assert_array_equal(again.scores, baseline.scores)
    assert again.threshold == baseline.threshold
    assert again.notes == baseline.notes


def test_what_it_reads_besides_is_not_what_it_requires(attack):
    assert not optional_signals(attack) & attack.requires


def test_a_value_that_is_not_finite_is_an_error_that_says_how_many(attack, small):
    target, knowledge = small
    for signal in attack.requires:
        array = np.stack([target.values[signal].read()] * len(target.snapshots))
        array[:, 7] = np.inf
        broken = {**target.values, signal: LazyArray(array[None])}
        with pytest.raises(SignalError, match=r"needs finite .*got 1 scans"):
            scored(attack, (replace(target, values=broken), knowledge))


def test_without_leaked_participants_it_says_so_or_works_without(attack, small):
    case = small[0], Knowledge(models=small[1].models)
    if attack.needs_leaked:
        with pytest.raises(SignalError, match="needs leaked participants of known membership, got none"):
            scored(attack, case)
    else:
        assert np.isfinite(scored(attack, case).scores).all()


def test_leaked_members_alone_are_refused(attack, small):
    target, knowledge = small
    members = knowledge.leaked.select(knowledge.leaked.is_member())
    with pytest.raises(SignalError, match="needs leaked members and leaked non-members, got 20 and 0"):
        scored(attack, (target, replace(knowledge, leaked=members)))


def test_without_reference_models_it_says_so_or_works_without(attack, small):
    case = small[0], replace(small[1], models=None)
    if needs_models(attack):
        with pytest.raises(SignalError, match=rf"{attack.name} needs reference models .*got none"):
            scored(attack, case)
    else:
        assert np.isfinite(scored(attack, case).scores).all()


def test_it_survives_pickling(attack, small, baseline):
    again = pickle.loads(pickle.dumps(attack))  # noqa: S301 - our own bytes
    assert again == attack
    np.testing.assert_array_equal(scored(again, small).scores, baseline.scores)


def test_it_cannot_be_changed(attack):
    for field in fields(attack):
        with pytest.raises(FrozenInstanceError):
            setattr(attack, field.name, None)


def test_it_is_described(attack):
    assert attack.name == attack.name.lower().replace(" ", "-")
    assert attack.title
    assert isinstance(attack.threat_model, ThreatModel)
    inside = ("gradient", "activation", "projection", "product", "step")
    needs_weights = any(signal.startswith(inside) for signal in attack.requires)
    holds_more = needs_weights or course_of(attack) is not Course.LAST
    assert holds_more == (attack.threat_model is ThreatModel.WHITE_BOX)


def test_its_source_says_where_in_a_paper_it_stands_or_that_it_was_not_seen_there_or_is_ours(attack):
    if re.search(PAPER, attack.source):
        assert re.search(PLACE, attack.source), "name the place, or write (section not seen)"
    else:
        assert attack.source.startswith("privoxel;")


@pytest.mark.parametrize(
    "attacks",
    [
        pytest.param({**ATTACKS, **WHEN_NAMED, **WITH_STATED_SD, **CENTRED_WITH_STATED_SD}, id="listed"),
        pytest.param(CENTRED, id="centred", marks=pytest.mark.slow),
    ],
)
def test_members_score_higher_where_the_model_fitted_them_closely(planted, attacks):
    truth = leak(make_table(members=230, non_members=241, gap=7.0, seed=3), per_class=150).target.is_member()
    for name, attack in attacks.items():
        result = scored(attack, planted)
        called = result.scores > result.threshold
        balanced = (called[truth].mean() + (~called[~truth]).mean()) / 2
        assert roc_auc_score(truth, result.scores) > 0.7, name
        assert balanced > 0.6, name


def test_controls_see_nothing_where_only_the_model_leaks(planted):
    truth = leak(make_table(members=230, non_members=241, gap=7.0, seed=3), per_class=150).target.is_member()
    bound = 4 * null_standard_error(truth)
    for control in CONTROLS.values():
        assert abs(roc_auc_score(truth, scored(control, planted).scores) - 0.5) < bound


def test_nothing_is_found_where_membership_means_nothing(attack):
    aucs, errors = [], []
    for seed in NULL_SEEDS:
        table = make_table(members=90, non_members=101, seed=seed)
        split = leak(table, per_class=30, seed=seed)
        truth = split.target.is_member()
        knowledge = Knowledge(leaked=split.leaked, models=make_references(table, seed=seed))
        result = scored(attack, (split.target.blinded(), knowledge), seed)
        aucs.append(roc_auc_score(truth, result.scores))
        errors.append(null_standard_error(truth))
    # The mean of independent tables; four standard errors let 30 attacks pass together.
    assert abs(np.mean(aucs) - 0.5) < 4 * np.sqrt(np.sum(np.square(errors))) / len(errors)


def null_standard_error(members: np.ndarray) -> float:
    """Return the standard error of the AUC under the null (Mann-Whitney, no ties)."""
    m, n = int(members.sum()), int((~members).sum())
    return float(np.sqrt((m + n + 1) / (12 * m * n)))


def test_the_registry_holds_the_rows_of_table_1_and_finds_them_by_name():
    assert set(PAPER_TABLE_1) <= set(ATTACKS)
    assert len(PAPER_TABLE_1) == 8
    assert all(get_attack(name) is ATTACKS[name] for name in PAPER_TABLE_1)
    assert not set(ATTACKS) & set(CONTROLS)
    assert not set(WHEN_NAMED) & (set(ATTACKS) | set(CONTROLS))
    assert all(
        get_attack(name) is attack
        for name, attack in {**WHEN_NAMED, **CENTRED, **CENTRED_WITH_STATED_SD}.items()
    )
    assert [attack.name for attack in list_attacks()] == list(ATTACKS)
    with pytest.raises(TypeError):
        ATTACKS["mine"] = None


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"got 'lira2'. Choose among abs-error, .*covariates-only"):
        get_attack("lira2")


def test_listing_attacks_imports_neither_torch_nor_scikit_learn():
    code = (
        "import sys; from privoxel.attacks import list_attacks; list_attacks(with_controls=True); "
        "sys.exit(bool({'torch', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603 - our own line
