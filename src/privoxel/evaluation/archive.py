"""The content of ``scores.npz``: per-scan scores, so that a report can be made again from it.

Participants appear as integer codes only. Images are there only for simulated cohorts or on
the user's explicit wish.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.evaluation.scored import Evaluated


@final
@dataclass(frozen=True)
class TargetScores:
    """Per-scan values of one target; all arrays are aligned.

    ``age``, ``prediction``: years. ``gradient_norm``: norm of the whole gradient of the squared error, NaN
    where it was not extracted. ``evaluated`` and ``controls`` map an attack's name to its scores;
    ``other_scans`` to those on other scans of the same people and ``canaries`` to those on canaries, which
    have rows of their own. ``answers``
    (years) are what is given out where predictions are not, None where they are.
    """

    age: FloatArray
    prediction: FloatArray
    gradient_norm: FloatArray
    members: BoolArray
    participants: IntArray
    evaluated: Mapping[str, Evaluated]
    controls: Mapping[str, Evaluated]
    other_scans: Mapping[str, Evaluated] = field(default_factory=dict)
    answers: FloatArray | None = None
    canaries: Mapping[str, Evaluated] = field(default_factory=dict)

    @property
    def answered(self) -> FloatArray:
        """What is given out for each scan, years."""
        return self.prediction if self.answers is None else self.answers


KINDS = ("evaluated", "controls", "other_scans", "canaries")


@final
@dataclass(frozen=True)
class Archive:
    """All targets, and the pictures that may be shown.

    ``slices``: pictures × 3 planes (sagittal, coronal, axial) × height × width, uint8, with one caption each.
    """

    targets: Mapping[str, TargetScores]
    slices: npt.NDArray[np.uint8] | None = None
    captions: tuple[str, ...] = field(default=())

    def save(self, path: Path) -> None:
        """Write the archive as an ``.npz``, uncompressed: scores hardly shrink, and it would take seconds."""
        arrays: dict[str, Any] = {"names": np.array(list(self.targets))}
        for name, target in self.targets.items():
            for key in ("age", "prediction", "gradient_norm", "members", "participants"):
                arrays[f"{name}/{key}"] = getattr(target, key)
            if target.answers is not None:
                arrays[f"{name}/answers"] = target.answers
            for kind in KINDS:
                group: Mapping[str, Evaluated] = getattr(target, kind)
                arrays[f"{name}/{kind}"] = np.array(list(group), dtype=np.str_)
                for attack, result in group.items():
                    for key in ("scores", "thresholds", "members", "participants"):
                        arrays[f"{name}/{kind}/{attack}/{key}"] = getattr(result, key)
        if self.slices is not None:
            arrays["slices"] = self.slices
            arrays["captions"] = np.array(self.captions, dtype=np.str_)
        with path.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Archive":
        """Read an archive written by ``save``."""
        with np.load(path, allow_pickle=False) as stored:
            targets = {str(name): _read_target(stored, str(name)) for name in stored["names"]}
            slices = stored.get("slices")
            captions = tuple(map(str, stored["captions"])) if "captions" in stored else ()
        return cls(targets, slices, captions)


def _read_target(stored: Mapping[str, Any], name: str) -> TargetScores:
    def group(kind: str) -> dict[str, Evaluated]:
        return {
            str(attack): Evaluated(
                *(
                    stored[f"{name}/{kind}/{attack}/{key}"]
                    for key in ("scores", "thresholds", "members", "participants")
                )
            )
            for attack in stored.get(f"{name}/{kind}", ())
        }

    return TargetScores(
        age=stored[f"{name}/age"],
        prediction=stored[f"{name}/prediction"],
        gradient_norm=stored[f"{name}/gradient_norm"],
        members=stored[f"{name}/members"],
        participants=stored[f"{name}/participants"],
        evaluated=group("evaluated"),
        controls=group("controls"),
        other_scans=group("other_scans"),
        answers=stored.get(f"{name}/answers"),
        canaries=group("canaries"),
    )
