"""Extraction: a model, its snapshots and a cohort in, memory-mapped signals out.

In evaluation mode, in batches, streamed to ``.npy`` files: memory does not grow with the number of
scans. Every volume is read once for all snapshots, whose weights stay in memory, and every signal of a
batch comes from one pass. Gradients are of each scan's own squared error (years²), the training loss, or of
the loss of its own that a brought model has.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
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
from privoxel.gradients.batching import fewest_scans, suggest_batch
from privoxel.gradients.one_pass import Extractor
from privoxel.gradients.request import Loss, Request, squared_error
from privoxel.models.adapted import AdaptedModel
from privoxel.models.base import AuditableModel
from privoxel.models.several import needed_columns, stated_spread
from privoxel.progress import Progress
from privoxel.signals.snapshots import OwnWeights, Snapshots, Weights
from privoxel.signals.table import (
    ACTIVATION,
    AUGMENTED,
    GRADIENT,
    GRADIENT_NORMS,
    PREDICTION,
    PRODUCT,
    PROJECTION,
    STATED_SD,
    STEP,
    LazyArray,
    SignalTable,
)
from privoxel.signals.truths import true_values
from privoxel.training.device import bf16_is_sound
from privoxel.training.runtime import Runtime

Model = AuditableModel | AdaptedModel
HALF_MAX = 65504.0
MEMORY = 4 * 2**30
BROKEN_HALF = "this device's kernels failed the self-check, so float32 was used"


@final
@dataclass(frozen=True)
class Extraction:
    """What to extract, the number of scans a pass holds, and where it is computed.

    A ``batch_size`` of 0 takes what fits into ``memory`` bytes and, on a CPU, its caches. ``directions`` maps
    the names of ``product:`` signals to tensors by parameter name, such as a learner's update.
    """

    signals: tuple[str, ...]
    batch_size: int = 0
    runtime: Runtime = field(default_factory=Runtime)
    memory: int = MEMORY
    bfloat16: bool = False
    directions: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    @property
    def gradient_layers(self) -> tuple[str, ...]:
        """Layers whose weight gradient is kept whole."""
        return self._named(GRADIENT)

    @property
    def request(self) -> Request:
        """What one pass must give."""
        return Request(
            gradients=tuple(f"{layer}.weight" for layer in self.gradient_layers),
            norms=GRADIENT_NORMS in self.signals,
            activations=self.activation_layers,
            projection=int(self._named(PROJECTION)[0]) if self._named(PROJECTION) else 0,
            directions={name: self.directions[name] for name in self._named(PRODUCT)},
        )

    @property
    def unusable(self) -> tuple[str, ...]:
        """Projections and products that do not say to what, or of which there is more than one."""
        projections = self._named(PROJECTION)
        wrong = [n for n in projections if not n.isdecimal() or int(n) == 0 or len(projections) > 1]
        unknown = [name for name in self._named(PRODUCT) if name not in self.directions]
        return (*(f"{PROJECTION}{n}" for n in wrong), *(f"{PRODUCT}{n}" for n in unknown))

    def _named(self, kind: str) -> tuple[str, ...]:
        return tuple(name.removeprefix(kind) for name in self.signals if name.startswith(kind))

    @property
    def activation_layers(self) -> tuple[str, ...]:
        """Layers whose block output is kept."""
        return self._named(ACTIVATION)


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


def check_signals(model: Model, extraction: Extraction) -> None:
    """Raise ``SignalError`` naming every asked-for signal that ``model`` cannot give."""
    known = {PREDICTION, GRADIENT_NORMS} | ({STATED_SD} if _states_spread(model) else set())
    known |= {f"{kind}{layer}" for kind in (GRADIENT, ACTIVATION) for layer in model.layers}
    known |= {name for name in extraction.signals if name.startswith((PROJECTION, PRODUCT))}
    known -= set(extraction.unusable)
    unknown = [name for name in extraction.signals if name not in known]
    if unknown:
        raise SignalError(
            f"Extraction needs signals of this model ({', '.join(sorted(known))}), got {', '.join(unknown)}. "
            "Remove them from [signals] or name other layers."
        )


def signal_bytes(model: Model, extraction: Extraction, volume: Tensor) -> int:
    """Return the bytes on disk that the signals of one scan and snapshot will take.

    ``volume`` is any scan on the model's device, (1, 1, x, y, z); its activations give the sizes.
    """
    weights = dict(model.named_parameters())
    half = sum(weights[f"{layer}.weight"].numel() for layer in extraction.gradient_layers)
    with torch.no_grad():
        half += sum(a[0].numel() for a in model.activations(volume, extraction.activation_layers).values())
    half += extraction.request.projection
    return 2 * half + 4 * (1 + len(weights) + len(extraction.request.directions))


def extract(
    model: Model,
    snapshots: Sequence[Path],
    cohort: Cohort,
    extraction: Extraction,
    *,
    folder: Path,
    progress: Progress,
) -> Extracted:
    """Write the signals of every scan of ``cohort`` for each snapshot of ``model`` into ``folder``.

    Without ``snapshots`` the model is taken as it is, with the weights that it has.

    Raises:
        SignalError: for signals the model cannot give, or if a value is not finite (naming the scan's row).
    """
    check_signals(model, extraction)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = tuple(name for name, _ in model.named_parameters())
    weights: Weights = OwnWeights(model, extraction.runtime)
    if snapshots:
        weights = Snapshots(model, snapshots, extraction.runtime)
    sink = _Sink(folder, len(weights), len(cohort))
    volumes, ages = _batch(model, cohort, np.arange(min(2, len(cohort))), extraction.runtime)
    extractor = Extractor(model, extraction.request, volumes=volumes, ages=ages, loss=_loss_of(model))
    size = extractor.bytes_per_scan(volumes, ages)
    fewest = fewest_scans(model, volumes)
    batch_size = extraction.batch_size or suggest_batch(size, extraction.memory, volumes.device, fewest)
    shared = shared_layers(model, weights, extraction)
    half = extraction.bfloat16 and bf16_is_sound(volumes.device)
    with progress.task("signals", len(weights) * len(cohort)) as task:
        for start in range(0, len(cohort), batch_size):
            rows = np.arange(start, min(start + batch_size, len(cohort)))
            volumes, ages = _batch(model, cohort, rows, extraction.runtime)
            work = _Work(model, extractor, shared, half, STATED_SD in extraction.signals)
            maps = work.shared_maps(volumes)
            for k in range(len(weights)):
                weights.use(k)
                for part in _passes(work, volumes, ages, maps):
                    for name, values in part.values.items():
                        sink.write(name, k, rows[part.rows], values)
                task.advance(len(rows))
    reasons = extractor.fallbacks | ({} if half == extraction.bfloat16 else {"bfloat16": BROKEN_HALF})
    return Extracted(sink.close(), tensors, sink.clipped, batch_size, size, reasons)


def _states_spread(model: Model) -> bool:
    return isinstance(model, AdaptedModel) and stated_spread(model.head) is not None


def _loss_of(model: Model) -> Loss:
    return model.head.losses if isinstance(model, AdaptedModel) else squared_error


def _batch(model: Model, cohort: Cohort, rows: IntArray, runtime: Runtime) -> tuple[Tensor, Tensor]:
    """Return the volumes of a few scans on the device, and the true values that the loss needs."""
    columns = needed_columns(model.head) if isinstance(model, AdaptedModel) else ()
    values = true_values(cohort.covariates, columns, rows)
    ages = torch.as_tensor(values, dtype=torch.float32, device=runtime.device)
    return runtime.volumes(cohort.batch(rows)), ages


class _Part(NamedTuple):
    """Signals by name of some rows of a batch."""

    rows: slice
    values: dict[str, npt.NDArray[Any]]


class _Work(NamedTuple):
    """What a pass runs; the outputs of the ``shared`` layers are the same for all snapshots."""

    model: Model
    extractor: Extractor
    shared: tuple[str, ...]
    bfloat16: bool
    stated_sd: bool

    def shared_maps(self, volumes: Tensor) -> Tensor | None:
        """Return the outputs of the shared layers, None where there are no such layers."""
        if not self.shared or isinstance(self.model, AdaptedModel):
            return None
        return self.model.entered(volumes, self.shared)

    def later_layers(self, maps: Tensor | None) -> Callable[[Tensor], Tensor] | None:
        """Return what runs the layers after the shared ones, None for the whole model."""
        if maps is None or isinstance(self.model, AdaptedModel):
            return None
        model, shared = self.model, self.shared
        return lambda _: model.left(maps, shared)


def shared_layers(model: Model, weights: Weights, extraction: Extraction) -> tuple[str, ...]:
    """Return the first layers that all snapshots have in common and of which no signal is wanted."""
    request = extraction.request
    if len(weights) == 1 or request.norms or request.projection:
        return ()
    towards = {name for tensors in request.directions.values() for name in tensors}
    wanted = {name.rsplit(".", 1)[0] for name in (*request.gradients, *towards)} | set(request.activations)
    same = weights.common()
    found: list[str] = []
    for layer in model.layers:
        tensors = {name for name, _ in model.named_parameters() if name.startswith(f"{layer}.")}
        if layer in wanted or not tensors <= same:
            break
        found.append(layer)
    return tuple(found)


def _passes(work: _Work, volumes: Tensor, ages: Tensor, maps: Tensor | None) -> Iterator[_Part]:
    """Yield the signals of a batch: in one part, or in halves of halves where the device's memory ran out."""
    waiting = [slice(0, len(ages))]
    while waiting:
        rows = waiting.pop(0)
        try:
            values = _signals_of(work, volumes[rows], ages[rows], None if maps is None else maps[rows])
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


def _signals_of(
    work: _Work, volumes: Tensor, ages: Tensor, maps: Tensor | None
) -> dict[str, npt.NDArray[Any]]:
    half = torch.autocast(volumes.device.type, torch.bfloat16) if work.bfloat16 else nullcontext()
    with half:
        found = work.extractor(volumes, ages, forward=work.later_layers(maps))
    values = _answers(work, found.prediction)
    values |= {f"{ACTIVATION}{layer}": maps for layer, maps in found.activations.items()}
    values |= {f"{GRADIENT}{name.removesuffix('.weight')}": g for name, g in found.gradients.items()}
    values |= {f"{PRODUCT}{name}": product for name, product in found.products.items()}
    if found.norms is not None:
        values[GRADIENT_NORMS] = found.norms
    if found.projection is not None:
        values[f"{PROJECTION}{found.projection.shape[1]}"] = found.projection
    return {name: _numpy(value) for name, value in values.items()}


def _answers(work: _Work, output: Tensor) -> dict[str, Tensor]:
    """Return predicted ages, and the standard deviation where it is stated and wanted, both in years."""
    if not isinstance(work.model, AdaptedModel):
        return {PREDICTION: output}
    head = work.model.head
    answers = {PREDICTION: head.ages(output)}
    spread = stated_spread(head)
    if work.stated_sd and spread is not None:
        answers[STATED_SD] = spread(output)
    return answers


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
        is_long = name not in {PREDICTION, STATED_SD, GRADIENT_NORMS} and not name.startswith(PRODUCT)
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
    names = [PREDICTION, STATED_SD, GRADIENT_NORMS]
    files = {name: folder / signal_file(name) for name in names if (folder / signal_file(name)).exists()}
    for prefix in (GRADIENT, ACTIVATION, PROJECTION, PRODUCT, STEP, AUGMENTED):
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
