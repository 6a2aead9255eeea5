"""Whom the adversary of a target knows and on whom it is judged, and the randomness of its attacks."""

import numpy as np
import numpy.typing as npt

from privoxel.arrays import IntArray
from privoxel.config import AttackConfig, RunConfig
from privoxel.evaluation.draws import (
    AUDIT_FOLDS,
    REPRODUCTION_REPEATS,
    Draw,
    audit_draws,
    pseudo_members,
    reproduction_draws,
)
from privoxel.seeding import Streams
from privoxel.signals.table import Membership, SignalTable


def attack_streams(config: RunConfig, number: int) -> Streams:
    """Return the randomness of all attacks under the design of this number, from 1."""
    return Streams(config.seed).child(f"attacks/{number}")


def adversary_draws(
    table: SignalTable, config: AttackConfig, streams: Streams, *, coin: bool = False
) -> tuple[Draw, ...]:
    """Return whom the adversary holds and whom it is judged on, for each repeat of the protocol."""
    people = table.covariates.participant_index
    return protocol_draws(table.membership[0], people, config, streams, coin=coin)


def protocol_draws(
    membership: npt.NDArray[np.int8],
    codes: IntArray,
    config: AttackConfig,
    streams: Streams,
    *,
    coin: bool = False,
) -> tuple[Draw, ...]:
    """Return the draws of ``config``'s protocol over scans of given membership and participants' codes.

    ``coin``: membership was tossed, and an audit then leaks whoever comes, whatever the membership.
    """
    rng = streams.generator("draws")
    if config.protocol == "reproduction":
        return reproduction_draws(membership, codes, repeats=config.repeats or REPRODUCTION_REPEATS, rng=rng)
    return audit_draws(membership, codes, folds=config.repeats or AUDIT_FOLDS, rng=rng, coin=coin)


def null_members(
    table: SignalTable, config: AttackConfig, streams: Streams
) -> tuple[SignalTable, tuple[Draw, ...]]:
    """Return the non-members, half of whom are called members at random, and draws of them."""
    halves = pseudo_members(
        table.membership[0], table.covariates.participant_index, streams.generator("halves")
    )
    judged = halves != Membership.EXCLUDED
    null = table.select(judged).with_membership(halves[judged] == Membership.MEMBER)
    return null, adversary_draws(null, config, streams)
