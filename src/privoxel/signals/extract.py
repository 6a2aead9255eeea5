"""Extraction: a model, its snapshots and a cohort in, memory-mapped signals out.

In evaluation mode, in batches, streamed to ``.npy`` files: memory does not grow with the number of
scans. Every volume is read once for all snapshots, whose weights stay in memory, and every signal of a
batch comes from one pass. Gradients are of each scan's own squared error (years²), the training loss.
"""

from collections.abc import Iterator, Sequence
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
from privoxel.gradients.batching import suggest_batch
from privoxel.gradients.one_pass import Extractor
from privoxel.gradients.request import Request
from privoxel.models.base import AuditableModel
from privoxel.progress import Progress
from privoxel.signals.snapshots import Snapshots
from privoxel.signals.table import ACTIVATION, GRADIENT, GRADIENT_NORMS, PREDICTION, LazyArray, SignalTable
from privoxel.training.runtime import Runtime

HALF_MAX = 65504.0
MEMORY = 4 * 2**30


@final
@dataclass(frozen=True)
class Extraction:
    """What to extract, the number of scans a pass holds, and where it is computed.

    A ``batch_size`` of 0 takes what fits into ``memory`` bytes and, on a CPU, its caches.
    """

    signals: tuple[str, ...]
    batch_size: int = 0
    runtime: Runtime = field(default_factory=Runtime)
    memory: int = MEMORY

    @property
    def gradient_layers(self) -> tuple[str, ...]:
        """Layers whose weight gradient is kept whole."""
        return tuple(name.removeprefix(GRADIENT) for name in self.signals if name.startswith(GRADIENT))

    @property
    def request(self) -> Request:
        """What one pass must give."""
        return Request(
            gradients=tuple(f"{layer}.weight" for layer in self.gradient_layers),
            norms=GRADIENT_NORMS in self.signals,
            activations=self.activation_layers,
        )

    @property
    def activation_layers(self) -> tuple[str, ...]:
        """Layers whose block output is kept."""
        return tuple(name.removeprefix(ACTIVATION) for name in self.signals if name.startswith(ACTIVATION))


class Extracted(NamedTuple):
    """Signal files by name, the tensors behind the norms, and how it went.

    ``clipped`` counts values beyond half precision; ``batch_size`` is the number of scans a pass held and
    ``bytes_per_scan`` what each took at the peak; ``fallbacks`` says which tensors were computed the slower
    way, and why.
    """

    files: dict[str, Path]
    tensors: tuple[str, ...]
    clipped: int
    batch_size: int
    bytes_per_scan: int
    fallbacks: dict[str, str]


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
    folder.mkdir(parents=True, exist_ok=True)
    tensors = tuple(name for name, _ in model.named_parameters())
    weights = Snapshots(model, snapshots, extraction.runtime)
    sink = _Sink(folder, len(snapshots), len(cohort))
    volumes, ages = _batch(cohort, np.arange(min(2, len(cohort))), extraction.runtime)
    extractor = Extractor(model, extraction.request, volumes=volumes, ages=ages)
    size = extractor.bytes_per_scan(volumes, ages)
    batch_size = extraction.batch_size or suggest_batch(size, extraction.memory, volumes.device)
    with progress.task("signals", len(snapshots) * len(cohort)) as task:
        for start in range(0, len(cohort), batch_size):
            rows = np.arange(start, min(start + batch_size, len(cohort)))
            volumes, ages = _batch(cohort, rows, extraction.runtime)
            for k in range(len(snapshots)):
                weights.use(k)
                for part in _passes(extractor, volumes, ages):
                    for name, values in part.values.items():
                        sink.write(name, k, rows[part.rows], values)
                task.advance(len(rows))
    return Extracted(sink.close(), tensors, sink.clipped, batch_size, size, extractor.fallbacks)


def _batch(cohort: Cohort, rows: IntArray, runtime: Runtime) -> tuple[Tensor, Tensor]:
    """Return the volumes of a few scans on the device, and their ages."""
    ages = torch.as_tensor(cohort.covariates.age[rows], dtype=torch.float32, device=runtime.device)
    return runtime.volumes(cohort.batch(rows)), ages


class _Part(NamedTuple):
    """Signals by name of some rows of a batch."""

    rows: slice
    values: dict[str, npt.NDArray[Any]]


def _passes(extractor: Extractor, volumes: Tensor, ages: Tensor) -> Iterator[_Part]:
    """Yield the signals of a batch: in one part, or in halves of halves where the device's memory ran out."""
    waiting = [slice(0, len(ages))]
    while waiting:
        rows = waiting.pop(0)
        try:
            values = _signals_of(extractor, volumes[rows], ages[rows])
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            middle = (rows.start + rows.stop) // 2
            if middle == rows.start:
                raise SignalError(
                    "Extraction needs memory for one scan at a time, and the device has less. "
                    "Ask for fewer signals, or use a device with more memory."
                ) from None
            waiting = [slice(rows.start, middle), slice(middle, rows.stop), *waiting]
            continue
        yield _Part(rows, values)


def _signals_of(extractor: Extractor, volumes: Tensor, ages: Tensor) -> dict[str, npt.NDArray[Any]]:
    found = extractor(volumes, ages)
    values = {PREDICTION: found.prediction}
    values |= {f"{ACTIVATION}{layer}": maps for layer, maps in found.activations.items()}
    values |= {f"{GRADIENT}{name.removesuffix('.weight')}": g for name, g in found.gradients.items()}
    if found.norms is not None:
        values[GRADIENT_NORMS] = found.norms
    return {name: _numpy(value) for name, value in values.items()}


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
