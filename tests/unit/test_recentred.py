from dataclasses import dataclass, replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from privoxel.attacks import ATTACKS
from privoxel.attacks.base import (
    Knowledge,
    ReferenceKind,
    ThreatModel,
    fewest_references,
    needs_models,
    reference_kind,
)
from privoxel.attacks.centring import fit_centre
from privoxel.attacks.difficulty import Difficulty
from privoxel.attacks.folds import leaked_folds
from privoxel.attacks.recentred import Recentred
from privoxel.attacks.rmia import RMIA
from privoxel.attacks.threshold import ABS_ERROR
from privoxel.signals.table import LazyArray
from tests.tables import leak, make_references, make_table, with_errors


@dataclass(frozen=True)
class Watched:
    """An attack that keeps what it was given to score."""

    tables: list
    name: str = "watched"
    threat_model = ThreatModel.BLACK_BOX
    requires = frozenset({"prediction"})
    source = "none"

    def score(self, target, knowledge, rng):
        self.tables.append(target)
        return ABS_ERROR.score(target, knowledge, rng)


CURVES = pytest.mark.parametrize("curve", [False, True])


def a_case(*, inside=True, models=6, seed=2):
    table = make_table(members=60, non_members=67, gap=2.0, seed=seed)
    split = leak(table, per_class=21)
    return split, make_references(table, models=models, gap=2.0, inside=inside)


def scores(attack, split, models):
    knowledge = Knowledge(leaked=split.leaked, models=models)
    return attack.score(split.target.blinded(), knowledge, np.random.default_rng(1))


def with_residuals(models, residuals):
    return replace(models, values={"prediction": LazyArray((models.age + residuals)[:, None])})


def residuals_of(models):
    return np.stack([models.error(model=k) for k in range(len(models.models))])


@CURVES
def test_scores_are_those_on_residuals_from_each_models_own_members(curve):
    split, models = a_case()
    leaked, folds = split.leaked, leaked_folds(split.leaked, np.random.default_rng(1))
    centre = fit_centre(leaked.error(), leaked.age, leaked.is_member(), curve=curve)
    moved = leaked.error()
    for fold in np.unique(folds):
        others = (folds != fold) & leaked.is_member()
        rest = fit_centre(leaked.error()[others], leaked.age[others], curve=curve)
        moved[folds == fold] -= rest(leaked.age[folds == fold])
    theirs = residuals_of(models)
    for k, states in enumerate(models.membership):
        theirs[k] -= fit_centre(theirs[k], models.age, states == 1, curve=curve)(models.age)
    by_hand = Difficulty().score(
        with_errors(split.target, split.target.error() - centre(split.target.age)),
        Knowledge(with_errors(leaked, moved), with_residuals(models, theirs)),
        np.random.default_rng(1),
    )
    found = scores(Recentred(Difficulty(), curve), split, models)
    np.testing.assert_allclose(found.scores, by_hand.scores, atol=1e-4)
    assert found.threshold == pytest.approx(by_hand.threshold, abs=1e-4)


@CURVES
@pytest.mark.parametrize("inside", [True, False])
def test_an_offset_of_any_model_changes_nothing(curve, inside):
    split, models = a_case(inside=inside)
    attack = Recentred(Difficulty(), curve)
    shifts = np.linspace(-9.0, 7.0, 6)[:, None]
    moved = with_residuals(models, residuals_of(models) + shifts)
    shifted = type(split)(*(with_errors(part, part.error() + 4.0) for part in split))
    before, after = scores(attack, split, models), scores(attack, shifted, moved)
    np.testing.assert_allclose(after.scores, before.scores, atol=1e-3)
    assert scores(Difficulty(), shifted, moved).scores != pytest.approx(before.scores, abs=0.5)


def test_a_reference_without_members_is_placed_as_far_from_them_as_the_target_is():
    split, models = a_case(inside=False)
    leaked = split.leaked
    apart = with_errors(leaked, leaked.error() + np.where(leaked.is_member(), 0.0, 5.0))
    further = scores(Recentred(Difficulty()), type(split)(split.target, apart), models).scores
    # Non-members of the target now lie 5 years above its members, so those of each reference do too.
    theirs = residuals_of(models)
    rows = [models.scans.index(scan) for scan in split.target.scans]
    gap = np.median(apart.error()[~leaked.is_member()]) - np.median(leaked.error()[leaked.is_member()])
    centred = np.abs(theirs - np.median(theirs, axis=1, keepdims=True) + gap)[:, rows].mean(axis=0)
    own = np.abs(split.target.error() - np.median(leaked.error()[leaked.is_member()]))
    np.testing.assert_allclose(further, centred - own, atol=1e-4)


def test_members_off_by_their_models_offset_are_found_again():
    plain, centred = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        table = make_table(members=200, non_members=211, gap=1.0, seed=seed)
        models = make_references(table, models=6, gap=1.0, seed=seed)
        table = with_errors(table, table.error() + np.where(table.is_member(), rng.normal(0, 4), 0.0))
        moved = np.where(models.membership == 1, rng.normal(0, 4, (6, 1)), 0.0)
        models = with_residuals(models, residuals_of(models) + moved)
        split = leak(table, per_class=80, seed=seed)
        truth = split.target.is_member()
        plain.append(roc_auc_score(truth, scores(RMIA, split, models).scores))
        centred.append(roc_auc_score(truth, scores(Recentred(RMIA), split, models).scores))
    assert np.mean(centred) > np.mean(plain) + 0.1


@CURVES
def test_a_shadow_free_attack_is_centred_too(curve):
    split, _ = a_case()
    found = scores(Recentred(ABS_ERROR, curve), split, None)
    expected = scores(ATTACKS["centred-curve" if curve else "centred-error"], split, None)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    assert found.threshold == pytest.approx(expected.threshold, abs=1e-4)


def test_a_population_is_moved_as_the_target_is():
    split, models = a_case()
    population = split.leaked.select(~split.leaked.is_member())
    shifted = type(split)(*(with_errors(part, part.error() + 4.0) for part in split))
    found = []
    for case, people in ((split, population), (shifted, with_errors(population, population.error() + 4.0))):
        knowledge = Knowledge(leaked=case.leaked, models=models, population=people)
        found.append(Recentred(RMIA).score(case.target, knowledge, np.random.default_rng(1)).scores)
    np.testing.assert_allclose(found[1], found[0], atol=1e-3)


def test_snapshots_are_centred_each_by_its_own_members():
    split, _ = a_case()
    seen = Watched([])
    scores(Recentred(seen), split, None)
    for snapshot in range(3):
        leaked = split.leaked.error(snapshot=snapshot)[split.leaked.is_member()]
        moved = split.target.error(snapshot=snapshot) - np.median(leaked)
        np.testing.assert_allclose(seen.tables[0].error(snapshot=snapshot), moved, atol=1e-4)


def test_it_needs_what_its_attack_needs_and_leaked_participants():
    online, quantile = Recentred(ATTACKS["lira-online"]), ATTACKS["centred-quantile"]
    assert fewest_references(online) == (2, 2)
    assert reference_kind(online) is ReferenceKind.SHADOW
    assert online.needs_leaked
    assert not needs_models(quantile)
    assert reference_kind(quantile) is None
    assert ATTACKS["tube-centred-rmia"] == Recentred(RMIA, curve=True)
