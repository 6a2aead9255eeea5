import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from privoxel.attacks.base import Knowledge
from privoxel.attacks.centred import CENTRED_ERROR
from privoxel.attacks.default import BLACK_BOX, DEFAULT, TEMPERATURE, held_out
from privoxel.attacks.folds import leaked_folds
from privoxel.attacks.stacked import STACKED
from privoxel.attacks.threshold import ABS_ERROR
from tests.tables import leak, make_table, with_errors


def scored(split, attack=BLACK_BOX):
    return attack.score(split.target.blinded(), Knowledge(leaked=split.leaked), np.random.default_rng(0))


def aucs(split, *attacks):
    truth = split.target.is_member()
    return [roc_auc_score(truth, scored(split, attack).scores) for attack in attacks]


def test_the_blend_follows_the_centre_where_the_model_is_off():
    table = make_table(members=200, non_members=201, gap=3.0, seed=2)
    split = leak(with_errors(table, table.error() + 4.0), per_class=100)
    blend, plain, centred = aucs(split, BLACK_BOX, ABS_ERROR, CENTRED_ERROR)
    assert blend > plain + 0.1
    assert blend > centred - 0.01


def test_the_blend_loses_little_where_absolute_error_is_right():
    losses = []
    for seed in range(6):
        table = make_table(members=200, non_members=201, gap=1.0, seed=seed)
        split = leak(with_errors(table, table.error() - 0.5), per_class=25, seed=seed)
        losses.append(np.subtract(*aucs(split, ABS_ERROR, BLACK_BOX)))
    assert np.mean(losses) < 0.01


def test_the_blend_is_the_mean_of_its_parts_weighed_by_their_order_of_leaked_scans():
    split = leak(make_table(members=60, non_members=61, gap=2.0, seed=1), per_class=20)
    known, rng = Knowledge(leaked=split.leaked), np.random.default_rng(0)
    folds = leaked_folds(split.leaked, rng)
    below = np.stack([held_out(part, split.leaked, folds, known, rng) for part in BLACK_BOX.parts])
    above = np.stack([part.score(split.target, known, rng).scores for part in BLACK_BOX.parts])
    weights = softmax([roc_auc_score(split.leaked.is_member(), row) / TEMPERATURE for row in below])
    slow = sum(
        w * (row - known_row.mean()) / known_row.std()
        for w, row, known_row in zip(weights, above, below, strict=True)
    )
    found = scored(split)
    np.testing.assert_allclose(found.scores, slow, rtol=1e-9)
    shares = ", ".join(f"{part.name} {w:.2f}" for part, w in zip(BLACK_BOX.parts, weights, strict=True))
    assert found.notes == (f"blend of {shares}",)


def test_the_weights_depend_on_the_leaked_scans_alone():
    split = leak(make_table(gap=2.0, seed=1), per_class=40)
    noise = with_errors(split.target, np.random.default_rng(3).normal(0, 9, len(split.target)))
    assert scored(split).notes == scored(split._replace(target=noise)).notes


def test_gradients_count_for_the_white_box_default():
    assert STACKED in DEFAULT.parts
    assert set(BLACK_BOX.parts) < set(DEFAULT.parts)
    assert DEFAULT.uses == STACKED.uses
    assert not BLACK_BOX.uses


@pytest.mark.parametrize("attack", [DEFAULT, BLACK_BOX])
def test_with_three_leaked_of_a_class_absolute_error_is_taken(attack):
    split = leak(make_table(gap=3.0), per_class=3)
    np.testing.assert_array_equal(scored(split, attack).scores, scored(split, ABS_ERROR).scores)
