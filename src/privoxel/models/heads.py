"""From what a network returns to ages in years, and to one loss per scan: the contract of a brought model.

A head has two methods, ``ages`` and ``losses``. The three here cover what brain-age networks end in: numbers,
probabilities of age bins (Peng et al. 2021), and mean with variance (Nix and Weigend 1994); ``several.py``
has the sum over several targets. Anything else is a class of the user's own with these two methods.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from privoxel.errors import ModelError

Loss = Callable[[Tensor, Tensor], Tensor]
"""From predicted and true values (scans,) to one loss per scan (scans,)."""

LOSSES = ("mse", "l1", "huber")
OUTPUTS = ("logits", "probabilities")
SPREADS = ("log_variance", "variance", "sd")
TINY = 1e-16  # what Peng et al. add to soft labels, so that log 0 is never asked for
LOG_TWO_PI = 1.8378770664093453


@runtime_checkable
class Head(Protocol):
    """What must be known of a network's output; implementations hold no weights."""

    def ages(self, output: Tensor) -> Tensor:
        """Return the predicted ages in years (scans,)."""
        ...

    def losses(self, output: Tensor, ages: Tensor) -> Tensor:
        """Return the training loss of each scan (scans,), given true ages in years (scans,)."""
        ...


@runtime_checkable
class StatesSpread(Protocol):
    """A head that states a standard deviation besides the age."""

    def sds(self, output: Tensor) -> Tensor:
        """Return the stated standard deviations in years (scans,)."""
        ...


@runtime_checkable
class NeedsColumns(Protocol):
    """A head whose loss depends on more than the age.

    Its ``losses`` get true values (scans, 1 + columns): ages in years, then ``columns`` of the cohort, NaN
    where one is not known.
    """

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        ...


@final
@dataclass(frozen=True)
class Scalar:
    """One number per scan, or one of several.

    ``target`` is the position of age among several outputs, or its name in ``targets``. The network may
    predict in other units: age = ``offset`` + ``scale`` × output, and the loss is taken in its units.
    ``loss`` is mse, l1, huber (with ``delta``) or a function of predicted and true values.

    Raises:
        ModelError: listing every choice that cannot be used.
    """

    loss: str | Loss = "mse"
    target: int | str | None = None
    targets: tuple[str, ...] = ()
    offset: float = 0.0
    scale: float = 1.0
    delta: float = 1.0

    def __post_init__(self) -> None:
        positions = range(len(self.targets)) if self.targets else range(1_000_000)
        checks = (
            (
                callable(self.loss) or self.loss in LOSSES,
                f"loss needs one of {', '.join(LOSSES)} or a function of predicted and true values, "
                f"got {self.loss!r}",
            ),
            (
                self.target in self.targets
                or (self.target is None and len(self.targets) < 2)
                or (not isinstance(self.target, str) and self.target in positions),
                f"target needs a position from 0 or one of targets ({', '.join(self.targets) or 'none'}), "
                f"got {self.target!r}",
            ),
            (self.scale != 0, "scale needs a number other than 0, got 0"),
            (self.delta > 0, f"delta needs a number above 0, got {self.delta}"),
        )
        raise_faults("Scalar", checks)

    @property
    def position(self) -> int:
        """Place of age among the outputs."""
        if isinstance(self.target, str):
            return self.targets.index(self.target)
        return self.target or 0

    def ages(self, output: Tensor) -> Tensor:
        """Return offset + scale × the output for age (scans,), years."""
        return self.offset + self.scale * self._values(output)

    def losses(self, output: Tensor, ages: Tensor) -> Tensor:
        """Return the loss of each scan in the network's own units."""
        values = self._values(output)
        truth = (ages.to(values) - self.offset) / self.scale
        if not isinstance(self.loss, str):
            return self.loss(values, truth)
        if self.loss == "mse":
            return (values - truth).square()
        if self.loss == "l1":
            return (values - truth).abs()
        return functional.huber_loss(values, truth, reduction="none", delta=self.delta)

    def _values(self, output: Tensor) -> Tensor:
        flat = output.reshape(len(output), -1)
        count = flat.shape[1]
        if self.targets:
            wanted, fits = f"{len(self.targets)} values", count == len(self.targets)
        elif self.target is None:
            wanted, fits = "one value", count == 1
        else:
            wanted, fits = f"at least {self.position + 1} values", count > self.position
        if not fits:
            raise ModelError(
                f"Scalar head needs {wanted} per scan, got an output of shape {tuple(output.shape)}. Say "
                "which value is the age (target=, with the names of all in targets=), or choose the head "
                "SoftBins or Gaussian."
            )
        return flat[:, self.position]


@final
@dataclass(frozen=True)
class SoftBins:
    """Probabilities of age bins, of which the expectation is the age (Peng et al. 2021, section 2.3).

    Bins of ``width`` years fill the range from ``low`` to ``high``; a soft label is a normal distribution of
    SD ``sigma`` years about the true age, integrated over each bin. The loss is the Kullback-Leibler
    divergence from label to output, or a function of log probabilities and labels (scans, bins).
    ``outputs`` says what the network returns: logits (log probabilities too) or probabilities.

    Raises:
        ModelError: listing every choice that cannot be used.
    """

    low: float
    high: float
    width: float = 1.0
    sigma: float = 1.0
    outputs: str = "logits"
    loss: str | Loss = "kl"

    def __post_init__(self) -> None:
        count = (self.high - self.low) / self.width if self.width > 0 else 0.0
        checks = (
            (
                count >= 1 and abs(count - round(count)) < 1e-9,
                f"low, high and width need a whole number of bins, got {self.low}, {self.high}, {self.width}",
            ),
            (self.sigma > 0, f"sigma needs years above 0, got {self.sigma}"),
            (
                self.outputs in OUTPUTS,
                f"outputs needs one of {', '.join(OUTPUTS)}, got {self.outputs!r}",
            ),
            (
                callable(self.loss) or self.loss == "kl",
                f"loss needs 'kl' or a function of log probabilities and labels, got {self.loss!r}",
            ),
        )
        raise_faults("SoftBins", checks)

    @property
    def centres(self) -> Tensor:
        """Middles of the bins, years (bins,), double precision."""
        count = round((self.high - self.low) / self.width)
        return self.low + self.width * (torch.arange(count, dtype=torch.float64) + 0.5)

    def ages(self, output: Tensor) -> Tensor:
        """Return the expectation over bins (scans,), years."""
        probabilities = self._log_probabilities(output).exp()
        return probabilities @ self.centres.to(probabilities)

    def labels(self, ages: Tensor) -> Tensor:
        """Return the soft labels (scans, bins) of true ages; what lies outside the range is not made up."""
        half = self.width / 2
        edges = torch.cat([self.centres - half, self.centres[-1:] + half]).to(ages.device)
        below = torch.special.ndtr((edges - ages.double()[:, None]) / self.sigma)
        return below.diff(dim=1)

    def losses(self, output: Tensor, ages: Tensor) -> Tensor:
        """Return the divergence of each scan, Σ y (log y − log p) over bins."""
        found = self._log_probabilities(output)
        labels = self.labels(ages).to(found) + TINY
        if not isinstance(self.loss, str):
            return self.loss(found, labels)
        return (labels * (labels.log() - found)).sum(1)

    def _log_probabilities(self, output: Tensor) -> Tensor:
        flat, bins = output.reshape(len(output), -1), len(self.centres)
        if flat.shape[1] != bins:
            raise ModelError(
                f"SoftBins head from {self.low:g} to {self.high:g} needs {bins} values per scan, got an "
                f"output of shape {tuple(output.shape)}. Correct low, high and width."
            )
        return flat.log() if self.outputs == "probabilities" else functional.log_softmax(flat, dim=1)


@final
@dataclass(frozen=True)
class Gaussian:
    """A mean and a spread per scan, trained by the likelihood of a normal distribution.

    The network returns two values per scan (or two tensors), the mean first; ``spread`` says what the
    second is. Age = ``offset`` + ``scale`` × mean. The loss is the negative log likelihood in the network's
    units, or a function of mean, variance and true values (each (scans,)).

    Raises:
        ModelError: listing every choice that cannot be used.
    """

    spread: str = "log_variance"
    offset: float = 0.0
    scale: float = 1.0
    loss: str | Callable[[Tensor, Tensor, Tensor], Tensor] = "nll"

    def __post_init__(self) -> None:
        checks = (
            (self.spread in SPREADS, f"spread needs one of {', '.join(SPREADS)}, got {self.spread!r}"),
            (self.scale != 0, "scale needs a number other than 0, got 0"),
            (
                callable(self.loss) or self.loss == "nll",
                f"loss needs 'nll' or a function of mean, variance and true values, got {self.loss!r}",
            ),
        )
        raise_faults("Gaussian", checks)

    def ages(self, output: Tensor) -> Tensor:
        """Return the mean (scans,), years."""
        return self.offset + self.scale * self._parts(output)[0]

    def sds(self, output: Tensor) -> Tensor:
        """Return the stated standard deviation (scans,), years."""
        return abs(self.scale) * self._parts(output)[1].sqrt()

    def losses(self, output: Tensor, ages: Tensor) -> Tensor:
        """Return ½ (log 2πσ² + (mean − truth)²/σ²) of each scan, in the network's units."""
        mean, variance = self._parts(output)
        truth = (ages.to(mean) - self.offset) / self.scale
        if not isinstance(self.loss, str):
            return self.loss(mean, variance, truth)
        return 0.5 * (LOG_TWO_PI + variance.log() + (mean - truth).square() / variance)

    def _parts(self, output: Tensor) -> tuple[Tensor, Tensor]:
        flat = output.reshape(len(output), -1)
        if flat.shape[1] != 2:
            raise ModelError(
                f"Gaussian head needs two values per scan, mean and {self.spread}, got an output of shape "
                f"{tuple(output.shape)}. Choose the head Scalar, or return both."
            )
        mean, spread = flat.unbind(1)
        if self.spread == "log_variance":
            return mean, spread.exp()
        return mean, spread if self.spread == "variance" else spread.square()


def raise_faults(name: str, checks: Sequence[tuple[bool, str]]) -> None:
    """Raise ``ModelError`` with the message of every check that does not hold."""
    faults = [message for holds, message in checks if not holds]
    if faults:
        raise ModelError(f"{name} head: {'; '.join(faults)}. Correct the head.")
