"""Updates of DP-SGD and DP-Adam (Abadi et al. 2016, algorithm 1), with participants as the unit.

Each participant is in a batch by a coin of its own with probability batch size / participants, and is there
with one of its scans. The scan's gradient is clipped to norm C; the sum over the batch gets Gaussian noise of
SD noise multiplier × C and is divided by the expected batch size. Gradients come from the one-pass extractor;
clipping, accumulation over parts of a batch, and averaging are those of Opacus' optimiser.

``per-sample`` clipping holds every scan's gradient of a part. ``ghost`` clipping (Li et al. 2022) takes only
norms in a first pass and differentiates the weighted loss in a second: less memory, more time.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, final

import numpy as np
import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from privoxel.arrays import IntArray
from privoxel.gradients.batching import suggest_batch
from privoxel.gradients.one_pass import Extractor
from privoxel.gradients.request import Request, Signals
from privoxel.seeding import torch_stream
from privoxel.training.job import TrainingJob, TrainingSet
from privoxel.training.private.accounting import Spent, spent
from privoxel.training.private.checks import check_model
from privoxel.training.private.planning import plan
from privoxel.training.private.randomness import Randomness, make_randomness
from privoxel.training.private.wording import guarantee, noise_source
from privoxel.training.reading import Reader
from privoxel.training.steps import evaluate_but_drop, make_optimiser

NORM_FLOOR = 1e-6


class _NoisyOptimiser(DPOptimizer):  # type: ignore[misc]
    """Opacus' optimiser with noise from a source of our own."""

    def __init__(self, optimiser: torch.optim.Optimizer, source: Randomness, **settings: Any) -> None:
        super().__init__(optimiser, **settings)
        self._source = source

    def add_noise(self) -> None:
        """Put the sums of clipped gradients with noise into ``grad``."""
        for parameter in self.params:
            summed = parameter.summed_grad
            noise = self._source.normal(summed, self.noise_multiplier * self.max_grad_norm)
            parameter.grad = (summed + noise).view_as(parameter)


@final
class PrivateSteps:
    """The updates of one private training; ``mechanism`` is what its steps repeat."""

    def __init__(self, model: nn.Module, training_set: TrainingSet, job: TrainingJob) -> None:
        """Prepare the updates of ``model``, which is on its device.

        Raises:
            ModelError: if layers of the model couple scans.
            ConfigError: if the plan is refused (``planning.plan``).
        """
        assert job.privacy is not None  # noqa: S101 - the loop's choice
        check_model(model)
        self._model, self._set, self._job, self._privacy = model, training_set, job, job.privacy
        self._people = _scans_by_participant(training_set)
        self._reader = Reader(training_set, job)
        self._moment = "example"
        self._noise: Tensor | None = None
        self.mechanism = plan(len(self._people), job.config, job.privacy)
        self._randomness = make_randomness(self._privacy.randomness, job.streams)
        self._optimiser = _NoisyOptimiser(
            make_optimiser(model, job.config),
            self._randomness,
            noise_multiplier=self.mechanism.noise_multiplier,
            max_grad_norm=self._privacy.clip,
            expected_batch_size=self.mechanism.rate * len(self._people),
        )
        model.eval()
        self._names = tuple(name for name, _ in model.named_parameters())
        self._ghost = self._privacy.clipping == "ghost"
        request = Request(norms=True) if self._ghost else Request(gradients=self._names)
        example = self._read(training_set.train[:2])
        self._extractor = Extractor(model, request, volumes=example[0], ages=example[1], loss=self._loss)
        self._part = suggest_batch(
            self._extractor.bytes_per_scan(*example), self._privacy.memory_bytes, example[0].device, 2
        )

    @property
    def steps_per_epoch(self) -> int:
        """Updates of one epoch: as many as it takes to draw each participant once on average."""
        return self.mechanism.steps // self._job.config.epochs

    def batches(self, epoch: int, done: int = 0) -> Iterator[IntArray]:
        """Yield the rows of each update, of other numbers each time, and sometimes none.

        After an interruption secret coins and noise are drawn anew, which leaves what is accounted for as it
        is: each update has its own, and what an abandoned one drew is in no weights that are kept.
        """
        evaluate_but_drop(self._model)
        self._randomness.start(epoch, torch.device(self._job.runtime.device))
        if done:
            self._randomness.resume(self._noise)
        for number in range(self.steps_per_epoch):
            drawn = self._randomness.coins(len(self._people), self.mechanism.rate)
            rows = np.array([self._one_of(self._people[k]) for k in drawn], dtype=np.int64)
            if number >= done:
                self._moment = f"{epoch}/{number}"
                yield rows

    def update(self, rows: IntArray) -> Tensor:
        """Make one noisy step."""
        parts = np.array_split(rows, max(1, math.ceil(len(rows) / self._part)))
        residuals = []
        for number, part in enumerate(parts):
            residuals.append(self._accumulate(part))
            self._optimiser.signal_skip_step(number + 1 < len(parts))
            self._optimiser.step()
            self._optimiser.zero_grad()
        return torch.cat(residuals)

    def finish(self, epoch: int) -> None:
        """Do nothing."""

    def spent(self, epoch: int) -> Spent:
        """Return the privacy spent by the end of ``epoch``."""
        done = self.mechanism._replace(steps=self.steps_per_epoch * epoch)
        return spent(done, self._privacy.delta, self._privacy.accountant)

    def facts(self, epoch: int) -> Mapping[str, str]:
        """Return what was spent by the end of ``epoch``, and by what."""
        bound = self.spent(epoch)
        return {
            "guarantee": guarantee(bound, self._privacy.randomness),
            "epsilon": f"{bound.epsilon:.6g}",
            "delta": f"{bound.delta:.6g}",
            "accountant": bound.accountant,
            "unit": "participant",
            "noise_multiplier": f"{self.mechanism.noise_multiplier:.6g}",
            "clip": f"{self._privacy.clip:.6g}",
            "sampling_rate": f"{self.mechanism.rate:.6g}",
            "steps": str(self.steps_per_epoch * epoch),
            "randomness": self._privacy.randomness,
            "noise": noise_source(self._privacy.randomness),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the optimiser's state, and that of seeded noise."""
        return {"optimiser": self._optimiser.state_dict(), "noise": self._randomness.state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the optimiser's state, and that of seeded noise."""
        self._optimiser.load_state_dict(state["optimiser"])
        self._noise = state["noise"]

    def _one_of(self, scans: IntArray) -> int:
        return int(scans[self._randomness.one_of(len(scans)) if len(scans) > 1 else 0])

    def _read(self, rows: IntArray) -> tuple[Tensor, Tensor]:
        batch = self._reader.read(rows, self._moment)
        return batch.volumes, batch.ages

    def _loss(self, output: Tensor, ages: Tensor) -> Tensor:
        return (output.flatten().float() - ages).square() / self._set.loss_scale

    def _accumulate(self, rows: IntArray) -> Tensor:
        """Hand the scans' gradients to the optimiser; return prediction - age of each."""
        parameters = list(self._model.parameters())
        if not len(rows):
            for parameter in parameters:
                parameter.grad_sample = parameter.new_zeros(0, *parameter.shape)  # type: ignore[attr-defined]
            return parameters[0].new_zeros(0)
        volumes, ages = self._read(rows)
        if self._ghost:
            return self._ghost_clip(volumes, ages)
        found = self._extract(volumes, ages)
        for name, parameter in self._model.named_parameters():
            parameter.grad_sample = found.gradients[name]  # type: ignore[attr-defined]
        return found.prediction.float() - ages

    def _extract(self, volumes: Tensor, ages: Tensor) -> Signals:
        with self._job.runtime.autocast():
            return self._extractor(volumes, ages)

    def _ghost_clip(self, volumes: Tensor, ages: Tensor) -> Tensor:
        """Add the clipped gradients' sum without forming them one by one."""
        masks = int(torch.randint(2**62, ()))  # both passes drop the same units
        with torch_stream(masks):
            found = self._extract(volumes, ages)
        assert found.norms is not None  # noqa: S101 - they were asked for
        size = found.norms.norm(dim=1)
        weights = (self._privacy.clip / (size + NORM_FLOOR)).clamp(max=1.0)
        with torch_stream(masks), self._job.runtime.autocast():
            weighted = (self._loss(self._model(volumes), ages) * weights).sum()
        parameters = list(self._model.parameters())
        gradients = torch.autograd.grad(weighted, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            before = parameter.summed_grad  # type: ignore[attr-defined]
            added = torch.zeros_like(parameter) if gradient is None else gradient
            parameter.summed_grad = added if before is None else before + added  # type: ignore[attr-defined]
            parameter.grad_sample = parameter.new_zeros(0, *parameter.shape)  # type: ignore[attr-defined]
        return found.prediction.float() - ages


def _scans_by_participant(training_set: TrainingSet) -> list[IntArray]:
    people = training_set.cohort.covariates.participant_index[training_set.train]
    return [training_set.train[people == person] for person in np.unique(people)]
