"""The answers of a model that is asked: a prediction for every scan, and for moved copies where wanted.

One batch of inputs is in memory at a time. Answers are appended to a file as they come, so that a run that
was stopped asks only for the rest; a line names its scan by a keyed hash. A batch that fails is asked for
scan by scan, so that one bad scan is named and costs no other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
import torch

from privoxel.arrays import FloatArray, IntArray
from privoxel.errors import ModelError
from privoxel.models.predictor import Batch, Predictor
from privoxel.progress import Progress
from privoxel.signals.augmentation import STEPS, Augmentation, Copies, copies_of
from privoxel.signals.table import AUGMENTED

Inputs = Callable[[IntArray], Batch]
"""Gives the inputs of rows: (rows, 1, x, y, z) or (rows, columns)."""

SAME_YEARS = 0.01
"""Answers to one scan that differ by less are the same: rounding in another order."""

ACTIVATIONS = 128
"""What a pass of a network is taken to need, in volumes of a scan."""

MOST_SCANS = 8


class Answers(NamedTuple):
    """Predictions in years, NaN where there is none; of copies, scans × copies; what went wrong by row."""

    prediction: FloatArray
    copies: Mapping[str, FloatArray]
    problems: Mapping[int, str]


@final
@dataclass(frozen=True)
class KeptAnswers:
    """A text file of answers: a line a scan, its key and the numbers. A torn last line does not count.

    With ``is_kept`` false nothing is written, and nothing was.
    """

    path: Path
    keys: Sequence[str]
    is_kept: bool = True

    def read(self, width: int) -> dict[int, FloatArray]:
        """Return the answers kept before, by row."""
        if not (self.is_kept and self.path.exists()):
            return {}
        row_of = {key: row for row, key in enumerate(self.keys)}
        found = {}
        for line in self.path.read_text(encoding="ascii").splitlines(keepends=True):
            key, *numbers = line.split()
            if line.endswith("\n") and len(numbers) == width and key in row_of:
                found[row_of[key]] = np.array([float(number) for number in numbers])
        return found

    def add(self, rows: IntArray, values: FloatArray) -> None:
        """Append the answers of ``rows``."""
        if not self.is_kept:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = not self.path.exists() or self.path.read_bytes()[-1:] in {b"", b"\n"}
        lines = [
            f"{self.keys[row]} {' '.join(repr(float(number)) for number in own)}\n"
            for row, own in zip(rows, values, strict=True)
        ]
        with self.path.open("a", encoding="ascii") as stream:
            stream.write(("" if whole else "\n") + "".join(lines))


def scans_at_once(volume_bytes: int, memory_bytes: int) -> int:
    """Return how many volumes a batch may hold.

    >>> scans_at_once(4 * 91 * 109 * 91, 2**31)
    4
    """
    return int(np.clip(memory_bytes // max(ACTIVATIONS * volume_bytes, 1), 1, MOST_SCANS))


def ask(
    predictor: Predictor,
    inputs: Inputs,
    kept: KeptAnswers,
    *,
    batch_size: int,
    kinds: Sequence[Copies] = (),
    progress: Progress,
) -> Answers:
    """Return what ``predictor`` says of every scan that ``kept`` has a key for.

    Raises:
        ModelError: if the model fails on every scan of the first batch, or answers the same scan differently.
    """
    size, width = len(kept.keys), 1 + len(STEPS) * len(kinds)
    values, problems = np.full((size, width), np.nan), dict[int, str]()
    for row, own in kept.read(width).items():
        values[row] = own
    waiting = np.flatnonzero(np.isnan(values[:, 0]))
    with progress.task("predictions", size) as task:
        task.advance(size - len(waiting))
        for start in range(0, len(waiting), batch_size):
            rows = waiting[start : start + batch_size]
            values[rows], faults = _asked(predictor, inputs, rows, kinds)
            if not start:
                _check_first(predictor, inputs, rows, values[rows, 0], faults)
            problems |= faults
            good = np.array([row for row in rows if int(row) not in faults], dtype=np.int64)
            kept.add(good, values[good])
            task.advance(len(rows))
    copies = {
        f"{AUGMENTED}{kind}": values[:, 1 + k * len(STEPS) : 1 + (k + 1) * len(STEPS)]
        for k, kind in enumerate(kinds)
    }
    return Answers(values[:, 0], copies, problems)


def _asked(
    predictor: Predictor, inputs: Inputs, rows: IntArray, kinds: Sequence[Copies]
) -> tuple[FloatArray, dict[int, str]]:
    """Return the answers of a batch; where it fails, of each scan alone, and what is wrong with which."""
    try:
        values = _answers(predictor, inputs(rows), kinds)
    except ModelError as error:
        if len(rows) == 1:
            return np.full((1, 1 + len(STEPS) * len(kinds)), np.nan), {int(rows[0]): str(error)}
        parts = [_asked(predictor, inputs, rows[k : k + 1], kinds) for k in range(len(rows))]
        faults = {row: what for _, found in parts for row, what in found.items()}
        return np.concatenate([part for part, _ in parts]), faults
    bad = ~np.isfinite(values).all(axis=1)
    values[bad] = np.nan
    return values, {int(row): "the model's answer is not finite" for row in rows[bad]}


def _answers(predictor: Predictor, batch: Batch, kinds: Sequence[Copies]) -> FloatArray:
    columns = [predictor.predict(batch)]
    for kind in kinds:
        moved = copies_of(torch.from_numpy(batch), (), kind, Augmentation())
        columns += [predictor.predict(copy.numpy()) for copy in moved]
    return np.stack(columns, axis=1)


def _check_first(
    predictor: Predictor, inputs: Inputs, rows: IntArray, answers: FloatArray, faults: Mapping[int, str]
) -> None:
    """Raise ``ModelError`` if the model fails on a whole batch, is random, or looks at the other scans."""
    if len(faults) == len(rows):
        raise ModelError(f"The model failed on each of the first {len(rows)} scans: {faults[int(rows[0])]}")
    good = np.array([int(row) not in faults for row in rows])
    batch = inputs(rows[good])
    if not _same(predictor.predict(batch), answers[good]):
        raise ModelError(
            "The model needs to give a scan the same age whenever it is asked, got different ones. Export it "
            "in evaluation mode (model.eval(): no dropout)."
        )
    if not _same(predictor.predict(batch[:1]), answers[good][:1]):
        raise ModelError(
            "The model needs to give a scan the same age whatever other scans are in the batch, got "
            "different ones. Export it in evaluation mode (model.eval(): batch normalisation with stored "
            "statistics)."
        )


def _same(one: FloatArray, other: FloatArray) -> bool:
    return bool(np.allclose(one, other, rtol=1e-4, atol=SAME_YEARS))
