"""Which settings share a training: their weights lie on one trajectory, or are the same.

All settings have one seed, and draws are named streams: fewer epochs are the first of more, early stopping
and averaging end or leave the same trajectory, and rules for answers change no weight. What such settings
show is not as much as so many trainings would.
"""

from collections.abc import Sequence

from privoxel.config import RunConfig
from privoxel.recipes.defending.settings import Point


def shared_trainings(points: Sequence[Point]) -> list[tuple[int, ...]]:
    """Return the places of ``points`` by training, in the order of the first of each.

    A student of distillation and a model with pretraining count as trainings of their own.
    """
    groups: dict[str, list[int]] = {}
    for place, point in enumerate(points):
        groups.setdefault(_trajectory(point), []).append(place)
    return [tuple(places) for places in groups.values()]


def _trajectory(point: Point) -> str:
    """Return a label that is equal for settings on one trajectory."""
    config = point.config
    model = config.models[0].model_dump(exclude={"epochs", "stated_mae"})
    training = config.training.model_dump(exclude={"epochs", "snapshot_every"})
    ends = {"stop_gap", "average_last"}
    defence = config.defences.model_dump(exclude={"release", *ends})
    parts: list[object] = [model, training, defence, config.privacy]
    if _plans_for_its_length(config):
        parts += [config.models[0].epochs or config.training.epochs]
    if config.defences.distillation is not None:
        parts += [config.defences.model_dump(include=ends)]
    if config.privacy is not None and config.privacy.randomness != "seeded":
        parts += [point.name]  # its noise is nobody else's
    return repr(parts)


def _plans_for_its_length(config: RunConfig) -> bool:
    """Return whether the first epochs of a training depend on how many there will be."""
    defences, privacy = config.defences, config.privacy
    noise = privacy is not None and privacy.epsilon is not None
    return noise or defences.sparsity > 0.0 or defences.distillation is not None
