"""Models that are asked and not looked into: numbers in, ages out.

A predictor takes a batch, volumes (scans, 1, x, y, z) or features (scans, columns), float32, and answers
with an age in years for each. Where it comes from (ONNX, TorchScript, an exported program, a Python function,
a scikit-learn model) is its own affair. ``FileFormat`` tells files apart by what they hold, not by name.
"""

import hashlib
import zipfile
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from privoxel.arrays import FloatArray
from privoxel.errors import ModelError

Batch = npt.NDArray[np.floating[Any]]
"""Volumes (scans, 1, x, y, z), float32, or features (scans, columns), float64."""

SHOWN = 300
"""Characters of a foreign error that a message repeats."""

OLDER_TORCH = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
"""How PyTorch's format before 1.6 begins: a pickle of one number. It holds tensors, or a pickled model."""


class Predictor(Protocol):
    """A model that answers questions; implementations are frozen dataclasses."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """Settings that decide what it answers: format, digest of the file, chosen output."""
        ...

    @property
    def input_shape(self) -> tuple[int | None, ...] | None:
        """Shape of a batch, None for what is free; None where nothing is stated."""
        ...

    def predict(self, batch: Batch) -> FloatArray:
        """Return the predicted age of each entry of ``batch``, years.

        Raises:
            ModelError: if the model fails, or its answer is not one number an entry.
        """
        ...


class FileFormat(StrEnum):
    """What a model's file is."""

    ONNX = "ONNX"
    TORCHSCRIPT = "TorchScript"
    EXPORTED = "exported program (.pt2)"
    SKOPS = "skops"
    PICKLE = "pickle"
    WEIGHTS = "weights"
    UNKNOWN = "unknown"


def file_format(path: Path) -> FileFormat:
    """Return what the file at ``path`` is, by its first bytes and the names within; nothing is loaded.

    Raises:
        ModelError: if there is no such file.
    """
    if not path.is_file():
        raise ModelError(f"A model needs a file, got {path}, which is not one. Correct the path.")
    with path.open("rb") as stream:
        head = stream.read(16)
    if head.startswith(b"PK"):
        return _format_of_archive(path)
    suffix = path.suffix.lower()
    if head.startswith(OLDER_TORCH):
        return FileFormat.WEIGHTS
    if suffix == ".onnx":
        return FileFormat.ONNX
    if suffix == ".safetensors":
        return FileFormat.WEIGHTS
    pickled = head[:1] == b"\x80" or suffix in {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt"}
    return FileFormat.PICKLE if pickled else FileFormat.UNKNOWN


def _format_of_archive(path: Path) -> FileFormat:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return FileFormat.UNKNOWN
    inner = {name.partition("/")[2] for name in names}
    if "schema.json" in names:
        return FileFormat.SKOPS
    if any(name.startswith("models/") and name.endswith(".json") for name in inner):
        return FileFormat.EXPORTED
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return FileFormat.TORCHSCRIPT
    if "data.pkl" in inner:
        return FileFormat.WEIGHTS
    return FileFormat.UNKNOWN


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, 16 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def one_age_each(answer: npt.ArrayLike, entries: int, target: int | None, who: str) -> FloatArray:
    """Return ``answer`` as one age an entry; ``target`` chooses among several outputs of each.

    >>> one_age_each([[61.0], [48.5]], 2, None, "model")
    array([61. , 48.5])

    Raises:
        ModelError: if there is not one number for each entry.
    """
    try:
        values = np.asarray(answer, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"{who} needs to answer with numbers, got {type(answer).__name__}. Return one age a scan."
        ) from error
    if target is not None and values.ndim >= 2 and values.shape[0] == entries:
        columns = values.reshape(entries, -1)
        if not 0 <= target < columns.shape[1]:
            raise ModelError(
                f"{who} needs a target among its {columns.shape[1]} outputs, got {target}. They count from 0."
            )
        return columns[:, target]
    if values.size != entries or (values.ndim and values.shape[0] != entries):
        several = values.ndim >= 2 and values.shape[0] == entries
        remedy = (
            "Say which of them is the age by --target (from 0), or give a model that returns the age"
            if several
            else "Give a model that returns one age a scan"
        )
        raise ModelError(
            f"{who} needs one age for each of {entries} entries, got an answer of shape {values.shape}. "
            f"{remedy}."
        )
    return values.reshape(entries)


def in_batches_of(size: int | None, batch: Batch, run: Callable[[Batch], FloatArray]) -> FloatArray:
    """Return what ``run`` says of ``batch`` in parts of exactly ``size``, None for any; the last is filled.

    >>> in_batches_of(2, np.ones((3, 1), np.float32), lambda part: part.sum(axis=1) * len(part))
    array([2., 2., 2.], dtype=float32)
    """
    if size is None or size == len(batch):
        return run(batch)
    answers = []
    for start in range(0, len(batch), size):
        part = batch[start : start + size]
        full = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
        answers.append(run(full)[: len(part)])
    return np.concatenate(answers)


def foreign(error: BaseException) -> str:
    """Return a short account of an error that another library raised."""
    text = " ".join(str(error).split())
    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__
