"""Lower bounds on the ε of every target's training, beside what its accountant allows.

Everything is chosen beforehand: the primary attack, the first of its draws alone, and the bounds, which
share the level among all that a run shows (Bonferroni). The first draw alone since later attackers learnt
from people whom the first one judges: what these coins say would be counted twice. Where membership was
tossed by coins the one-run bounds hold without any assumption on the training. Where nobody drew it, members
and non-members may be different people, and an attack that finds this says nothing of the training: no bound
is given where age, sex and site at their best are shown to tell them apart.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from privoxel.attacks import get_attack
from privoxel.config import RunConfig
from privoxel.evaluation.epsilon import EpsilonStrategy, HeldOutThreshold, OneRun, canaries_of
from privoxel.evaluation.metrics import auc
from privoxel.evaluation.results import LowerBound, PrivacyLoss
from privoxel.evaluation.scored import Evaluated
from privoxel.privacy_config import PrivacyConfig
from privoxel.recipes.judging import COVARIATES_BEST, Judged
from privoxel.recipes.shadow_plans import threat_model_of
from privoxel.seeding import Streams

LEVEL = 0.95
GUESSED = 4
"""One of so many is guessed to be included, and as many left out; of the rest nothing is said."""
DELTA: float = PrivacyConfig.model_fields["delta"].default
"""Where no training with differential privacy says another."""

INDEPENDENT = "the scores of one training do not influence each other"
ALIKE = "members and non-members differ as people by chance alone"
COINS = "none beyond the coins that decided who was trained on"
GAUSSIAN = "that the training is a Gaussian mechanism"


class _Way(NamedTuple):
    """One bound, and what it assumes."""

    strategy: EpsilonStrategy
    assumption: str
    gaussian: bool


def privacy_losses(one: Judged, config: RunConfig, targets: int, *, drawn: bool = True) -> list[PrivacyLoss]:
    """Return bounds on the ε of a target's training, of a run with so many ``targets``.

    On its participants, and on its canaries where there are any; nothing where these are too few. ``drawn``:
    members were drawn at random from the people who are judged.
    """
    name = config.attacks.primary
    groups = {"participants": one.scores.evaluated.get(name), "canaries": one.scores.canaries.get(name)}
    shown = 2 + 2 * config.split.coin + 2 * (config.canaries is not None)
    level = 1.0 - (1.0 - LEVEL) / (targets * shown)
    found = [
        _loss(on, first_repeat(scores), one, config, level, drawn=drawn)
        for on, scores in groups.items()
        if scores is not None
    ]
    return [loss for loss in found if loss is not None]


def first_repeat(evaluated: Evaluated) -> Evaluated:
    """Return what the attacker of the first draw said, alone."""
    return Evaluated(
        evaluated.scores[:1], evaluated.thresholds[:1], evaluated.members, evaluated.participants
    )


def _loss(
    on: str, evaluated: Evaluated, one: Judged, config: RunConfig, level: float, *, drawn: bool
) -> PrivacyLoss | None:
    if min(evaluated.n_members, evaluated.n_non_members) < 2:
        return None
    tossed = config.split.coin or on == "canaries"
    scored = canaries_of(evaluated, coin=tossed)
    delta = config.privacy.delta if config.privacy is not None else DELTA
    streams = Streams(config.seed).child(f"epsilon/{one.plan.name}/{on}")
    reason = "" if drawn or tossed else _unlike(one)
    kinds = _ways(len(scored.scores), level, tossed=tossed, drawn=drawn, only_coins=on == "canaries")
    ways = [] if reason else kinds
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
            "lower": max(
                (b.epsilon for b, way in zip(bounds, ways, strict=True) if not way.gaussian), default=None
            ),
            "upper": _upper(one.defence),
            "bounds": bounds,
            "reason": reason,
            "n_members": evaluated.n_members,
            "n_non_members": evaluated.n_non_members,
        }
    )


def _unlike(one: Judged) -> str:
    """Return why people who were not drawn cannot say anything of ε; "" where they seem alike."""
    control = one.scores.controls.get(COVARIATES_BEST)
    found = None if control is None else auc(control)
    if found is None or found.value is None or found.low is None or found.low <= 0.5:
        return ""
    return (
        f"age, sex and site alone rank members above non-members {100 * found.value:.0f} % of the time, and "
        "an attack that finds such people says nothing of the training"
    )


def _ways(people: int, level: float, *, tossed: bool, drawn: bool, only_coins: bool) -> list[_Way]:
    ways = []
    if not only_coins:
        assumed = INDEPENDENT if drawn or tossed else f"{ALIKE}; {INDEPENDENT}"
        ways = [
            _Way(HeldOutThreshold(level), assumed, gaussian=False),
            _Way(HeldOutThreshold(level, gaussian=True), f"{assumed}; {GAUSSIAN}", gaussian=True),
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
