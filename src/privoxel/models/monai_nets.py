"""MONAI's networks: 3D ResNet and DenseNet by name, and a bundle folder read without running its code.

The one door to MONAI. A bundle's configuration may hold Python expressions (``$...``) and name any class;
here only a network of ``monai.networks.nets`` with plain arguments is built, and anything else is refused.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from privoxel.errors import ModelError
from privoxel.models.adapted import WhiteBox
from privoxel.models.weights import load_into, read_weights

NETS = "monai.networks.nets"
CONFIGS = ("inference.json", "inference.yaml", "inference.yml", "train.json", "train.yaml", "train.yml")
NETWORK_KEYS = ("network_def", "network", "net", "model")
WEIGHTS = ("model.safetensors", "model.pt", "model.pth")
REFERENCES = 32
"""How often a reference may lead to another one."""


def is_bundle(path: Path) -> bool:
    """Return whether ``path`` is a folder laid out as a MONAI bundle."""
    return any((path / "configs" / name).is_file() for name in CONFIGS)


def monai_net(name: str, arguments: Mapping[str, Any], *, where: str) -> nn.Module:
    """Return the network of ``monai.networks.nets`` that is called ``name``.

    Raises:
        ModelError: if MONAI is not installed, has no such network, or does not take the arguments.
    """
    try:
        from monai.networks import nets  # noqa: PLC0415 - takes seconds, and few need it
    except ImportError as error:
        raise ModelError(
            f"{where} needs MONAI, which is not installed. Run: pip install 'privoxel[monai]'."
        ) from error
    made = getattr(nets, name, None)
    if made is None or not (isinstance(made, type) or callable(made)):
        raise ModelError(f"{where} needs a network of {NETS}, got {name!r}. Correct its _target_.")
    try:
        net = made(**arguments)
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{where} needs arguments that {name} takes, got: {error}. Correct them.") from error
    if not isinstance(net, nn.Module):
        raise ModelError(
            f"{where} needs a network, got {type(net).__name__} from {name}. Correct its _target_."
        )
    return net


def densenet121() -> nn.Module:
    """Return MONAI's DenseNet121 for volumes of one channel, with one output."""
    return monai_net(
        "DenseNet121", {"spatial_dims": 3, "in_channels": 1, "out_channels": 1}, where="DenseNet121"
    )


def resnet10() -> nn.Module:
    """Return MONAI's ResNet of 10 layers for volumes of one channel, with one output."""
    return _resnet("resnet10")


def resnet18() -> nn.Module:
    """Return MONAI's ResNet of 18 layers for volumes of one channel, with one output."""
    return _resnet("resnet18")


def resnet50() -> nn.Module:
    """Return MONAI's ResNet of 50 layers for volumes of one channel, with one output."""
    return _resnet("resnet50")


def _resnet(name: str) -> nn.Module:
    return monai_net(name, {"spatial_dims": 3, "n_input_channels": 1, "num_classes": 1}, where=name)


def bundle_box(folder: Path, *, weights: Path | None = None, trust_pickle: bool = False) -> WhiteBox:
    """Return the network of a bundle with its weights.

    Args:
        folder: with ``configs/inference.json`` (or ``.yaml``, or train) and ``models/model.pt``.
        weights: a file instead of the bundle's own.
        trust_pickle: open weights that are a pickle of more than tensors.

    Raises:
        ModelError: if a file is missing, the configuration needs code to run, or the weights do not fit.
    """
    config = _config_of(folder)
    where = f"Bundle {folder.name}"
    definition = next((config[key] for key in NETWORK_KEYS if _is_component(config.get(key))), None)
    if definition is None:
        raise ModelError(
            f"{where} needs a network ({', '.join(NETWORK_KEYS)}) with a _target_ in its configuration, got "
            f"{', '.join(config) or 'none'}. Give a factory (package.module:name) and its weights instead."
        )
    arguments = _resolved(definition, config, where)
    target = str(arguments.pop("_target_"))
    for key in [key for key in arguments if key.startswith("_")]:
        arguments.pop(key)
    package, _, name = target.rpartition(".")
    if package and package != NETS and not package.startswith(f"{NETS}."):
        raise ModelError(
            f"{where} needs a network of {NETS}, got {target}, which would import other code. Give a factory "
            "(package.module:name) that builds it, and --weights."
        )
    net = monai_net(name, arguments, where=where)
    file = weights or _weights_of(folder)
    load_into(net, read_weights(file, trust_pickle=trust_pickle), source=f"{where}: {file.name}")
    return WhiteBox(net)


def _is_component(value: Any) -> bool:
    return isinstance(value, Mapping) and "_target_" in value


def _config_of(folder: Path) -> dict[str, Any]:
    path = next((folder / "configs" / n for n in CONFIGS if (folder / "configs" / n).is_file()), None)
    if path is None:
        raise ModelError(
            f"Bundle {folder.name} needs configs/inference.json or .yaml, got a folder without. "
            "Give the bundle's own folder."
        )
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            content = json.loads(text)
        else:
            import yaml  # noqa: PLC0415 - only YAML users pay for it

            content = yaml.safe_load(text)
    except (OSError, ValueError) as error:
        raise ModelError(f"Bundle {folder.name} needs a readable {path.name}, got: {error}.") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "yaml":
            raise
        raise ModelError(f"Bundle {folder.name} needs a valid {path.name}, got: {error}.") from error
    if not isinstance(content, dict):
        raise ModelError(f"Bundle {folder.name} needs sections in {path.name}, got {type(content).__name__}.")
    return content


def _weights_of(folder: Path) -> Path:
    path = next((folder / "models" / name for name in WEIGHTS if (folder / "models" / name).is_file()), None)
    if path is None:
        raise ModelError(
            f"Bundle {folder.name} needs models/model.pt or model.safetensors, got neither. Give --weights."
        )
    return path


def _resolved(value: Any, config: Mapping[str, Any], where: str, depth: int = 0) -> Any:
    """Return ``value`` with references (``@name``) replaced; expressions are refused."""
    if depth > REFERENCES:
        raise ModelError(f"{where} needs references that end, got a circle. Correct its configuration.")
    if isinstance(value, Mapping):
        return {key: _resolved(part, config, where, depth + 1) for key, part in value.items()}
    if isinstance(value, list):
        return [_resolved(part, config, where, depth + 1) for part in value]
    if not isinstance(value, str) or value[:1] not in {"$", "@", "%"}:
        return value
    if value[0] != "@":
        raise ModelError(
            f"{where} needs plain arguments of its network, got the expression {value!r}, which would run "
            "code. Give a factory (package.module:name) that builds it, and --weights."
        )
    found: Any = config
    for key in value[1:].replace("#", "::").split("::"):
        if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        elif isinstance(found, Mapping) and key in found:
            found = found[key]
        else:
            raise ModelError(f"{where} needs {value} in its configuration, got none. Correct the reference.")
    return _resolved(found, config, where, depth + 1)
