import collections
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from privoxel.errors import ModelError, ModelProblemsError
from privoxel.models.weights import load_into, read_weights
from tests.brought_networks import in_place


def same(first, second):
    return all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())


class Run:
    """A pickle that would run a command if it were opened."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def test_a_state_dict_is_loaded_whatever_wraps_it(tmp_path):
    net, path = in_place(), tmp_path / "weights.pt"
    state = net.state_dict()
    wrapped = [
        state,
        {"state_dict": state, "epoch": 3},
        {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
        collections.OrderedDict((f"_orig_mod.module.{name}", tensor) for name, tensor in state.items()),
        {"model": {f"net.{name}": tensor for name, tensor in state.items()}},
    ]
    for content in wrapped:
        torch.save(content, path)
        other = in_place(seed=4)
        load_into(other, read_weights(path), source="weights.pt")
        assert same(net, other)


def test_safetensors_are_loaded(tmp_path):
    net, other = in_place(), in_place(seed=4)
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    load_into(other, read_weights(tmp_path / "weights.safetensors"), source="weights")
    assert same(net, other)


def test_a_network_that_wraps_itself_takes_its_own_names_and_bare_ones():
    class Outer(nn.Module):
        def __init__(self, seed):
            super().__init__()
            self.net = in_place(seed=seed)

    source, bare, own = Outer(3), Outer(4), Outer(5)
    load_into(bare, source.net.state_dict(), source="weights")
    load_into(own, source.state_dict(), source="weights")
    assert same(source, bare)
    assert same(source, own)


def test_every_tensor_that_does_not_fit_is_named():
    state = dict(in_place().state_dict())
    state["head.weight"] = torch.zeros(2, 4)
    state["extra.weight"] = state.pop("body.bias")
    with pytest.raises(ModelProblemsError) as caught:
        load_into(in_place(), state, source="weights.pt")
    assert {problem.where for problem in caught.value.problems} == {
        "body.bias",
        "extra.weight",
        "head.weight",
    }
    assert "(2, 4) in the file and (1, 4) in the network" in str(caught.value)
    assert same(in_place(), in_place())


def test_a_missing_counter_of_batches_is_no_fault():
    state = {n: t for n, t in in_place().state_dict().items() if not n.endswith("num_batches_tracked")}
    load_into(in_place(seed=4), state, source="weights.pt")


def test_a_pickle_that_needs_more_is_refused_with_how_to_convert_it_and_never_run(tmp_path):
    marker = tmp_path / "ran"
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": {}, "hook": Run(str(marker))}, path)
    with pytest.raises(ModelError, match=r"could run any code.*convert it.*--trust-pickle"):
        read_weights(path)
    assert not marker.exists()


def test_a_whole_model_is_refused_and_read_when_trusted(tmp_path):
    path, net = tmp_path / "model.pt", in_place()
    torch.save(net, path)
    with pytest.raises(ModelError, match="weights_only=False"):
        read_weights(path)
    other = in_place(seed=4)
    load_into(other, read_weights(path, trust_pickle=True), source="model.pt")
    assert same(net, other)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"weights", pickle.dumps([1, 2])])
def test_files_that_hold_no_weights_are_explained(tmp_path, content):
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"weights\.pt needs"):
        read_weights(path)
    (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"weights\.safetensors needs"):
        read_weights(tmp_path / "weights.safetensors")


def test_a_checkpoint_without_weights_says_what_it_holds(tmp_path):
    torch.save({"epoch": 3, "loss": 1.0}, tmp_path / "c.pt")
    with pytest.raises(ModelError, match="got epoch, loss"):
        read_weights(tmp_path / "c.pt")
    with pytest.raises(ModelError, match="not there"):
        read_weights(tmp_path / "nowhere.pt")
