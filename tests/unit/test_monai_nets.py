import importlib.util
import json

import pytest
import torch

from privoxel.errors import ModelError
from privoxel.gradients.one_pass import Extractor
from privoxel.gradients.request import Request
from privoxel.models import zoo
from privoxel.models.adapted import WhiteBox, adapt
from privoxel.models.heads import Scalar
from privoxel.models.monai_nets import bundle_box, is_bundle, monai_net

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("monai") is None, reason="needs the extra monai"),
    pytest.mark.filterwarnings("ignore"),  # MONAI's own, at import
]

SMALL = {"spatial_dims": 3, "in_channels": 1, "out_channels": 1, "channels": [2, 3], "strides": [2, 2]}
REGRESSOR = {
    "_target_": "Regressor",
    "in_shape": [1, 8, 10, 9],
    "out_shape": [1],
    "channels": [2, 3],
    "strides": [2, 2],
}


def bundle(folder, config, net=None):
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    if net is not None:
        torch.save(net.state_dict(), folder / "models" / "model.pt")
    return folder


def regressor():
    arguments = {key: value for key, value in REGRESSOR.items() if key != "_target_"}
    return monai_net("Regressor", arguments, where="test")


def test_a_bundle_gives_its_network_with_its_weights(tmp_path):
    net = regressor()
    config = {"channels": [2, 3], "network_def": {**REGRESSOR, "channels": "@channels"}, "device": "$torch"}
    folder = bundle(tmp_path / "age", config, net)
    assert is_bundle(folder)
    assert not is_bundle(tmp_path)
    found = bundle_box(folder).net
    assert all(torch.equal(t, found.state_dict()[name]) for name, t in net.state_dict().items())


def test_a_bundle_in_yaml_is_read_too(tmp_path):
    folder = bundle(tmp_path / "age", {}, regressor())
    (folder / "configs" / "inference.json").unlink()
    (folder / "configs" / "inference.yaml").write_text(
        "network_def:\n  _target_: monai.networks.nets.Regressor\n  in_shape: [1, 8, 10, 9]\n"
        "  out_shape: [1]\n  channels: [2, 3]\n  strides: [2, 2]\n"
    )
    assert bundle_box(folder).head == Scalar()


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"_target_": "os.system", "command": "touch here"}, "which would import other code"),
        ({"_target_": "subprocess.Popen"}, "which would import other code"),
        ({**REGRESSOR, "channels": "$__import__('os').getcwd()"}, "would run code"),
        ({**REGRESSOR, "channels": "@nowhere"}, "needs @nowhere in its configuration"),
        ({**REGRESSOR, "channels": "@network_def::channels"}, "got a circle"),
        ({"_target_": "Nonesuch"}, "got 'Nonesuch'"),
        ({**REGRESSOR, "depth": 3}, "needs arguments that Regressor takes"),
        ("$@network", "needs a network"),
    ],
)
def test_a_bundle_never_runs_its_configuration(tmp_path, network, words):
    folder = bundle(tmp_path / "age", {"network_def": network}, regressor())
    with pytest.raises(ModelError, match=words.replace("$", r"\$").replace("(", r"\(")):
        bundle_box(folder)


def test_a_bundle_without_weights_says_where_they_belong(tmp_path):
    with pytest.raises(ModelError, match=r"models/model\.pt"):
        bundle_box(bundle(tmp_path / "age", {"network_def": REGRESSOR}))
    (tmp_path / "broken" / "configs").mkdir(parents=True)
    (tmp_path / "broken" / "configs" / "inference.json").write_text("{")
    with pytest.raises(ModelError, match=r"readable inference\.json"):
        bundle_box(tmp_path / "broken")


def small_densenet():
    arguments = {
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 1,
        "init_features": 4,
        "growth_rate": 3,
        "block_config": (2, 2),
        "bn_size": 2,
    }
    return monai_net("DenseNet", arguments, where="test")


def small_resnet():
    arguments = {
        "block": "basic",
        "layers": [1, 1, 1, 1],
        "block_inplanes": [2, 3, 4, 5],
        "spatial_dims": 3,
        "n_input_channels": 1,
        "num_classes": 1,
    }
    return monai_net("ResNet", arguments, where="test")


@pytest.mark.parametrize("build", [small_densenet, small_resnet])
def test_gradients_of_monai_networks_are_those_of_each_scan_alone(build):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build().double()
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
        scans = torch.randn(4, 1, 33, 36, 34, dtype=torch.float64)
    ages = torch.tensor([50.0, 61.0, 73.0, 80.0], dtype=torch.float64)
    model = adapt(WhiteBox(net), scans[:1])
    extractor = Extractor(model, Request(norms=True), volumes=scans, ages=ages, loss=model.head.losses)
    found = extractor(scans, ages)
    assert extractor.fallbacks == {}
    for row in range(4):
        model.zero_grad()
        (model(scans[row : row + 1])[0, 0] - ages[row]).square().backward()
        expected = torch.stack([p.grad.norm() for p in model.parameters()])
        assert ((found.norms[row] - expected).abs() <= 1e-9 * expected.max()).all()


@pytest.mark.parametrize("name", ["densenet121", "resnet10", "resnet18", "resnet50"])
def test_networks_of_the_zoo_have_one_output(name):
    with torch.device("meta"):
        net = getattr(zoo, name)().eval()
        assert net(torch.ones(2, 1, 64, 66, 65)).shape == (2, 1)
