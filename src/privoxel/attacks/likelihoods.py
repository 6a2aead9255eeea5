"""Likelihoods of residuals under target and references: their scale, their density, and RMIA's log-ratio.

For a regression p(age | scan, model) is a density of the residual, prediction − age. One scale serves target
and references; a constant factor of the density cancels in every ratio.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt

from privoxel.arrays import BoolArray, FloatArray
from privoxel.attacks.references import Compared, References, enough, masked_mean
from privoxel.errors import SignalError
from privoxel.signals.table import SignalTable

ONE_REFERENCE = "scale=rms of the residuals (no scan has two OUT references)"


class Likelihood(StrEnum):
    """Density of a residual around zero."""

    GAUSSIAN = "gaussian"
    STUDENT = "student"


STUDENT_FREEDOM = 4.0
"""Degrees of freedom of the Student likelihood: fixed, heavy-tailed, with a finite variance."""


def log_mean_exp(values: FloatArray, mask: npt.NDArray[np.bool_]) -> FloatArray:
    """Return log(mean(exp(v))) over the first axis where ``mask`` is true."""
    from scipy.special import logsumexp  # noqa: PLC0415 - listing attacks stays quick

    summed = logsumexp(np.where(mask, values, -np.inf), axis=0)
    return np.asarray(summed - np.log(mask.sum(axis=0)))


class Scale(NamedTuple):
    """A scale of residuals in years, and what is to be said of it."""

    years: float
    notes: tuple[str, ...] = ()


def residual_scale(references: References) -> Scale:
    """Return how far models that never saw a scan lie from each other on it: the SD within scans, pooled.

    What is common to all models on a scan, its difficulty, does not count: the ratio to the references
    divides it out. Where no scan has two OUT references it is the root mean square of the OUT residuals, and
    the notes say so.

    Raises:
        SignalError: if there is no OUT residual, or all are zero.
    """
    seen = references.everything()
    pooled = pooled_sd(seen.models, seen.outside)
    if pooled:
        return Scale(pooled)
    values = seen.models[seen.outside]
    scale = float(np.sqrt(np.mean(np.square(values)))) if len(values) else 0.0
    if scale == 0.0:
        raise SignalError(
            f"Attack {references.name} needs references that err on scans they were not trained on, got "
            f"{len(values)} OUT residuals, all zero. Give reference models with OUT scans."
        )
    return Scale(scale, (ONE_REFERENCE,))


def pooled_sd(residuals: FloatArray, mask: BoolArray) -> float | None:
    """Return the SD over models within scans (ddof 1), pooled over scans, where ``mask`` is true.

    None if no scan has two such residuals.
    """
    freedom = int(np.maximum(mask.sum(axis=0) - 1, 0).sum())
    if freedom < 1:
        return None
    deviations = np.where(mask, residuals - masked_mean(residuals, mask), 0.0)
    return float(np.sqrt(np.square(deviations).sum() / freedom))


def log_likelihood(residuals: FloatArray, scale: float, likelihood: Likelihood) -> FloatArray:
    """Return log p(age | scan, model) up to a constant, so that p ≤ 1 and p = 1 at residual 0.

    Gaussian: −r²/2s². Student with ν = 4 and the same variance: −(ν+1)/2 · log(1 + r²/(s²(ν−2))).
    """
    squared = np.square(residuals / scale)
    if likelihood is Likelihood.GAUSSIAN:
        return np.asarray(-squared / 2.0)
    nu = STUDENT_FREEDOM
    return np.asarray(-(nu + 1.0) / 2.0 * np.log1p(squared / (nu - 2.0)))


@final
@dataclass(frozen=True)
class LogRatio:
    """log p(x | target) − log p(x) of scans x, with the p(x) of Zarifzadeh et al. 2024 (section not seen).

    p(x | model) is a density of the residual of one ``scale``. Offline p(x) = ½((1 + a)·mean_OUT p(x | k) +
    1 − a), the paper's linear guess at what models with x would say; online it is half the mean over IN and
    half the mean over OUT references. One p(x) serves all scans, those of the population too.
    """

    references: References
    scale: float
    likelihood: Likelihood
    a: float
    online: bool = False

    def __call__(self, scans: SignalTable) -> FloatArray:
        """Return the log-ratio of each scan.

        Raises:
            SignalError: if a scan has no reference of a kind that is needed.
        """
        seen = self.references.compare(scans)
        return log_likelihood(seen.target, self.scale, self.likelihood) - self._log_marginal(seen, scans)

    def log_marginal(self, scans: SignalTable) -> FloatArray:
        """Return log p(x) of each scan."""
        return self._log_marginal(self.references.compare(scans), scans)

    def usable(self, population: SignalTable) -> SignalTable:
        """Return the population scans that some reference left out; online, that another was trained on, too.

        Raises:
            SignalError: if there is none.
        """
        usable = self._usable(population)
        if not usable.any():
            wanted, why = (
                ("inside some references and outside others", "that are not")
                if self.online
                else ("outside some reference", "that all references were trained on")
            )
            raise SignalError(
                f"Attack {self.references.name} needs population scans {wanted}, got {usable.size} {why}. "
                "Give other population scans, or leak non-members."
            )
        return population.select(usable)

    def serves(self, population: SignalTable) -> bool:
        """Return whether ``population`` holds a usable scan."""
        return bool(self._usable(population).any())

    def _usable(self, population: SignalTable) -> BoolArray:
        seen = self.references.compare(population)
        usable = seen.outside.any(axis=0)
        return np.asarray(usable & seen.inside.any(axis=0) if self.online else usable)

    def _log_marginal(self, seen: Compared, scans: SignalTable) -> FloatArray:
        name = self.references.name
        enough(name, seen.outside, 1, "OUT", of=scans)
        there = log_likelihood(seen.models, self.scale, self.likelihood)
        outside = log_mean_exp(there, seen.outside)
        if self.online:
            enough(name, seen.inside, 1, "IN", of=scans)
            return np.asarray(np.logaddexp(log_mean_exp(there, seen.inside), outside) - np.log(2.0))
        return np.asarray(np.log(((1.0 + self.a) * np.exp(outside) + (1.0 - self.a)) / 2.0))
