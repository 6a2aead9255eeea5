"""Models in PyTorch's own deployment formats: TorchScript archives and exported programs (``.pt2``).

Nothing is unpickled beyond tensors. A TorchScript file is a program in TorchScript, which is interpreted: it
has no Python, but operators that can read and write files; load only files that you would run. An exported
program is a graph of PyTorch's operators, and ``exported.py`` refuses one that is more.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from privoxel.arrays import Float32Array, FloatArray
from privoxel.errors import ModelError
from privoxel.models.exported import faults_of
from privoxel.models.predictor import FileFormat, digest_of, foreign, in_batches_of, one_age_each

SHOWN_FAULTS = 3


@final
@dataclass(frozen=True)
class TorchPredictor:
    """The model in the file at ``path``; pickles as its path.

    ``target`` chooses among several outputs; ``trust_pickle`` loads an exported program that is more than a
    graph of operators, for the user's own files.
    """

    path: Path
    form: FileFormat
    target: int | None = None
    device: str = "cpu"
    trust_pickle: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        return TorchPredictor, (self.path, self.form, self.target, self.device, self.trust_pickle)

    @cached_property
    def _program(self) -> Any:
        try:
            if self.form is FileFormat.TORCHSCRIPT:
                return torch.jit.load(str(self.path), map_location=self.device).eval()
            return _exported(self.path, trust_pickle=self.trust_pickle)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(
                f"{self.path.name} needs to be a whole {self.form}, got {foreign(error)}. Save it again."
            ) from error

    @property
    def facts(self) -> Mapping[str, Any]:
        """Format, digest and chosen output."""
        chosen = {} if self.target is None else {"target": self.target}
        return {"format": str(self.form), "sha256": digest_of(self.path), **chosen}

    @property
    def input_shape(self) -> tuple[int | None, ...] | None:
        """Shape of a batch where an exported program states it; TorchScript does not."""
        return _stated_shape(self._program) if self.form is FileFormat.EXPORTED else None

    def predict(self, batch: Float32Array) -> FloatArray:
        """Return the first output as one age an entry, years."""
        stated = self.input_shape
        if stated is None:
            return self._run(batch)
        # programs of any batch size may still ask for two or more: sizes 0 and 1 are special to the exporter
        size = stated[0] or (2 if len(batch) == 1 else None)
        return in_batches_of(size, batch, self._run)

    @cached_property
    def _call(self) -> Any:
        return self._program.module() if self.form is FileFormat.EXPORTED else self._program

    def _run(self, part: Float32Array) -> FloatArray:
        given = torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32))
        if self.form is FileFormat.TORCHSCRIPT:
            given = given.to(self.device)
        try:
            with torch.inference_mode():
                answer = self._call(given)
        except Exception as error:
            raise ModelError(
                f"{self.path.name} needs to run on a batch of shape {part.shape}, got {foreign(error)}. "
                "Check grid, batch size and normalisation."
            ) from error
        return one_age_each(_first_tensor(answer, self.path.name), len(part), self.target, self.path.name)


def _exported(path: Path, *, trust_pickle: bool) -> Any:
    """Return an exported program after a look into it; what was looked into is what is loaded."""
    content = path.read_bytes()
    faults = [] if trust_pickle else faults_of(content)
    if faults:
        more = [f"{len(faults) - SHOWN_FAULTS} more"] if len(faults) > SHOWN_FAULTS else []
        found = "; ".join([*faults[:SHOWN_FAULTS], *more])
        raise ModelError(
            f"{path.name} needs to be a graph of PyTorch's operators, got {found}. Export "
            "it again with torch.export.save, or say --trust-pickle if you made the file yourself."
        )
    return torch.export.load(io.BytesIO(content))


def _stated_shape(program: Any) -> tuple[int | None, ...] | None:
    """Return the shape of the user's only input; symbolic sizes are None."""
    names = set(program.graph_signature.user_inputs)
    shapes = [
        tuple(size if isinstance(size, int) else None for size in node.meta["val"].shape)
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in names
    ]
    return shapes[0] if len(shapes) == 1 else None


def _first_tensor(answer: Any, who: str) -> Any:
    while isinstance(answer, list | tuple | dict) and answer:
        answer = next(iter(answer.values())) if isinstance(answer, dict) else answer[0]
    if not isinstance(answer, Tensor):
        raise ModelError(
            f"{who} needs to return a tensor of ages, got {type(answer).__name__}. Return one age a scan."
        )
    return answer.detach().float().cpu().numpy()
