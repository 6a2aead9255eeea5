import pytest
import torch
from torch import nn
from torch.nn import functional

from privoxel.errors import ModelError
from privoxel.models.adapted import AdaptedModel, WhiteBox
from privoxel.models.heads import Scalar
from privoxel.models.validation import find_problems
from tests.brought_networks import GRID, in_place

AGES = torch.tensor([47.5, 80.25, 62.0])
VOLUMES = torch.randn(3, 1, *GRID, generator=torch.Generator().manual_seed(1))


def problems(net, head=None, **options):
    model = AdaptedModel(WhiteBox(net, head or Scalar(), **options))
    model.training = False
    return find_problems(model, VOLUMES, AGES)


def told(found):
    return " | ".join(str(problem) for problem in found)


def test_a_sound_network_has_none_although_it_works_in_place():
    assert problems(in_place()) == ()


def test_training_mode_is_told_for_norms_and_dropouts_at_once():
    found = problems(in_place().train())
    assert {problem.where for problem in found} >= {"batch norm", "dropout"}
    assert "norm in training mode" in told(found)
    assert "Call eval()" in told(found)


def test_norms_without_running_statistics_mix_scans_even_in_evaluation():
    net = in_place()
    net.norm = nn.BatchNorm3d(4, track_running_stats=False)
    found = problems(net.eval())
    assert [p.where for p in found] == ["batch norm", "batch"]


class Mixing(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(720, 1)

    def forward(self, volumes):
        flat = volumes.flatten(1)
        return self.out(flat - flat.mean(0))


class Dropping(Mixing):
    def forward(self, volumes):
        return self.out(functional.dropout(volumes.flatten(1), 0.5, training=True))


class Detached(Mixing):
    def forward(self, volumes):
        with torch.no_grad():
            return self.out(volumes.flatten(1))


class Broken(Mixing):
    def forward(self, volumes):
        return self.out(volumes.flatten(1)) / 0


@pytest.mark.parametrize(
    ("net", "where", "words"),
    [
        (Mixing(), "batch", "another output alone than beside others"),
        (Dropping(), "repeatability", "training=self.training"),
        (Detached(), "loss", "does not depend on the weights"),
        (Broken(), "output", "not finite for 3 of 3"),
        (nn.Sequential(nn.Flatten(), nn.Linear(720, 2)), "output shape", "needs one value per scan"),
        (nn.Sequential(nn.Flatten(0), nn.Linear(2160, 1)), "output shape", r"(1,) for 3 scans"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(700, 1)),
            "forward",
            "RuntimeError on scans of shape 3×1×8×10×9",
        ),
        (nn.Flatten(0), "weights", "no parameters"),
        (nn.Sequential(nn.Flatten(), nn.Linear(720, 1, device="meta")), "device", "meta device"),
    ],
)
def test_each_fault_is_named_with_a_remedy(net, where, words):
    found = problems(net.eval())
    assert where in {problem.where for problem in found}
    assert words in told(found)
    assert all(problem.remedy for problem in found)


def test_weights_that_are_not_finite_are_named():
    net = in_place()
    with torch.no_grad():
        net.body.bias[0] = float("nan")
    assert "body.bias not finite" in told(problems(net))


class NoLoss:
    def ages(self, output):
        return output.flatten()


class Reduced(NoLoss):
    def losses(self, output, ages):
        return (output.flatten() - ages).square().mean()


def test_a_missing_loss_and_one_over_the_whole_batch_are_told():
    assert "the head has none" in told(problems(in_place(), NoLoss()))
    assert "reduction='none'" in told(problems(in_place(), Reduced()))


class Answering(NoLoss):
    """A head that answers what the test says."""

    def __init__(self, losses=None, ages=None):
        self._losses, self._ages = losses, ages

    def ages(self, output):
        return output.flatten() if self._ages is None else self._ages(output)

    def losses(self, output, ages):
        return self._losses(output, ages) if self._losses else (output.flatten() - ages).square()


def nan_for_one(output):
    return output.flatten().index_fill(0, torch.tensor([1]), float("nan"))


@pytest.mark.parametrize(
    ("head", "where", "words"),
    [
        (Answering(losses=lambda *_: None), "loss", "NoneType for 3 scans"),
        (Answering(losses=lambda *_: 0.5), "loss", "float for 3 scans"),
        (Answering(losses=lambda *_: 1 / 0), "loss", "ZeroDivisionError on scans"),
        (Answering(losses=lambda *_: next(iter(()))), "loss", "StopIteration on scans"),
        (Answering(ages=lambda output: output.flatten().tolist()), "ages", "list for 3 scans"),
        (Answering(ages=lambda output: output), "ages", "(3, 1) for 3 scans"),
        (Answering(ages=lambda _: 1 / 0), "ages", "ZeroDivisionError"),
        (Answering(ages=nan_for_one), "ages", "not finite for 1 of 3"),
    ],
)
def test_whatever_a_head_does_is_told_and_raises_nothing(head, where, words):
    (found,) = problems(in_place(), head)
    assert found.where == where
    assert words in found.what
    assert found.remedy


class StatesNothingFinite(Answering):
    def sds(self, output):
        return output.flatten() / 0


def test_stated_deviations_that_are_not_finite_are_told():
    (found,) = problems(in_place(), StatesNothingFinite())
    assert found.where == "sds"


class Raising(Mixing):
    def __init__(self, fewest):
        super().__init__()
        self.fewest = fewest

    def forward(self, volumes):
        assert len(volumes) >= self.fewest or 1 / 0
        return self.out(volumes.flatten(1))


def test_a_forward_pass_that_fails_in_any_way_is_told():
    (found,) = problems(Raising(9).eval())
    assert (found.where, found.what[:17]) == ("forward", "ZeroDivisionError")
    (found,) = problems(Raising(2).eval())
    assert (found.where, found.what[:17]) == ("batch", "ZeroDivisionError")
    assert "1×1×8×10×9" in found.what


@pytest.mark.parametrize(("net", "got"), [("net", "str"), (None, "NoneType"), (Mixing, "the class Mixing")])
def test_a_white_box_needs_a_network(net, got):
    with pytest.raises(ModelError, match=f"needs a network .* got {got}"):
        WhiteBox(net)


def test_validation_leaves_the_network_as_it_was():
    net = in_place()
    before = {
        name: p.requires_grad_(name != "stem.weight").requires_grad for name, p in net.named_parameters()
    }
    values = {name: t.clone() for name, t in net.state_dict().items()}
    problems(net)
    assert {name: p.requires_grad for name, p in net.named_parameters()} == before
    assert all(torch.equal(values[name], t) for name, t in net.state_dict().items())
