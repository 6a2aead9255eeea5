import math

import numpy as np
import pytest
import torch
from torch import nn

from privoxel.attacks import encoders
from privoxel.attacks.architecture import PAPER_SHAPES, Branch, Encoder, Schedule
from privoxel.attacks.encoders import AttackNet, TailNet, convolutions, encoder, encoder_logits, tail_logits

MAPS = {Encoder.IMAGE: (16, (6, 6)), Encoder.SEQUENCE: (128, (14,)), Encoder.PADDED_SEQUENCE: (64, (4,))}


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("kind", list(MAPS))
def test_at_full_width_the_map_is_the_papers(kind):
    blocks, channels, size = convolutions(kind, PAPER_SHAPES[kind])
    assert (channels, size) == MAPS[kind]
    assert blocks(torch.zeros(2, *PAPER_SHAPES[kind])).shape == (2, channels, *size)


def test_parameter_counts_are_those_derived_from_the_paper():
    assert parameters(encoder(Encoder.IMAGE, (1, 256, 64))) == 83_728
    assert parameters(encoder(Encoder.SEQUENCE, (64, 256))) == 270_784
    nets = [AttackNet([encoder(Encoder.FLAT, (width,))], 0.5) for width in (2, 14, 18)]
    assert [parameters(net) for net in nets] == [257, 1_025, 1_281]


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (Encoder.IMAGE, (1, 64, 16)),
        (Encoder.IMAGE, (1, 11, 6)),
        (Encoder.IMAGE, (1, 1, 1)),
        (Encoder.SEQUENCE, (16, 64)),
        (Encoder.SEQUENCE, (3, 2)),
        (Encoder.PADDED_SEQUENCE, (16, 8)),
        (Encoder.PADDED_SEQUENCE, (5, 1)),
    ],
)
def test_on_smaller_maps_kernels_and_pools_are_clipped(kind, shape):
    blocks, channels, size = convolutions(kind, shape)
    assert blocks(torch.zeros(2, *shape)).shape == (2, channels, *size)
    assert encoder(kind, shape)(torch.zeros(2, *shape)).shape == (2, 64)
    assert Branch(kind, np.zeros((2, *shape)), np.zeros((2, *shape))).is_adapted


def test_at_full_width_no_encoder_is_called_adapted():
    for kind, shape in PAPER_SHAPES.items():
        assert not Branch(kind, np.zeros((2, *shape)), np.zeros((2, *shape))).is_adapted


def test_blocks_are_convolution_pool_relu_and_only_images_end_on_a_relu():
    blocks = convolutions(Encoder.SEQUENCE, (64, 256)).layers
    assert [type(layer) for layer in blocks] == [nn.Conv1d, nn.MaxPool1d, nn.ReLU] * 3
    assert isinstance(encoder(Encoder.IMAGE, (1, 256, 64))[-1], nn.ReLU)
    assert isinstance(encoder(Encoder.SEQUENCE, (64, 256))[-1], nn.Linear)


def test_the_image_encoder_agrees_with_plain_loops_in_float64():
    torch.manual_seed(0)
    net = encoder(Encoder.IMAGE, (1, 13, 9)).double()
    image = np.random.default_rng(0).normal(size=(1, 13, 9))
    with torch.no_grad():
        fast = net(torch.from_numpy(image)[None])[0].numpy()
    blocks, flatten = net[0], slow_blocks(net[0], image).reshape(-1)
    assert len(blocks) == 9
    slow = np.maximum(net[2].weight.detach().numpy() @ flatten + net[2].bias.detach().numpy(), 0)
    np.testing.assert_allclose(fast, slow, rtol=1e-10, atol=1e-12)


def slow_blocks(blocks: nn.Sequential, image: np.ndarray) -> np.ndarray:
    for conv, pool in zip(blocks[0::3], blocks[1::3], strict=True):
        weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()
        kx, ky = weight.shape[2:]
        _, x, y = image.shape
        out = np.empty((len(weight), x - kx + 1, y - ky + 1))
        for c, i, j in np.ndindex(out.shape):
            out[c, i, j] = (weight[c] * image[:, i : i + kx, j : j + ky]).sum() + bias[c]
        px, py = pool.kernel_size
        pooled = np.empty((len(out), out.shape[1] // px, out.shape[2] // py))
        for c, i, j in np.ndindex(pooled.shape):
            pooled[c, i, j] = out[c, i * px : (i + 1) * px, j * py : (j + 1) * py].max()
        image = np.maximum(pooled, 0)
    return image


def planted(n=90, features=5, seed=0):
    rng = np.random.default_rng(seed)
    members = rng.permutation(np.arange(n) % 3 > 0)  # two members to one non-member
    values = rng.normal(size=(n, features)).astype(np.float32)
    values[:, 2] += 2.5 * members
    return Branch(Encoder.FLAT, values, values[::-1].copy()), members, np.arange(n) % 5 == 0


def test_a_planted_difference_is_learnt_and_zero_separates_unequal_classes_fairly():
    branch, members, validation = planted(n=300)
    fitted = encoder_logits([branch], members, validation=validation, schedule=Schedule(), seed=3)
    called = fitted.logits[::-1] > 0
    assert abs(called[members].mean() - (~called[~members]).mean()) < 0.12
    assert called[members].mean() > 0.8


def test_the_same_seed_gives_the_same_logits_and_another_seed_others():
    branch, members, validation = planted()
    first, again, other = (
        encoder_logits(
            [branch], members, validation=validation, schedule=Schedule(epochs=5, steps=0), seed=seed
        ).logits
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_threads_and_torchs_generator_are_left_as_they_were():
    branch, members, validation = planted()
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    encoder_logits([branch], members, validation=validation, schedule=Schedule(epochs=2, steps=0), seed=3)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_validation_scans_are_never_trained_on():
    branch, members, validation = planted()
    poisoned = branch.leaked.copy()
    poisoned[validation] *= -50
    logits = [
        encoder_logits(
            [Branch(Encoder.FLAT, leaked, branch.target)],
            members,
            validation=validation,
            schedule=Schedule(epochs=1, steps=0),
            seed=3,
        ).logits
        for leaked in (branch.leaked, poisoned)
    ]
    np.testing.assert_array_equal(*logits)


def test_training_stops_after_the_patience_and_keeps_the_best_epoch():
    members, validation = np.arange(60) % 2 == 0, np.arange(60) % 5 == 0
    told = np.where(members ^ validation, 1.0, -1.0)[:, None].astype(np.float32)  # wrong where it validates
    branch = Branch(Encoder.FLAT, told, told)
    run = {"members": members, "validation": validation, "seed": 1}
    endless = encoder_logits([branch], schedule=Schedule(epochs=10**9, patient_steps=0), **run)
    assert endless.best_epoch == 1
    single = encoder_logits([branch], schedule=Schedule(epochs=1, steps=0), **run)
    np.testing.assert_array_equal(endless.logits, single.logits)


@pytest.mark.parametrize(
    ("scans", "limits"), [(2400, (100, 20)), (5000, (100, 20)), (320, (760, 48)), (36, (3800, 240))]
)
def test_smaller_leaked_sets_get_the_papers_number_of_steps(scans, limits):
    epochs, patience = Schedule().limits(scans)
    assert (epochs, patience) == limits
    assert epochs * math.ceil(scans / 64) >= 3800


def test_the_loss_weighs_both_classes_the_same():
    logits = torch.tensor([0.3, -1.2, 2.0, 0.7])
    members = np.array([True, True, True, False])
    sample = encoders._sample((logits[:, None],), members, np.ones(4, dtype=bool))
    losses = [math.log1p(math.exp(-z if m else z)) for z, m in zip(logits.tolist(), members, strict=True)]
    expected = (sum(losses[:3]) / 3 + losses[3]) / 2
    assert float(encoders._loss(logits, sample)) == pytest.approx(expected, rel=1e-6)


def test_many_scans_are_scored_in_batches_without_loss():
    network = nn.Linear(3, 1).eval()
    x = torch.randn(2 * encoders.SCORING_BATCH + 7, 3)
    torch.testing.assert_close(encoders._scored(network, (x,)), network(x).detach())


class Tail(nn.Module):
    """Later layers with everything that could go wrong: in place, BatchNorm, dropout, an age as output."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(inplace=True),
            nn.Conv3d(4, 6, 1),
            nn.BatchNorm3d(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(6, 1),
        )
        nn.init.constant_(self.layers[-1].bias, 62.68)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).squeeze(1)


def activations(n, seed=0):
    rng = np.random.default_rng(seed)
    members = np.arange(n) % 2 == 0
    values = rng.normal(size=(n, 4, 2, 3, 5)).astype(np.float32)
    values[:, 1] += members[:, None, None, None] * 0.8
    return Branch(Encoder.FLAT, values, values.copy()), members, np.arange(n) % 10 < 2


def test_a_tail_is_fine_tuned_as_a_copy_and_left_as_it_was():
    torch.manual_seed(0)
    tail = Tail().requires_grad_(False).eval()
    before = {name: value.clone() for name, value in tail.state_dict().items()}
    branch, members, validation = activations(250)
    kept = branch.leaked.copy()
    fitted = tail_logits(tail, branch, members, validation=validation, schedule=Schedule(), seed=3)
    called = fitted.logits > 0
    assert (called == members).mean() > 0.7
    assert all(torch.equal(value, before[name]) for name, value in tail.state_dict().items())
    assert not tail.training
    assert not any(p.requires_grad for p in tail.parameters())
    np.testing.assert_array_equal(branch.leaked, kept)


def test_one_scan_left_over_does_not_stop_a_copied_batch_norm():
    branch, members, validation = activations(83)
    assert (~validation).sum() == 64 + 1
    fitted = tail_logits(
        Tail(), branch, members, validation=validation, schedule=Schedule(epochs=2, steps=0), seed=3
    )
    assert np.isfinite(fitted.logits).all()


def test_the_first_logits_of_a_tail_are_small_although_it_predicts_ages():
    torch.manual_seed(0)
    network = TailNet(Tail(), torch.randn(40, 4, 2, 3, 5), 0.5).eval()
    assert float(network(torch.randn(40, 4, 2, 3, 5)).detach().abs().max()) < 10


def test_a_silent_unit_of_an_embedding_does_not_blow_up():
    torch.manual_seed(0)
    tail = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 6), nn.ReLU())
    nn.init.constant_(tail[2].bias[2:3], -100.0)
    network = TailNet(tail, torch.randn(40, 4, 2, 3, 5), 0.5)
    assert float(network.scale.min() / network.scale.max()) > 1e-3
    assert network.dropout.p == 0.5
