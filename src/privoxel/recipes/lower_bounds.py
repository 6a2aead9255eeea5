"""Lower bounds on the ε of every target's training, beside what its accountant allows.

Everything is chosen beforehand: the primary attack, the first of its draws alone, and the bounds, which
share the level among all that a run shows (Bonferroni). The first draw alone since later attackers learnt
from people whom the first one judges: what these coins say would be counted twice. Where membership was
tossed by coins the one-run bounds hold without any assumption on the training.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from privoxel.attacks import get_attack
from privoxel.config import RunConfig
from privoxel.evaluation.epsilon import EpsilonStrategy, HeldOutThreshold, OneRun, canaries_of
from privoxel.evaluation.results import LowerBound, PrivacyLoss
from privoxel.evaluation.scored import Evaluated
from privoxel.privacy_config import PrivacyConfig
from privoxel.recipes.judging import Judged
from privoxel.recipes.shadow_plans import threat_model_of
from privoxel.seeding import Streams

LEVEL = 0.95
GUESSED = 4
"""One of so many is guessed to be included, and as many left out; of the rest nothing is said."""
DELTA: float = PrivacyConfig.model_fields["delta"].default
"""Where no training with differential privacy says another."""

INDEPENDENT = "the scores of one training do not influence each other"
COINS = "none beyond the coins that decided who was trained on"
GAUSSIAN = "that the training is a Gaussian mechanism"


class _Way(NamedTuple):
    """One bound, and what it assumes."""

    strategy: EpsilonStrategy
    assumption: str
    gaussian: bool


def privacy_losses(one: Judged, config: RunConfig, targets: int) -> list[PrivacyLoss]:
    """Return bounds on the ε of a target's training, of a run with so many ``targets``.

    On its participants, and on its canaries where there are any; nothing where these are too few.
    """
    name = config.attacks.primary
    groups = {"participants": one.scores.evaluated.get(name), "canaries": one.scores.canaries.get(name)}
    shown = 2 + 2 * config.split.coin + 2 * (config.canaries is not None)
    level = 1.0 - (1.0 - LEVEL) / (targets * shown)
    found = [
        _loss(on, first_repeat(scores), one, config, level)
        for on, scores in groups.items()
        if scores is not None
    ]
    return [loss for loss in found if loss is not None]


def first_repeat(evaluated: Evaluated) -> Evaluated:
    """Return what the attacker of the first draw said, alone."""
    return Evaluated(
        evaluated.scores[:1], evaluated.thresholds[:1], evaluated.members, evaluated.participants
    )


def _loss(on: str, evaluated: Evaluated, one: Judged, config: RunConfig, level: float) -> PrivacyLoss | None:
    if min(evaluated.n_members, evaluated.n_non_members) < 2:
        return None
    tossed = config.split.coin or on == "canaries"
    scored = canaries_of(evaluated, coin=tossed)
    delta = config.privacy.delta if config.privacy is not None else DELTA
    streams = Streams(config.seed).child(f"epsilon/{one.plan.name}/{on}")
    ways = _ways(len(scored.scores), level, tossed=tossed, only_coins=on == "canaries")
    bounds = []
    for place, way in enumerate(ways):
        bound = way.strategy.bound(scored, delta, streams.generator(str(place)))
        bounds.append(
            LowerBound(
                epsilon=bound.epsilon,
                mu=bound.mu,
                level=level,
                method=bound.method,
                assumption=way.assumption,
            )
        )
    attack = get_attack(config.attacks.primary)
    return PrivacyLoss.model_validate(
        {
            "on": on,
            "attack": attack.name,
            "title": attack.title,
            "threat_model": str(threat_model_of(attack, config)),
            "delta": delta,
            "lower": max(b.epsilon for b, way in zip(bounds, ways, strict=True) if not way.gaussian),
            "upper": _upper(one.defence),
            "bounds": bounds,
            "n_members": evaluated.n_members,
            "n_non_members": evaluated.n_non_members,
        }
    )


def _ways(people: int, level: float, *, tossed: bool, only_coins: bool) -> list[_Way]:
    ways = []
    if not only_coins:
        ways = [
            _Way(HeldOutThreshold(level), INDEPENDENT, gaussian=False),
            _Way(HeldOutThreshold(level, gaussian=True), f"{INDEPENDENT}; {GAUSSIAN}", gaussian=True),
        ]
    if tossed:
        guesses = max(people // GUESSED, 1)
        ways += [
            _Way(OneRun(guesses, guesses, level), COINS, gaussian=False),
            _Way(OneRun(guesses, guesses, level, gaussian=True), f"{COINS}; {GAUSSIAN}", gaussian=True),
        ]
    return ways


def _upper(facts: Mapping[str, str]) -> float | None:
    """Return what the accountant allows; None where there is none, or where that is infinite."""
    said = float(facts.get("privacy_epsilon", "inf"))
    return said if math.isfinite(said) else None
