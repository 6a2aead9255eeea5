"""The best plan that fits into a time: how many reference models an audit can afford.

References buy the most power at low false-positive rates, and the first ones the most of it: on a toy
regressor RMIA's AUC was 0.775, 0.806 and 0.812 with 1, 4 and 8 references trained on the population. So the
plan with the most references of this ladder that fits is taken, attacks on no references (which cost no
training) always being part of it. Distilled references count as others do; of equally many, those are fewer.
Where not even a plan without references fits, the dearest of the attacks that nobody named are left out.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from privoxel.attacks import ATTACKS, CENTRED, WHEN_NAMED
from privoxel.cohort.base import Cohort
from privoxel.cohort.splits import Design
from privoxel.config import RunConfig, parse_config
from privoxel.errors import ConfigError
from privoxel.progress import duration
from privoxel.recipes.plan import (
    Crews,
    Needs,
    attack_seconds,
    chosen_attacks,
    measure_paces,
    needs_of,
    plan_targets,
)
from privoxel.recipes.shadow_plans import available, unsupported
from privoxel.recipes.target import TargetPlan
from privoxel.store import RunFolder
from privoxel.training.runtime import Runtime

KNOWN = {**ATTACKS, **WHEN_NAMED, **CENTRED}
"""Attacks that may need reference models."""
LADDER = (64, 32, 16, 8, 4, 2, 1)
UNASKED = 8
"""References tried for when the configuration names no number."""
PLANNED = 0.9
"""Share of the budget that may be planned; the rest is for what a pace of a few steps does not tell."""
UNITS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Numbers(NamedTuple):
    """How many reference models of each kind a target has, and which attacks "all" does not stand for."""

    shadows: int
    students: int
    without: tuple[str, ...] = ()

    def __str__(self) -> str:
        students = f" and {self.students} distilled references" if self.students else ""
        return f"{self.shadows} shadow models{students}"

    @property
    def in_words(self) -> str:
        """What a target has, and which attacks are left out."""
        without = f", without {', '.join(self.without)}" if self.without else ""
        return f"{self} a target{without}"


class Fitted(NamedTuple):
    """A configuration that fits, what it needs, and what was chosen."""

    config: RunConfig
    needs: Needs
    numbers: Numbers


def parse_budget(text: str) -> float:
    """Return the seconds of a time such as 90s, 45min, 2h or 1.5d.

    >>> parse_budget("2h")
    7200.0

    Raises:
        ConfigError: if ``text`` is not a positive number and a unit.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(s|min|m|h|d)", text.strip())
    if found is None or float(found[1]) == 0:
        raise ConfigError(f"--budget needs a time such as 90s, 45min, 2h or 1.5d, got {text!r}. Correct it.")
    return float(found[1]) * UNITS[found[2]]


def fit_budget(
    config: RunConfig,
    designs: Sequence[Design],
    cohort: Cohort,
    runtime: Runtime,
    crews: Crews,
    *,
    budget: float,
) -> Fitted:
    """Return ``config`` with the most shadow models that ``budget`` (seconds) and ``crews`` allow.

    No more than the configuration asks for; if it asks for none but for all attacks, up to 8, of the
    population where the split has ``others``. With none affordable the attacks that need them are left out,
    and if that is not enough, those for which only "all" stands, from the dearest on.

    Raises:
        ConfigError: if not even the targets fit, or none of the shadows that the named attacks need.
    """
    wanted = _with_default(config)
    plans = plan_targets(config, designs)
    paces = measure_paces(wanted, cohort, runtime)
    named = [name for name in _named(config) if name in KNOWN]
    fewest: Needs | None = None
    for without in _left_out(config, max(pace.image for pace in paces.values())):
        for numbers in _ladder(wanted):
            chosen = numbers._replace(without=without)
            tried = with_numbers(config, chosen)
            if _is_too_few(tried, named, plans[0]):
                continue
            fewest = needs_of(plans, tried, cohort, paces, runtime, crews)
            if fewest.seconds <= budget * PLANNED:
                return Fitted(tried, fewest, chosen)
    raise ConfigError(
        f"--budget {duration(budget)} needs to hold the training of the targets and of the fewest shadows "
        f"that the named attacks work with, and those attacks, got {fewest}. "
        "Raise it, train fewer, smaller or shorter, or name fewer attacks."
    )


def _left_out(config: RunConfig, image: int) -> list[tuple[str, ...]]:
    """Return what to leave out of "all" attacks: nothing, the dearest, these and the next dearest, and so on.

    Those that cost as much go together; those that are named stay. ``image`` is as in ``attack_seconds``.
    """
    own, steps = config.attacks.without, [config.attacks.without]
    if "all" not in config.attacks.names:
        return steps
    named = {*_named(config), *config.attacks.other_scans}
    chosen = chosen_attacks(_with_default(config)).items()
    costs = {name: attack_seconds((attack,), config, image) for name, attack in chosen if name not in named}
    for least in sorted(set(costs.values()), reverse=True):
        steps.append((*own, *(name for name, cost in costs.items() if cost >= least)))
    return steps


def numbers_in(folder: Path) -> Numbers | None:
    """Return what was chosen for the run in ``folder``; None if there is no run."""
    try:
        config = RunFolder(folder).manifest["settings"]["config"]
        shadows, without = config["shadows"], config["attacks"]["without"]
    except (OSError, ValueError, KeyError):
        return None
    return Numbers(shadows["count"], shadows["distilled"], tuple(without))


def _named(config: RunConfig) -> tuple[str, ...]:
    """Return the attacks that must run: all that are named, without those that only "all" stands for."""
    return (config.attacks.primary, *config.attacks.null_target, *config.attacks.names)


def _is_too_few(config: RunConfig, named: Sequence[str], plan: TargetPlan) -> bool:
    """Return whether primary attacks, or named ones whose kind of models there is, lack some of them."""
    primaries = {config.attacks.primary, *config.attacks.null_target} & set(KNOWN)
    must = primaries | {name for name in named if available(KNOWN[name], config)}
    return bool(unsupported([KNOWN[name] for name in sorted(must)], plan, config))


def _with_default(config: RunConfig) -> RunConfig:
    """Return ``config`` with shadow models if it asks for all attacks and no models that they could use."""
    if config.shadows.count or config.shadows.distilled or "all" not in config.attacks.names:
        return config
    design = "population" if config.split.others else "balanced"
    shadows = config.shadows.model_copy(update={"count": UNASKED, "design": design})
    return config.model_copy(update={"shadows": shadows})


def _ladder(config: RunConfig) -> list[Numbers]:
    """Return the numbers to try, most models first and no more of a kind than ``config`` has."""
    shadows, students = (
        (most, *(step for step in LADDER if step < most), *((0,) if most else ()))
        for most in (config.shadows.count, config.shadows.distilled)
    )
    tried = [Numbers(a, b) for a in shadows for b in students]
    return sorted(
        tried, key=lambda numbers: (numbers.shadows + numbers.students, numbers.shadows), reverse=True
    )


def with_numbers(config: RunConfig, numbers: Numbers) -> RunConfig:
    """Return ``config`` with so many models, without attacks that have none or are too dear, checked anew.

    This is what ``fit_budget`` makes of it when it chooses these numbers.
    """
    config = _with_default(config) if numbers.shadows else config
    update = {"count": numbers.shadows, "distilled": numbers.students}
    tried = config.model_copy(update={"shadows": config.shadows.model_copy(update=update)})
    names = [n for n in config.attacks.names if n not in KNOWN or available(KNOWN[n], tried)]
    settings = tried.to_dict()
    settings["attacks"] |= {"names": names, "without": list(numbers.without or config.attacks.without)}
    return parse_config(settings, where="--budget")
