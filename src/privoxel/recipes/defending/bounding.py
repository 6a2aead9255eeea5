"""ε from both sides on every private setting: what the accountant allows, and what an attack shows."""

import math
from collections.abc import Sequence

from privoxel.evaluation.epsilon import EpsilonBound, HeldOutThreshold, canaries_of
from privoxel.evaluation.frontier_results import PrivacyBounds
from privoxel.recipes.defending.reading import Finished
from privoxel.seeding import Streams

LEVEL = 0.95


def is_private(finished: Finished) -> bool:
    """Return whether the setting was trained with a guarantee."""
    return finished.point.config.privacy is not None


def bound_privacy(finished: Sequence[Finished], attack: str) -> dict[str, PrivacyBounds]:
    """Return both bounds of ε for every private setting of ``finished``, by name.

    The lower one is that of ``attack``, which was fixed beforehand; its level is shared (Bonferroni) among
    all private settings and their targets. Cross-fitted attackers who share teachers are taken for
    independent, as the scores of one training are (``ASSUMPTION``).
    """
    private = [one for one in finished if is_private(one)]
    shares = sum(len(one.choice.targets) for one in private)
    return {one.point.name: _bounds(one, attack, shares, len(private)) for one in private}


def _bounds(one: Finished, attack: str, shares: int, settings: int) -> PrivacyBounds:
    privacy = one.point.config.privacy
    assert privacy is not None  # noqa: S101 - the caller's choice
    strategy = HeldOutThreshold(1.0 - (1.0 - LEVEL) / shares)
    streams = Streams(one.point.config.seed).child(f"epsilon/{one.point.name}")
    found = []
    for k, target in enumerate(one.choice.targets):
        rng = streams.generator(str(k))
        found.append(strategy.bound(canaries_of(target.evaluated[attack]), privacy.delta, rng))
    lower: EpsilonBound = max(found, key=lambda bound: bound.epsilon)
    said = [target.design["defence"] for target in one.results.targets]
    uppers = [float(facts["privacy_epsilon"]) for facts in said]
    upper = max(uppers)
    worst = said[uppers.index(upper)]
    noise = worst.get("privacy_noise_multiplier")
    return PrivacyBounds(
        delta=privacy.delta,
        upper=upper if math.isfinite(upper) else None,
        guarantee=worst["privacy_guarantee"],
        randomness=worst.get("privacy_randomness", ""),
        noise=worst.get("privacy_noise", ""),
        accountant=worst["privacy_accountant"],
        noise_multiplier=None if noise is None else float(noise),
        lower=lower.epsilon,
        level=LEVEL,
        settings=settings,
        attack=attack,
        method=lower.method,
        agree=lower.epsilon <= upper,
    )
