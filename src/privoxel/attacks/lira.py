"""LiRA on the signed residual: is it more like that of models with, or without, this participant?

Carlini et al. fit Gaussians to a transformed confidence; for a regression the natural statistic is the signed
residual r itself, which is nearly Gaussian and keeps on which side the models err.

Online: log N(r; m_in(x), s_in) − log N(r; m_out(x), s_out), means over the references that were, and were
not, trained on the scan's participant. Offline, with OUT references only: log P(|R| ≥ |r|) for
R ~ N(m_out(x), s_out), one-sided towards small errors. (The density of r under OUT alone would call outliers
members: it is highest where a good target errs least.) The variance is pooled over scans ("global", within
scans, so that differences between their means do not count) or each scan's own ("scan").
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import numpy as np

from privoxel.arrays import BoolArray, FloatArray
from privoxel.attacks.base import Knowledge, Scored
from privoxel.attacks.likelihoods import pooled_sd
from privoxel.attacks.references import (
    OnReferences,
    References,
    Scorer,
    enough,
    masked_mean,
    scored_by,
)
from privoxel.errors import SignalError
from privoxel.signals.table import SignalTable

Variance = Literal["global", "scan"]


class Gaussian(NamedTuple):
    """Mean and SD (years) of the residual of each scan under one kind of reference."""

    mean: FloatArray
    sd: FloatArray

    def log_density(self, residual: FloatArray) -> FloatArray:
        """Return the log-density of each residual."""
        z = (residual - self.mean) / self.sd
        return np.asarray(-0.5 * np.square(z) - np.log(self.sd) - 0.5 * np.log(2.0 * np.pi))

    def log_chance_of_more(self, residual: FloatArray) -> FloatArray:
        """Return the log-probability of a residual at least as far from zero."""
        from scipy.stats import norm  # noqa: PLC0415 - listing attacks stays quick

        size = np.abs(residual)
        above = norm.logsf((size - self.mean) / self.sd)
        below = norm.logcdf((-size - self.mean) / self.sd)
        return np.asarray(np.logaddexp(above, below))


@final
@dataclass(frozen=True)
class Lira(OnReferences):
    """Log-likelihood ratio (online) or log tail probability (offline) of the signed residual."""

    name: str
    title: str
    online: bool
    variance: Variance = "global"

    source = "Carlini et al. 2022 (S&P), algorithm 1 and its offline variant; on the signed residual"

    @property
    def fewest(self) -> tuple[int, int]:
        """References that every scan needs, IN and OUT, for their variance to be told."""
        return (2, 2) if self.online else (0, 2)

    def score(
        self,
        target: SignalTable,
        knowledge: Knowledge,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is random
    ) -> Scored:
        """Return the score of each scan of ``target``.

        Raises:
            SignalError: if references, a signal, or references of a kind are missing.
        """
        return scored_by(self, target, knowledge, self._scorer)

    def _scorer(self, references: References) -> Scorer:
        return Scorer(lambda scans: self._ratios(references, scans))

    def _ratios(self, references: References, scans: SignalTable) -> FloatArray:
        seen, everything = references.compare(scans), references.everything()
        fewest = 2 if self.variance == "scan" else 1
        enough(self.name, seen.outside, fewest, "OUT", of=scans)
        pooled = _pooled_sd(self.name, everything.models, everything.outside, "OUT", self.variance)
        out = _gaussian(seen.models, seen.outside, pooled)
        if not self.online:
            return out.log_chance_of_more(seen.target)
        enough(self.name, seen.inside, fewest, "IN", of=scans)
        pooled = _pooled_sd(self.name, everything.models, everything.inside, "IN", self.variance)
        inside = _gaussian(seen.models, seen.inside, pooled)
        return inside.log_density(seen.target) - out.log_density(seen.target)


def _gaussian(residuals: FloatArray, mask: BoolArray, pooled: float | None) -> Gaussian:
    mean = masked_mean(residuals, mask)
    if pooled is not None:
        return Gaussian(mean, np.full_like(mean, pooled))
    squares = np.where(mask, np.square(residuals - mean), 0.0).sum(axis=0)
    sd = np.sqrt(squares / (mask.sum(axis=0) - 1))
    return Gaussian(mean, np.maximum(sd, np.finfo(np.float32).eps))


def _pooled_sd(
    name: str, residuals: FloatArray, mask: BoolArray, kind: str, variance: Variance
) -> float | None:
    """Return the SD within scans, pooled over scans; None where each scan is to have its own."""
    if variance == "scan":
        return None
    pooled = pooled_sd(residuals, mask)
    if not pooled:
        raise SignalError(
            f"Attack {name} needs scans with at least 2 different {kind} residuals to tell their variance, "
            "got none. Train more shadow models."
        )
    return pooled


OFFLINE = Lira("lira-offline", "LiRA on the signed residual, offline", online=False)
ONLINE = Lira("lira-online", "LiRA on the signed residual, online", online=True)

ATTACKS = (
    ONLINE,
    Lira("lira-online-scan", "LiRA, online, variance of each scan", online=True, variance="scan"),
    OFFLINE,
    Lira("lira-offline-scan", "LiRA, offline, variance of each scan", online=False, variance="scan"),
)
