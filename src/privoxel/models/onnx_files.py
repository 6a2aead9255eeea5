"""ONNX models, run by onnxruntime: the one door to it.

What is executed is a graph of onnxruntime's own operators; no code comes with the file, and no library of
custom operators is loaded. Weights kept beside the file are read from its folder alone (onnxruntime's rule).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.errors import ConfigError, ModelError
from privoxel.models.predictor import Batch, FileFormat, digest_of, foreign, in_batches_of, one_age_each

TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}


@final
@dataclass(frozen=True)
class OnnxPredictor:
    """The model in the file at ``path``; pickles as its path. ``target`` chooses among several outputs."""

    path: Path
    target: int | None = None
    threads: int = 1

    def __reduce__(self) -> tuple[Any, ...]:
        return OnnxPredictor, (self.path, self.target, self.threads)

    @cached_property
    def _session(self) -> Any:
        try:
            import onnxruntime  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ConfigError(
                "ONNX models need onnxruntime, got none installed. Install privoxel[onnx]."
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            return onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelError(
                f"{self.path.name} needs to be an ONNX model that onnxruntime can run, got {foreign(error)}. "
                "Export it again with a supported opset."
            ) from error

    @cached_property
    def _input(self) -> tuple[str, Any, tuple[int | None, ...]]:
        given = self._session.get_inputs()
        if len(given) != 1 or given[0].type not in TYPES:
            found = ", ".join(f"{one.name} {one.type}" for one in given) or "none"
            raise ModelError(
                f"{self.path.name} needs one input of real numbers, got {found}. Export the model of scans "
                "alone."
            )
        shape = tuple(size if isinstance(size, int) else None for size in given[0].shape)
        return given[0].name, TYPES[given[0].type], shape

    @property
    def facts(self) -> Mapping[str, Any]:
        """Format, digest and chosen output."""
        chosen = {} if self.target is None else {"target": self.target}
        return {"format": str(FileFormat.ONNX), "sha256": digest_of(self.path), **chosen}

    @property
    def input_shape(self) -> tuple[int | None, ...] | None:
        """Shape of a batch, None where it is free."""
        return self._input[2] or None

    def predict(self, batch: Batch) -> FloatArray:
        """Return the first output as one age an entry, years; a fixed batch is filled up and cut."""
        name, kind, shape = self._input

        def run(part: Batch) -> FloatArray:
            try:
                answer = self._session.run([self._session.get_outputs()[0].name], {name: part.astype(kind)})[
                    0
                ]
            except Exception as error:
                raise ModelError(
                    f"{self.path.name} needs to run on a batch of shape {part.shape}, got {foreign(error)}. "
                    "Check grid and normalisation."
                ) from error
            return one_age_each(answer, len(part), self.target, self.path.name)

        return in_batches_of(shape[0] if shape else None, batch, run)
