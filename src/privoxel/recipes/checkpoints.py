"""Earlier weights of a brought network, as snapshots that signals are extracted from."""

import hashlib
import shutil
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import final

from privoxel.models.adapted import AdaptedModel
from privoxel.models.weights import load_into, read_weights
from privoxel.recipes.target import Workplace
from privoxel.training.loop import save_weights


@final
@dataclass(frozen=True)
class Deeper:
    """What an audit of a network looks at besides scans and the weights at hand.

    ``stability``: moved, turned and noisy copies of the scans. ``checkpoints``: files of earlier weights,
    oldest first; pickles of more than tensors are opened with ``trust_pickle`` alone.
    """

    stability: bool = False
    checkpoints: tuple[Path, ...] = ()
    trust_pickle: bool = False

    @property
    def facts(self) -> dict[str, bool | list[str]]:
        """What decides something: whether there are copies, and digests of the checkpoints.

        Raises:
            ModelError: if a checkpoint cannot be read.
        """
        found: dict[str, bool | list[str]] = {"stability": True} if self.stability else {}
        if self.checkpoints:
            found["checkpoints"] = [self._digest(path) for path in self.checkpoints]
        return found

    def _digest(self, path: Path) -> str:
        read_weights(path, trust_pickle=self.trust_pickle)  # refuses what is no file of weights
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def as_snapshots(model: AdaptedModel, deeper: Deeper, name: str, workplace: Workplace) -> tuple[Path, ...]:
    """Return files of ``model`` with the weights of each checkpoint, oldest first, and with its own last.

    Raises:
        ModelError: if a checkpoint cannot be read.
        ModelProblemsError: if one holds the weights of another network.
    """
    folder, step = workplace.folder.path / "snapshots" / name, f"{name}/checkpoints"
    count = len(deeper.checkpoints) + 1
    paths = tuple(folder / f"checkpoint-{k:04d}.safetensors" for k in range(1, count + 1))
    if not workplace.folder.done(step):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        earlier = deepcopy(model)
        save_weights(earlier, paths[-1])
        for path, checkpoint in zip(paths[:-1], deeper.checkpoints, strict=True):
            weights = read_weights(checkpoint, trust_pickle=deeper.trust_pickle)
            load_into(earlier.net, weights, source=checkpoint.name)
            save_weights(earlier, path)
        workplace.folder.finish(step, checkpoints=len(deeper.checkpoints))
    return paths
