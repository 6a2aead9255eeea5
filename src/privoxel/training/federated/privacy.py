"""Defences in the federation, as settings: Flower's differential privacy and its secure aggregation.

Differential privacy here is of the *learners*: what is hidden is whether a learner took part, not a
participant's scan (record-level privacy is DP-SGD in the local training). The formulas are Flower's; see
``strategy``, ``client`` and ``secure`` for where they are put.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, final

Checks = Iterator[tuple[bool, str]]


@final
@dataclass(frozen=True)
class CentralPrivacy:
    """The server adds Gaussian noise to the mean of clipped updates (McMahan et al. 2018).

    The noise has SD ``noise_multiplier × clipping_norm / learners of the round``, per weight. With
    ``clipping = "adaptive"`` the norm starts at ``clipping_norm`` and follows the ``target_clipped`` share of
    clipped updates at the rate ``norm_rate`` (Andrew et al. 2021); ``count_sd`` is the noise on that share's
    count, by default a twentieth of the learners. ``clipped_by`` says who clips: a server that clips has seen
    the updates.
    """

    noise_multiplier: float
    clipping_norm: float
    clipping: Literal["fixed", "adaptive"] = "fixed"
    clipped_by: Literal["server", "learner"] = "server"
    target_clipped: float = 0.5
    norm_rate: float = 0.2
    count_sd: float | None = None

    def checks(self) -> Checks:
        """Yield whether each setting can be used, and what is wrong with it."""
        yield self.noise_multiplier >= 0, f"noise_multiplier needs 0 or more, got {self.noise_multiplier}"
        yield self.clipping_norm > 0, f"clipping_norm needs a number above 0, got {self.clipping_norm}"
        yield (
            self.clipping in ("fixed", "adaptive"),
            f"clipping needs fixed or adaptive, got {self.clipping!r}",
        )
        yield (
            self.clipped_by in ("server", "learner"),
            f"clipped_by needs server or learner, got {self.clipped_by!r}",
        )
        yield 0 <= self.target_clipped <= 1, f"target_clipped needs a share, got {self.target_clipped}"
        yield self.norm_rate > 0, f"norm_rate needs a number above 0, got {self.norm_rate}"
        yield self.count_sd is None or self.count_sd >= 0, f"count_sd needs 0 or more, got {self.count_sd}"

    def enough_count_noise(self, learners: int) -> bool:
        """Return whether the noise on the count leaves any of the noise multiplier for the updates."""
        if self.clipping == "fixed" or self.noise_multiplier == 0:
            return True
        return self.noise_multiplier < 2 * (learners / 20 if self.count_sd is None else self.count_sd)


@final
@dataclass(frozen=True)
class LocalPrivacy:
    """Each learner clips its update and adds Gaussian noise before it leaves (Flower's ``LocalDpMod``).

    The noise has SD ``sensitivity × √(2 ln(1.25 / delta)) / epsilon`` per weight. That is the (ε, δ) of one
    round, for ε up to 1 (Dwork and Roth 2014, theorem A.1); the budget of all rounds is larger and is not
    accounted here. ``sensitivity`` is ``clipping_norm`` unless given.
    """

    clipping_norm: float
    epsilon: float
    delta: float
    sensitivity: float | None = None

    def checks(self) -> Checks:
        """Yield whether each setting can be used, and what is wrong with it."""
        yield self.clipping_norm > 0, f"clipping_norm needs a number above 0, got {self.clipping_norm}"
        yield self.epsilon > 0, f"epsilon needs a number above 0, got {self.epsilon}"
        yield 0 < self.delta < 1, f"delta needs a number between 0 and 1, got {self.delta}"
        yield (
            self.sensitivity is None or self.sensitivity > 0,
            f"sensitivity needs a number above 0, got {self.sensitivity}",
        )


@final
@dataclass(frozen=True)
class SecureAggregation:
    """The server learns the mean of the updates and no single one (SecAgg+, Bell et al. 2020), over Flower.

    Updates are clipped to ± ``largest_update`` per weight and rounded at random to 2²² levels; one that is
    larger is withheld by its learner. ``threshold`` is the share of the learners that must stay to the end of
    a round. Not a strong cipher: Flower 1.41 draws the masks from 32-bit seeds.
    """

    largest_update: float = 1.0
    threshold: float = 0.5

    def checks(self) -> Checks:
        """Yield whether each setting can be used, and what is wrong with it."""
        yield self.largest_update > 0, f"largest_update needs a number above 0, got {self.largest_update}"
        yield 0 < self.threshold <= 1, f"threshold needs a share above 0, got {self.threshold}"


Privacy = CentralPrivacy | LocalPrivacy | SecureAggregation
