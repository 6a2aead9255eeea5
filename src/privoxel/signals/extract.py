"""Extraction: a model, its snapshots and a cohort in, memory-mapped signals out.

In evaluation mode, in batches, streamed to ``.npy`` files: memory does not grow with the
number of scans. Gradients are of each scan's own squared error (years²), the training loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from privoxel.arrays import FloatArray, IntArray
from privoxel.cohort.base import Cohort, Covariates
from privoxel.errors import SignalError
from privoxel.gradients.per_sample import per_sample_gradients
from privoxel.models.base import AuditableModel
from privoxel.progress import Progress
from privoxel.signals.table import ACTIVATION, GRADIENT, GRADIENT_NORMS, PREDICTION, LazyArray, SignalTable
from privoxel.training.loop import load_weights
from privoxel.training.runtime import Runtime

HALF_MAX = 65504.0


@final
@dataclass(frozen=True)
class Extraction:
    """What to extract: signal names, the number of scans a pass holds in memory, and where it is computed."""

    signals: tuple[str, ...]
    batch_size: int = 8
    runtime: Runtime = field(default_factory=Runtime)

    @property
    def gradient_layers(self) -> tuple[str, ...]:
        """Layers whose weight gradient is kept whole."""
        return tuple(name.removeprefix(GRADIENT) for name in self.signals if name.startswith(GRADIENT))

    @property
    def activation_layers(self) -> tuple[str, ...]:
        """Layers whose block output is kept."""
        return tuple(name.removeprefix(ACTIVATION) for name in self.signals if name.startswith(ACTIVATION))


class Extracted(NamedTuple):
    """Signal files by name, the parameter tensors behind the norms, and how many values were clipped."""

    files: dict[str, Path]
    tensors: tuple[str, ...]
    clipped: int


def check_signals(model: AuditableModel, extraction: Extraction) -> None:
    """Raise ``SignalError`` naming every asked-for signal that ``model`` cannot give."""
    known = {PREDICTION, GRADIENT_NORMS}
    known |= {f"{kind}{layer}" for kind in (GRADIENT, ACTIVATION) for layer in model.layers}
    unknown = [name for name in extraction.signals if name not in known]
    if unknown:
        raise SignalError(
            f"Extraction needs signals of this model ({', '.join(sorted(known))}), got {', '.join(unknown)}. "
            "Remove them from [signals] or name other layers."
        )


def signal_bytes(model: AuditableModel, extraction: Extraction, volume: Tensor) -> int:
    """Return the bytes on disk that the signals of one scan and snapshot will take.

    ``volume`` is any scan on the model's device, (1, 1, x, y, z); its activations give the sizes.
    """
    weights = dict(model.named_parameters())
    half = sum(weights[f"{layer}.weight"].numel() for layer in extraction.gradient_layers)
    with torch.no_grad():
        half += sum(a[0].numel() for a in model.activations(volume, extraction.activation_layers).values())
    return 2 * half + 4 * (1 + len(weights))


def extract(
    model: AuditableModel,
    snapshots: Sequence[Path],
    cohort: Cohort,
    extraction: Extraction,
    *,
    folder: Path,
    progress: Progress,
) -> Extracted:
    """Write the signals of every scan of ``cohort`` for each snapshot of ``model`` into ``folder``.

    Raises:
        SignalError: for signals the model cannot give, or if a value is not finite (naming the scan's row).
    """
    check_signals(model, extraction)
    extraction.runtime.place(model)
    model.eval()
    folder.mkdir(parents=True, exist_ok=True)
    sink = _Sink(folder, len(snapshots), len(cohort))
    with progress.task("signals", len(snapshots) * len(cohort)) as task:
        for k, snapshot in enumerate(snapshots):
            load_weights(model, snapshot)
            for start in range(0, len(cohort), extraction.batch_size):
                rows = np.arange(start, min(start + extraction.batch_size, len(cohort)))
                for name, values in _signals_of(model, cohort, rows, extraction).items():
                    sink.write(name, k, rows, values)
                task.advance(len(rows))
    tensors = tuple(name for name, _ in model.named_parameters())
    return Extracted(sink.close(), tensors, sink.clipped)


def _signals_of(
    model: AuditableModel, cohort: Cohort, rows: IntArray, extraction: Extraction
) -> dict[str, npt.NDArray[Any]]:
    runtime = extraction.runtime
    volumes = runtime.volumes(cohort.batch(rows))
    ages = torch.as_tensor(cohort.covariates.age[rows], dtype=torch.float32, device=runtime.device)
    out: dict[str, npt.NDArray[Any]] = {}
    if extraction.activation_layers:
        with torch.no_grad():
            activations = model.activations(volumes, extraction.activation_layers)
        out |= {f"{ACTIVATION}{layer}": _numpy(value) for layer, value in activations.items()}
    wants_norms = GRADIENT_NORMS in extraction.signals
    if not (wants_norms or extraction.gradient_layers):
        with torch.no_grad():
            return out | {PREDICTION: _numpy(model(volumes))}
    names = tuple(f"{layer}.weight" for layer in extraction.gradient_layers)
    sample = per_sample_gradients(
        model, volumes, ages, names=names, norms=wants_norms, chunk_size=extraction.batch_size
    )
    out[PREDICTION] = _numpy(sample.prediction)
    if sample.norms is not None:
        out[GRADIENT_NORMS] = _numpy(sample.norms)
    for layer, name in zip(extraction.gradient_layers, names, strict=True):
        out[f"{GRADIENT}{layer}"] = _numpy(sample.gradients[name])
    return out


def _numpy(values: Tensor) -> npt.NDArray[Any]:
    return values.detach().float().cpu().numpy()


@final
class _Sink:
    """Open ``.npy`` files of the signals; long vectors in half precision, scalars and norms in float32."""

    def __init__(self, folder: Path, snapshots: int, scans: int) -> None:
        self._folder = folder
        self._axes = (1, snapshots, scans)
        self._open: dict[str, np.memmap[Any, Any]] = {}
        self.clipped = 0

    def write(self, name: str, snapshot: int, rows: IntArray, values: npt.NDArray[Any]) -> None:
        if not np.isfinite(values).all():
            bad = rows[~np.isfinite(values.reshape(len(rows), -1)).all(axis=1)]
            raise SignalError(
                f"Signal {name} needs finite values, got others for the scans in rows {bad.tolist()}. "
                "Check these volumes and the model's weights."
            )
        is_long = name not in {PREDICTION, GRADIENT_NORMS}
        if is_long:
            self.clipped += int((np.abs(values) > HALF_MAX).sum())
            values = np.clip(values, -HALF_MAX, HALF_MAX)
        if name not in self._open:
            self._open[name] = open_memmap(
                self._folder / signal_file(name),
                mode="w+",
                dtype=np.float16 if is_long else np.float32,
                shape=(*self._axes, *values.shape[1:]),
            )
        self._open[name][0, snapshot, rows] = values

    def close(self) -> dict[str, Path]:
        for array in self._open.values():
            array.flush()
        return {name: self._folder / signal_file(name) for name in self._open}


def signal_file(name: str) -> str:
    """Return the file name of a signal."""
    return name.replace(":", "_") + ".npy"


def open_table(
    folder: Path,
    *,
    covariates: Covariates,
    model: str,
    snapshots: Sequence[str],
    membership: npt.NDArray[np.int8],
    tensors: tuple[str, ...] = (),
) -> SignalTable:
    """Return the table over the signals in ``folder``, memory-mapped.

    ``membership`` holds one state per scan.
    """
    names = [PREDICTION, GRADIENT_NORMS]
    files = {name: folder / signal_file(name) for name in names if (folder / signal_file(name)).exists()}
    for prefix in (GRADIENT, ACTIVATION):
        files |= {
            prefix + path.stem.removeprefix(prefix.replace(":", "_")): path
            for path in sorted(folder.glob(f"{prefix.replace(':', '_')}*.npy"))
        }
    values = {name: LazyArray(path) for name, path in files.items()}
    return SignalTable(covariates, (model,), tuple(snapshots), membership[None], values, tensors)


def total_norm(table: SignalTable, snapshot: int = -1) -> FloatArray:
    """Return the norm of the whole gradient of every scan; NaN where norms were not extracted."""
    if GRADIENT_NORMS not in table.values:
        return np.full(len(table), np.nan)
    return np.linalg.norm(table.read(GRADIENT_NORMS, snapshot=snapshot).astype(np.float64), axis=1)
