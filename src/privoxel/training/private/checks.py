"""What keeps a model from being trained privately."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from privoxel.errors import ModelError


def check_model(model: nn.Module) -> None:
    """Refuse a model in which the gradient of one scan depends on other scans.

    Raises:
        ModelError: naming every layer that couples scans, and why.
    """
    faults = []
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            faults.append(
                f"{name} ({type(module).__name__}) normalises a scan by the others of its batch, so that "
                "clipping a scan's gradient does not bound what it does to theirs"
            )
        elif isinstance(module, _InstanceNorm) and module.track_running_stats:
            faults.append(
                f"{name} ({type(module).__name__}) keeps running statistics of scans, which no noise covers"
            )
    if faults:
        raise ModelError(
            f"Private training needs scans that do not meet before the loss, got {'; '.join(faults)}. "
            "Replace batch norms by GroupNorm or InstanceNorm (track_running_stats=False)."
        )
