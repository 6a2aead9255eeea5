"""ε from both sides on every private setting: what the accountant allows, and what an attack shows."""

import math
from collections.abc import Sequence

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.evaluation.epsilon import Canaries, EpsilonBound, HeldOutThreshold
from privoxel.evaluation.frontier_results import PrivacyBounds
from privoxel.evaluation.scored import Evaluated
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
        found.append(strategy.bound(canaries(target.evaluated[attack]), privacy.delta, rng))
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
        accountant=worst["privacy_accountant"],
        noise_multiplier=None if noise is None else float(noise),
        lower=lower.epsilon,
        level=LEVEL,
        settings=settings,
        attack=attack,
        method=lower.method,
        agree=lower.epsilon <= upper,
    )


def canaries(evaluated: Evaluated) -> Canaries:
    """Return one score a participant: how far above the attackers' thresholds their scans lie, on average.

    A split of fixed size is not a throw of coins, so that bounds which need these are refused.
    """
    above = evaluated.scores - evaluated.thresholds[:, None]
    people, first, codes = np.unique(evaluated.participants, return_index=True, return_inverse=True)
    judged = ~np.isnan(above)
    totals = np.bincount(codes, np.where(judged, above, 0.0).sum(axis=0), minlength=len(people))
    counts = np.bincount(codes, judged.sum(axis=0), minlength=len(people))
    seen = counts > 0
    scores: FloatArray = totals[seen] / counts[seen]
    return Canaries(scores, evaluated.members[first][seen])
