"""What a released model answers: noise, rounding and clipping between its predictions and whoever asks.

For a black-box release: attacks that hold the weights go round all of it. Noise is a function of a secret and
of the volume's bytes, so that asking again gives the same answer and an average over questions does not
remove it. A volume changed by anything at all has noise of its own: who averages over slightly changed copies
does remove it, as far as the model's answers to them agree; rounding and clipping do not have that hole.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import numpy.typing as npt
from scipy import special

from privoxel.arrays import Float32Array, FloatArray
from privoxel.cohort.base import Cohort, ScanId
from privoxel.defence_config import ReleaseConfig
from privoxel.signals.table import AUGMENTED, PREDICTION, LazyArray, SignalTable


def content_of(volume: Float32Array) -> bytes:
    """Return a digest of a volume's voxels."""
    return hashlib.blake2b(np.ascontiguousarray(volume, dtype="<f4").tobytes(), digest_size=32).digest()


def noise_of(content: bytes, secret: bytes) -> float:
    """Return the standard normal number that belongs to a volume's content under ``secret``."""
    digest = hmac.new(secret, content, hashlib.sha256).digest()
    uniform = (int.from_bytes(digest[:8], "big") >> 11) + 0.5
    return float(special.ndtri(uniform * 2.0**-53))


def released(predictions: npt.ArrayLike, noise: npt.ArrayLike, settings: ReleaseConfig) -> FloatArray:
    """Return what is shown in the place of ``predictions`` (years), given standard normal ``noise``."""
    shown = np.asarray(predictions, dtype=np.float64) + settings.noise_years * np.asarray(noise)
    if settings.round_years:
        shown = np.round(shown / settings.round_years) * settings.round_years
    if settings.clip_years is not None:
        shown = np.clip(shown, *settings.clip_years)
    return shown


@final
@dataclass(frozen=True)
class Release:
    """How the models of a run answer; ``contents`` are digests of the scans that may be asked about."""

    settings: ReleaseConfig
    secret: bytes
    contents: Mapping[ScanId, bytes]

    @classmethod
    def over(cls, cohort: Cohort, settings: ReleaseConfig, seed: int) -> "Release":
        """Return the release of the scans of ``cohort``, its secret made from ``seed``.

        A secret that follows from a seed serves an audit; a service must draw its own and keep it.
        """
        scans = enumerate(cohort.covariates.scans) if settings.noise_years else ()
        contents = {scan: content_of(cohort.volume(row)) for row, scan in scans}
        return cls(settings, hashlib.sha256(f"release/{seed}".encode()).digest(), contents)

    def of(self, table: SignalTable) -> SignalTable:
        """Return ``table`` with the answers in the place of predictions, for every model of it.

        Each model has a secret of its own; predictions on copies of a scan, whose voxels are not known here,
        get independent noise.
        """
        names = [name for name in table.values if name == PREDICTION or name.startswith(AUGMENTED)]
        changed = {name: LazyArray(self._answers(name, table)) for name in names}
        return replace(table, values={**table.values, **changed})

    def _answers(self, name: str, table: SignalTable) -> Float32Array:
        stored = table.values[name]
        return np.stack(
            [
                np.stack([self._answer(name, model, stored.read(m, s), table.scans) for s in range(count)])
                for m, (model, count) in enumerate((model, len(table.snapshots)) for model in table.models)
            ]
        )

    def _answer(
        self, name: str, model: str, values: npt.NDArray[np.float32], scans: Sequence[ScanId]
    ) -> Float32Array:
        """Return the answers of one model and snapshot: of the shape of ``values`` (scans × ...)."""
        noise = np.zeros(values.shape)
        if self.settings.noise_years:
            copies = int(np.prod(values.shape[1:]))
            drawn = [
                noise_of(self.contents[scan] + f"{name}/{k}".encode(), self._secret_of(model))
                for scan in scans
                for k in range(copies)
            ]
            noise = np.array(drawn).reshape(values.shape)
        return released(values, noise, self.settings).astype(np.float32)

    def _secret_of(self, model: str) -> bytes:
        return hmac.new(self.secret, model.encode(), hashlib.sha256).digest()
