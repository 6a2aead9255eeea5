"""What somebody brings to be audited, how it is audited, and both as the settings of a run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from privoxel.attacks.base import Attack
from privoxel.cohort.base import Cohort
from privoxel.cohort.splits import Sessions
from privoxel.config import (
    AttackConfig,
    CohortConfig,
    ModelConfig,
    ReportConfig,
    RunConfig,
    SignalConfig,
    SplitConfig,
)
from privoxel.errors import ConfigError
from privoxel.progress import Progress, Silent
from privoxel.recipes.matched import CALIPER
from privoxel.recipes.target import Observed, TargetPlan, Workplace
from privoxel.training.runtime import Runtime

PRIMARY = "default-black-box"

Observe = Callable[[TargetPlan, Sequence[Attack], Workplace], Observed]
"""Returns the signals that the attacks read, for every scan of ``workplace.cohort`` in its order."""


@final
@dataclass(frozen=True)
class Brought:
    """A model that somebody brought, and the people it is judged on.

    ``kind`` names the section of the settings ("predictions", "model"), ``name`` the model in report and
    files. ``states`` gives participants of ``cohort`` their state, MEMBER, NON_MEMBER or EXCLUDED of
    ``cohort/splits.py``; who is not in it is left out. ``attacks`` are those that can run on what ``observe``
    yields, and ``primary`` the one that the verdict rests on unless the user chose another; those of
    ``when_named`` run only where they are asked for. ``facts`` are settings that decide something: digests of
    files, formats, layers. ``notes`` are sentences that a reader should know, without ids.
    """

    kind: str
    name: str
    cohort: Cohort
    states: Mapping[str, int]
    attacks: Mapping[str, Attack]
    observe: Observe
    primary: str = PRIMARY
    when_named: Mapping[str, Attack] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class BroughtAudit:
    """How a model that somebody brought is audited.

    ``primary``: the attack that the verdict rests on, None for the door's own; ``attacks``: those to run,
    empty for all. ``stated_mae``: error (years) that the model is known to reach on unseen people. ``match``:
    what pairs of a member and a non-member must have in common; empty compares everybody. ``caliper``:
    largest difference in age within a pair, years. ``tolerated_auc``: the limit below which a leak is
    tolerated. ``prevalences``: shares of members among those tested at which precision is stated, empty for
    those of a run. ``train_sessions``: only so many sessions of each person, the first by their labels, or
    those of these labels were trained on (the rest is what an adversary may hold instead; who has none of
    these labels is left out); None for all. ``other_scans``: attacks run on the rest too, besides the
    primary. ``population``: ids of people who are in neither group, and of whom an adversary knows that they
    were not trained on. ``coin``: each person was trained on or not by a fair coin of their own.
    ``skip_bad``: leave faulty lines and scans out. ``signals`` bounds batches and memory where a model is
    run, on ``runtime``. The rest changes no number.
    """

    primary: str | None = None
    attacks: tuple[str, ...] = ()
    stated_mae: float | None = None
    match: tuple[str, ...] = ()
    caliper: float = CALIPER
    tolerated_auc: float = 0.6
    prevalences: tuple[float, ...] = ()
    train_sessions: Sessions = None
    other_scans: tuple[str, ...] = ()
    population: tuple[str, ...] = ()
    coin: bool = False
    seed: int = 0
    title: str = ""
    skip_bad: bool = False
    signals: SignalConfig = field(default_factory=SignalConfig)
    runtime: Runtime = field(default_factory=Runtime)
    resume: bool = False
    workers: int = 1
    progress: Progress = field(default_factory=Silent)


def run_config(brought: Brought, options: BroughtAudit, attacks: tuple[str, ...], primary: str) -> RunConfig:
    """Return the settings of such an audit in the form of a run's.

    Raises:
        ConfigError: if a prevalence does not lie between 0 and 1.
    """
    if any(not 0.0 < share < 1.0 for share in options.prevalences):
        raise ConfigError(
            f"An audit needs prevalences between 0 and 1, got {', '.join(map(str, options.prevalences))}. "
            "Give the share of members among those an adversary tests, such as 0.1."
        )
    title = options.title or f"Membership-inference audit of {brought.name}"
    stated: dict[str, Any] = {"prevalences": options.prevalences} if options.prevalences else {}
    return RunConfig(
        seed=options.seed,
        cohort=CohortConfig(kind="real"),
        split=SplitConfig(train_sessions=options.train_sessions, coin=options.coin),
        models=(ModelConfig(name=brought.name, stated_mae=options.stated_mae),),
        signals=options.signals,
        attacks=AttackConfig(
            names=attacks, primary=primary, protocol="audit", other_scans=options.other_scans
        ),
        report=ReportConfig(title=title, tolerated_auc=options.tolerated_auc, slices=0, **stated),
    )


def shown_config(config: RunConfig, brought: Brought, options: BroughtAudit) -> dict[str, Any]:
    """Return the settings that decided something: nothing was trained here."""
    shown = config.to_dict()
    kept: dict[str, Any] = {"seed": shown["seed"], "attacks": shown["attacks"], "report": shown["report"]}
    kept[brought.kind] = {
        **brought.facts,
        "match": list(options.match),
        "caliper": options.caliper,
        "skip_bad": options.skip_bad,
        **({} if options.stated_mae is None else {"stated_mae": options.stated_mae}),
        **({} if options.train_sessions is None else {"train_sessions": shown["split"]["train_sessions"]}),
        **({"coin": True} if options.coin else {}),
        **({"population": len(options.population)} if options.population else {}),
    }
    return kept
