"""One network, several targets: the loss is the sum over all of them, age is still the answer."""

import numpy as np
import pytest
import torch
from torch import nn

from privoxel.errors import ModelError
from privoxel.gradients.one_pass import Extractor
from privoxel.gradients.request import Request
from privoxel.models.adapted import WhiteBox, adapt, chosen_output
from privoxel.models.heads import Gaussian, Scalar, SoftBins
from privoxel.models.several import Several, needed_columns, stated_spread
from privoxel.models.validation import find_problems
from tests.brought_networks import GRID, in_place

NAN = float("nan")
TRUTHS = torch.tensor(
    [[47.5, 1.4, 12.0], [80.25, 1.7, NAN], [62.0, NAN, NAN], [55.0, NAN, 9.0], [71.0, 1.1, 18.0]],
    dtype=torch.float64,
)
THREE = Several(
    age=Scalar("huber", offset=62.0, scale=8.0, delta=0.5),
    others={"tiv": Scalar("l1", offset=1.5, scale=0.1), "education": Scalar(offset=12.0, scale=3.0)},
    weights={"tiv": 0.5, "education": 2.0},
)


def outputs(scans=5, values=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(scans, values, dtype=torch.float64, generator=generator)


def volumes(scans=5):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(scans, 1, *GRID, dtype=torch.float64, generator=generator)


def slow_loss_of_three(values, truth):
    """The loss of one scan of ``THREE``, number by number."""
    age, tiv, education = values
    off = abs(age - (truth[0] - 62.0) / 8.0)
    total = 0.5 * off**2 if off < 0.5 else 0.5 * (off - 0.25)
    if not np.isnan(truth[1]):
        total = total + 0.5 * abs(tiv - (truth[1] - 1.5) / 0.1)
    if not np.isnan(truth[2]):
        total = total + 2.0 * (education - (truth[2] - 12.0) / 3.0) ** 2
    return total


def test_the_loss_is_the_weighted_sum_in_the_networks_units_without_what_is_not_known():
    output = outputs()
    expected = [slow_loss_of_three(*rows) for rows in zip(output.tolist(), TRUTHS.tolist(), strict=True)]
    np.testing.assert_allclose(THREE.losses(output, TRUTHS).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(THREE.ages(output).numpy(), 62.0 + 8.0 * output[:, 0].numpy())
    assert THREE.columns == needed_columns(THREE) == ("tiv", "education")
    assert needed_columns(Scalar()) == ()


class Twice(nn.Module):
    """One layer that the age is read from at once and the other targets after a detour."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 3)
        self.shared = nn.Linear(2, 2)
        self.age = nn.Linear(2, 1)
        self.rest = nn.Linear(2, 2)

    def forward(self, maps):
        features = self.conv(maps).square().mean((2, 3, 4))
        once = self.shared(features)
        return self.age(once), *self.rest(self.shared(once.sin())).unbind(1)


def twice():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Twice().double().eval()


@pytest.mark.parametrize(
    "make", [lambda: in_place(3).double(), twice], ids=["in place", "a layer used twice"]
)
@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [2, 2], [1]], ids=str)
def test_gradients_are_those_of_the_summed_loss_of_each_scan(make, rows):
    scans, truths = volumes(), TRUTHS
    model = adapt(WhiteBox(make(), THREE), scans[:1])
    names = tuple(name for name, _ in model.named_parameters())
    request = Request(gradients=names, norms=True, projection=5)
    extractor = Extractor(model, request, volumes=scans, ages=truths, loss=THREE.losses)
    assert not extractor.fallbacks
    found = extractor(scans[rows], truths[rows])
    slow = make()
    for place, row in enumerate(rows):
        slow.zero_grad()
        returned = chosen_output(slow(scans[row : row + 1]), None)[0]
        slow_loss_of_three(returned.unbind(), truths[row].tolist()).backward()
        expected = {
            f"net.{name}": torch.zeros_like(p) if p.grad is None else p.grad
            for name, p in slow.named_parameters()
        }
        largest = max(float(g.norm()) for g in expected.values())
        for k, name in enumerate(names):
            assert float((found.gradients[name][place] - expected[name]).norm()) <= 1e-9 * largest, name
            assert abs(float(found.norms[place, k] - expected[name].norm())) <= 1e-9 * largest, name


def test_no_scans_have_no_gradients():
    scans = volumes()
    model = adapt(WhiteBox(in_place(3).double(), THREE), scans[:1])
    extractor = Extractor(model, Request(norms=True), volumes=scans, ages=TRUTHS, loss=THREE.losses)
    assert extractor(scans[:0], TRUTHS[:0]).norms.shape == (0, len(list(model.parameters())))


def test_targets_are_found_by_position_and_one_head_may_read_what_is_left():
    bins = SoftBins(40, 90, width=5, sigma=3)
    head = Several(bins, {"tiv": Scalar(target=2)}, {"tiv": 3.0})
    output = outputs(values=11)
    rest = output[:, [0, 1, *range(3, 11)]]
    torch.testing.assert_close(head.ages(output), bins.ages(rest))
    known = torch.tensor([[50.0, 0.5]] * 5, dtype=torch.float64)
    expected = bins.losses(rest, known[:, 0]) + 3.0 * (output[:, 2] - 0.5) ** 2
    torch.testing.assert_close(head.losses(output, known), expected)


def test_a_spread_of_the_age_is_stated_whatever_stands_beside_it():
    gaussian = Gaussian("sd", scale=2.0)
    head = Several(gaussian, {"tiv": Scalar(target=0)})
    output = outputs()
    torch.testing.assert_close(stated_spread(head)(output), gaussian.sds(output[:, 1:]))
    assert stated_spread(THREE) is None
    assert stated_spread(Several(Scalar(target=0), {"tiv": gaussian})) is None


class WithColumns:
    """A user's own head that needs a column besides the age."""

    columns = ("tiv",)

    def ages(self, output):
        return output[:, 0]

    def losses(self, output, ages):
        return (output - ages).square().sum(1)


def test_a_head_of_ones_own_says_by_itself_what_it_needs():
    assert needed_columns(WithColumns()) == ("tiv",)
    model = adapt(WhiteBox(in_place(2).double(), WithColumns()), volumes(1))
    truths = TRUTHS[[0, 1, 4], :2]
    extractor = Extractor(model, Request(norms=True), volumes=volumes(3), ages=truths, loss=model.head.losses)
    expected = (model(volumes(3)) - truths).square().sum(1)
    torch.testing.assert_close(extractor(volumes(3), truths).loss, expected.detach())


@pytest.mark.parametrize(
    ("age", "others", "weights", "words"),
    [
        (Scalar(), {}, {}, "others needs targets by column"),
        (Scalar(), {"age": Scalar()}, {}, "age not among them"),
        (Scalar(), {"tiv": "mse"}, {}, "need heads, got none for tiv"),
        (Scalar(), {"tiv": THREE}, {}, "heads of one target, got more for tiv"),
        (Scalar(target=0), {"tiv": Scalar()}, {}, "position in every Scalar or in none, got none for tiv"),
        (SoftBins(40, 90), {"tiv": Scalar()}, {}, "got none for tiv"),
        (Scalar(target=1), {"tiv": Scalar(target=1)}, {}, "got the positions 1, 1"),
        (SoftBins(40, 90), {"tiv": Gaussian()}, {}, "at most one head may be no Scalar"),
        (
            Scalar(),
            {"tiv": Scalar()},
            {"TIV": 1.0, "tiv": 0.0},
            "among age, tiv, got TIV; .*above 0, got 0.0 for tiv",
        ),
    ],
)
def test_choices_that_cannot_be_used_are_told_together(age, others, weights, words):
    with pytest.raises(ModelError, match=f"Several head: .*{words}"):
        Several(age, others, weights)


def test_a_network_of_another_number_of_values_is_refused():
    with pytest.raises(ModelError, match=r"needs 3 values per scan, got an output of shape \(5, 2\)"):
        THREE.ages(outputs(values=2))
    with pytest.raises(
        ModelError, match=r"true values of age, tiv, education .* got a tensor of shape \(5,\)"
    ):
        THREE.losses(outputs(), TRUTHS[:, 0])


def test_what_is_wrong_with_the_loss_of_another_target_is_told_among_the_problems():
    def over_the_batch(predicted, truth):
        return (predicted - truth).square().mean()

    for other, words in (
        (Scalar(over_the_batch, target=1), "needs one loss of tiv per scan, got () for 5 scans"),
        (Scalar(target=7), "needs at least 8 values per scan"),
    ):
        model = WhiteBox(in_place(3), Several(Scalar(target=0), {"tiv": other}))
        found = find_problems(adapt(model, volumes(1).float()), volumes().float(), torch.full((5, 2), 60.0))
        assert [problem.where for problem in found] == ["loss"]
        assert words in str(found[0])
        assert found[0].remedy


def test_several_things_that_a_network_returns_are_put_side_by_side():
    age, tiv, bins = torch.ones(3, 1), torch.zeros(3), torch.full((3, 4), 2.0)
    np.testing.assert_array_equal(chosen_output((age, tiv, age), None), [[1, 0, 1]] * 3)
    returned = {"tiv": tiv, "age": age, "bins": bins}
    np.testing.assert_array_equal(chosen_output(returned, ("age", "tiv")), [[1, 0]] * 3)
    np.testing.assert_array_equal(chosen_output(returned, ("bins", "tiv")), [[2, 2, 2, 2, 0]] * 3)
    with pytest.raises(ModelError, match="needs 'sex' among"):
        chosen_output(returned, ("age", "sex"))
