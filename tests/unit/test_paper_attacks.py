from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from privoxel.attacks import PAPER_TABLE_1, get_attack
from privoxel.attacks.architecture import Encoder
from privoxel.attacks.base import Knowledge
from privoxel.attacks.paper import ADAPTED, COMBINED, GENERIC, ActivationAttack, _features, validation_fifth
from privoxel.signals.table import SignalTable
from tests.tables import PAPER_2D, PAPER_3D, leak, make_table


def tiny(widths=None, per_class=7):
    split = leak(make_table(members=11, non_members=13, gap=2.0, widths=widths), per_class=per_class)
    return split.leaked, split.target


def scored(attack, leaked: SignalTable, target: SignalTable):
    return attack.score(target, Knowledge(leaked=leaked), np.random.default_rng(0))


def test_at_full_3d_width_encoders_read_the_papers_shapes():
    leaked, target = tiny(PAPER_3D)
    shapes = {
        name: (branch.encoder, branch.leaked.shape[1:])
        for name in ("prediction", "gradient-norms", "gradient:conv1", "gradient:conv6", "gradient:output")
        for branch in [_features(name, leaked, target).branch]
    }
    assert shapes == {
        "prediction": (Encoder.FLAT, (2,)),
        "gradient-norms": (Encoder.FLAT, (14 - 6,)),
        "gradient:conv1": (Encoder.FLAT, (864,)),
        "gradient:conv6": (Encoder.IMAGE, (1, 256, 64)),
        "gradient:output": (Encoder.FLAT, (64,)),
    }


def test_at_full_2d_width_encoders_read_the_papers_shapes():
    leaked, target = tiny(PAPER_2D)
    shapes = {
        name: (branch.encoder, branch.leaked.shape[1:])
        for name in ("gradient:conv1", "gradient:conv6", "gradient:output", "gradient:hidden")
        for branch in [_features(name, leaked, target).branch]
    }
    assert shapes == {
        "gradient:conv1": (Encoder.FLAT, (288,)),
        "gradient:conv6": (Encoder.SEQUENCE, (64, 256)),
        "gradient:output": (Encoder.FLAT, (64,)),
        "gradient:hidden": (Encoder.PADDED_SEQUENCE, (64, 32)),
    }


def test_the_image_of_conv_6_has_input_channels_as_rows():
    leaked, target = tiny()
    image = _features("gradient:conv6", leaked, target).branch.leaked
    weights = leaked.read("gradient:conv6").astype(np.float64)
    scan, outgoing, incoming = 3, 4, 9
    column = weights[:, outgoing, incoming, 0, 0]
    expected = (column[scan] - column.mean()) / column.std()
    assert image[scan, 0, incoming, outgoing] == pytest.approx(expected, rel=1e-5)


def test_the_hidden_layer_counts_as_output_where_both_tables_have_it():
    leaked, target = tiny(PAPER_2D)
    attack = replace(COMBINED, epochs=1)
    assert attack._signals_of(leaked, target)[-1] == "gradient:hidden"
    without = replace(target, values={k: v for k, v in target.values.items() if k != "gradient:hidden"})
    assert attack._signals_of(leaked, without) == attack.signals
    assert np.isfinite(scored(attack, leaked, target).scores).all()


@pytest.mark.parametrize("widths", [PAPER_3D, PAPER_2D], ids=["3d", "2d"])
def test_at_full_width_no_encoder_is_adapted(widths):
    leaked, target = tiny(widths, per_class=3)
    assert scored(replace(get_attack("gradient-conv6"), epochs=1), leaked, target).notes == ()


def test_notes_tell_adapted_encoders_and_structural_zeros():
    leaked, target = tiny()
    assert ADAPTED in scored(replace(COMBINED, epochs=1), leaked, target).notes
    magnitudes = scored(replace(get_attack("gradient-magnitude"), epochs=1), leaked, target)
    assert magnitudes.notes == ("gradient-norms: 6 structural zeros dropped",)
    assert GENERIC in scored(ActivationAttack(epochs=1), leaked, target).notes


def test_the_threshold_is_the_papers_zero_logit():
    leaked, target = tiny()
    for name in PAPER_TABLE_1:
        if name != "error-forest":
            assert scored(replace(get_attack(name), epochs=1), leaked, target).threshold == 0.0


def test_features_are_scaled_by_leaked_scans_only():
    leaked, target = tiny()
    whole = _features("gradient:conv1", leaked, target).branch
    part = _features("gradient:conv1", leaked, target.select([0, 5])).branch
    np.testing.assert_array_equal(whole.target[[0, 5]], part.target)
    np.testing.assert_array_equal(whole.leaked, part.leaked)


def test_a_fifth_of_the_participants_of_each_class_validates():
    leaked = make_table(members=40, non_members=55, scans_each=2)
    validation = validation_fifth(leaked, np.random.default_rng(0))
    assert (validation & leaked.is_member()).sum() == 2 * 8
    assert (validation & ~leaked.is_member()).sum() == 2 * 11
    people = leaked.covariates.participant_index
    assert not set(people[validation]) & set(people[~validation])


class Tail(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Conv3d(7, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(x).mean((2, 3, 4)).squeeze(1) + 62.68


def test_a_tail_replaces_the_generic_encoder_and_stays_as_it_was():
    leaked, target = tiny()
    torch.manual_seed(0)
    tail = Tail()
    weight = tail.output.weight.detach().clone()
    result = scored(ActivationAttack(tail=tail, epochs=3), leaked, target)
    assert result.notes == ()
    assert np.isfinite(result.scores).all()
    assert torch.equal(tail.output.weight, weight)
    assert (result.scores != scored(ActivationAttack(epochs=3), leaked, target).scores).all()


def test_a_tail_reads_activations_in_their_own_units():
    leaked, target = tiny()
    attack = ActivationAttack(tail=Tail(), epochs=1)
    doubled = replace(leaked, values=dict(leaked.values)), target
    np.testing.assert_array_equal(scored(attack, *doubled).scores, scored(attack, leaked, target).scores)


def test_a_constant_signal_gives_everyone_the_same_score():
    leaked, target = tiny()
    flat = [
        replace(
            table,
            values={
                **table.values,
                "gradient:output": type(table.values["prediction"])(
                    np.ones((1, 3, len(table), 1, 6, 1, 1, 1), dtype=np.float32)
                ),
            },
        )
        for table in (leaked, target)
    ]
    result = scored(replace(get_attack("gradient-output"), epochs=2), *flat)
    assert np.ptp(result.scores) < 1e-6  # float32 rounding of a vectorised tail
    assert result.notes == ("gradient:output: 6 structural zeros dropped",)
