"""What a federation is asked to do: its learners, its settings, and the checks before the first round."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any, Literal, final

import numpy as np

from privoxel.arrays import IntArray
from privoxel.cohort.base import Cohort
from privoxel.errors import ConfigError, FederationError
from privoxel.training.federated.privacy import CentralPrivacy, LocalPrivacy, Privacy, SecureAggregation

STRATEGIES = ("fedavg", "fedprox", "fedadam")
OPTIMISERS = ("sgd", "adam")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@final
@dataclass(frozen=True)
class Learner:
    """One site: its name (also of its files) and the rows of the cohort that it trains on."""

    name: str
    rows: IntArray


@final
@dataclass(frozen=True)
class FederationJob:
    """How a federation trains; the defaults are those of Gupta et al. 2021, A.2.

    Attributes:
        rounds: communication rounds.
        local_epochs: passes over a learner's scans in each round.
        learning_rate: of the learners' optimiser.
        batch_size: scans a step.
        optimiser: ``sgd`` (no momentum) or ``adam``; its state starts anew in every round.
        weight_decay: of the learners' optimiser.
        loss_scale: divides the squared error (years²); the scaled head trains in units of the age SD.
        strategy: ``fedavg`` (McMahan et al. 2017), ``fedprox`` (Li et al. 2020), ``fedadam`` (Reddi et al.
            2021).
        weighted: whether the mean weights learners by their scans, or counts each learner once.
        proximal_mu: weight of FedProx's ½ μ ‖w − w_community‖².
        server_learning_rate: FedAdam's η; ``server_betas`` and ``server_tau`` are its β₁, β₂ and τ.
        sparsity: share of the kernels' weights that is zero in the end (``pruning``); 0: none.
        curious: whether the server keeps every local update, not only the community models.
        minimum_learners: a round with fewer usable updates ends the federation.
        absent: learners that are away, by round; for experiments with drop-outs.
        privacy: differential privacy or secure aggregation, or None. With secure aggregation a curious
            server has nothing to keep.
        patience_seconds: how long a server waits for learners to connect, before each round.
        round_seconds: how long it waits for the updates of a round.

    Raises:
        ConfigError: listing every setting that cannot be used.
    """

    rounds: int = 25
    local_epochs: int = 4
    learning_rate: float = 5e-5
    batch_size: int = 1
    optimiser: Literal["sgd", "adam"] = "sgd"
    weight_decay: float = 0.0
    loss_scale: float = 1.0
    strategy: Literal["fedavg", "fedprox", "fedadam"] = "fedavg"
    weighted: bool = True
    proximal_mu: float = 0.0
    server_learning_rate: float = 0.1
    server_betas: tuple[float, float] = (0.9, 0.99)
    server_tau: float = 1e-3
    sparsity: float = 0.0
    curious: bool = False
    minimum_learners: int = 1
    absent: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    privacy: Privacy | None = None
    patience_seconds: float = 60.0
    round_seconds: float = 86_400.0

    def __post_init__(self) -> None:
        faults = [message for holds, message in self._checks() if not holds]
        if faults:
            raise ConfigError(f"Federation: {'; '.join(faults)}. Correct these settings.")

    def _checks(self) -> Iterator[tuple[bool, str]]:
        for name in ("rounds", "local_epochs", "batch_size", "minimum_learners"):
            yield getattr(self, name) >= 1, f"{name} needs 1 or more, got {getattr(self, name)}"
        for name in ("learning_rate", "loss_scale", "server_learning_rate", "server_tau", "round_seconds"):
            value = getattr(self, name)
            yield 0 < value < np.inf, f"{name} needs a finite number above 0, got {value}"
        for name in ("weight_decay", "proximal_mu", "patience_seconds"):
            yield getattr(self, name) >= 0, f"{name} needs 0 or more, got {getattr(self, name)}"
        yield 0 <= self.sparsity < 1, f"sparsity needs a share below 1, got {self.sparsity}"
        yield (
            self.optimiser in OPTIMISERS,
            f"optimiser needs one of {', '.join(OPTIMISERS)}, got {self.optimiser!r}",
        )
        yield (
            self.strategy in STRATEGIES,
            f"strategy needs one of {', '.join(STRATEGIES)}, got {self.strategy!r}",
        )
        yield (
            (self.strategy == "fedprox") == (self.proximal_mu > 0),
            f"proximal_mu needs a number above 0 with fedprox and 0 with the others, got {self.proximal_mu} "
            f"with {self.strategy}",
        )
        yield (
            all(0 <= beta < 1 for beta in self.server_betas),
            f"server_betas need numbers in [0, 1), got {self.server_betas}",
        )
        if self.privacy is not None:
            yield from self.privacy.checks()
        yield (
            not (self.weighted and isinstance(self.privacy, CentralPrivacy)),
            "central privacy needs weighted = false (its noise is for the plain mean), got weighted = true",
        )
        yield (
            not (self.strategy == "fedadam" and isinstance(self.privacy, SecureAggregation)),
            "secure aggregation needs strategy fedavg or fedprox, got 'fedadam'",
        )

    @property
    def local(self) -> dict[str, int | float | str]:
        """The settings that travel to the learners, under Flower's names."""
        return {
            "local-epochs": self.local_epochs,
            "learning-rate": self.learning_rate,
            "batch-size": self.batch_size,
            "optimiser": self.optimiser,
            "weight-decay": self.weight_decay,
            "loss-scale": self.loss_scale,
            "proximal-mu": self.proximal_mu,
            "sparsity": self.sparsity,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values that JSON can hold."""
        settings = asdict(self)
        settings["server_betas"] = list(self.server_betas)
        settings["absent"] = {str(number): sorted(names) for number, names in sorted(self.absent.items())}
        settings["privacy"] = self.privacy and {"kind": type(self.privacy).__name__, **asdict(self.privacy)}
        return settings


def job_of(settings: Mapping[str, Any]) -> FederationJob:
    """Return the job that ``FederationJob.to_dict`` described.

    Raises:
        ConfigError: naming the setting or the kind of privacy that is not known.
    """
    values = dict(settings)
    privacy = dict(values.get("privacy") or {})
    kinds = {kind.__name__: kind for kind in (CentralPrivacy, LocalPrivacy, SecureAggregation)}
    name = privacy.pop("kind", None)
    try:
        values["privacy"] = kinds[name](**privacy) if name else None
        values["absent"] = {int(number): tuple(away) for number, away in values.get("absent", {}).items()}
        values["server_betas"] = tuple(values.get("server_betas", FederationJob.server_betas))
        return FederationJob(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"A federation's settings cannot be used, got: {error}. Correct them.") from error


def check_learners(learners: Sequence[Learner], cohort: Cohort, job: FederationJob) -> None:
    """Check that a federation can start, before anything is computed.

    Raises:
        FederationError: listing every fault: a name that cannot be a file's or is given twice, a learner
        without scans, with a scan twice or with rows outside the cohort, participants at two learners (how
        many and at which, never who), too few learners, unknown learners among the absent.
    """
    faults = [*_faults_of_names(learners, job), *_faults_of_rows(learners, cohort)]
    if faults:
        raise FederationError(f"The federation cannot start: {'; '.join(faults)}.")


def _faults_of_names(learners: Sequence[Learner], job: FederationJob) -> Iterator[str]:
    names = [learner.name for learner in learners]
    odd = [repr(name) for name in names if not NAME.fullmatch(name)]
    if odd:
        yield f"learners need names of letters, digits, '.', '_' and '-', got {', '.join(odd)}. Rename them"
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        yield f"learners need distinct names, got {', '.join(twice)} more than once. Rename them"
    if len(names) < job.minimum_learners:
        yield (
            f"it needs at least {job.minimum_learners} learners, got {len(names)}. "
            "Add learners or lower minimum_learners"
        )
    unknown = sorted({name for away in job.absent.values() for name in away} - set(names))
    if unknown:
        yield f"absent needs names of learners, got {', '.join(unknown)}. Name some of {', '.join(names)}"
    privacy = job.privacy
    if isinstance(privacy, CentralPrivacy) and not privacy.enough_count_noise(len(names)):
        yield (
            "adaptive clipping needs a noise_multiplier below twice count_sd, got "
            f"{privacy.noise_multiplier} with {len(names)} learners. "
            f"Set count_sd above {privacy.noise_multiplier / 2:g}"
        )


def _faults_of_rows(learners: Sequence[Learner], cohort: Cohort) -> Iterator[str]:
    empty = [learner.name for learner in learners if len(learner.rows) == 0]
    if empty:
        yield f"every learner needs scans, got none at {', '.join(empty)}. Give it scans or leave it out"
    outside = [
        learner.name
        for learner in learners
        if len(learner.rows) and not 0 <= learner.rows.min() <= learner.rows.max() < len(cohort)
    ]
    if outside:
        yield f"rows need to be 0 to {len(cohort) - 1}, got others at {', '.join(outside)}. Correct them"
        return
    repeated = [learner.name for learner in learners if len(np.unique(learner.rows)) < len(learner.rows)]
    if repeated:
        yield f"a learner needs each scan once, got one twice at {', '.join(repeated)}. Name each once"
    yield from _shared_participants(learners, cohort)


def _shared_participants(learners: Sequence[Learner], cohort: Cohort) -> Iterator[str]:
    people = cohort.covariates.participant_index
    held = {learner.name: set(people[learner.rows].tolist()) for learner in learners}
    shared = {pair: len(held[pair[0]] & held[pair[1]]) for pair in combinations(held, 2)}
    found = [f"{count} at {a} and {b}" for (a, b), count in shared.items() if count]
    if found:
        yield (
            f"a participant needs to be at one learner, got participants at two: {', '.join(found)}. "
            "Leave them to one learner"
        )
