"""``privoxel audit``: attack a model that is brought, by its predictions or by asking it."""

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from privoxel.cli_options import (
    AsJson,
    Jobs,
    Memory,
    Output,
    Quiet,
    Resume,
    Seed,
    Verbose,
    fresh_folder,
    gate,
    log_to_terminal,
    print_outcome,
    progress_bars,
    require_output,
)
from privoxel.errors import ConfigError

if TYPE_CHECKING:
    from privoxel.config import SignalConfig


class Voxels(StrEnum):
    """Voxels of the z-score."""

    ALL = "all"
    BRAIN = "brain"
    NONE = "none"


PEOPLE, MODEL, AUDIT = "Who trained the model", "The model", "The audit"

Cohort = Annotated[
    Path | None,
    typer.Option(help="Scans (BIDS folder or table of files) or table of features.", rich_help_panel=PEOPLE),
]
Members = Annotated[
    Path | None,
    typer.Option(
        help="Who trained it: list of ids or folder; else the table's column 'member'.",
        rich_help_panel=PEOPLE,
    ),
]
NonMembers = Annotated[
    Path | None,
    typer.Option(help="Whom it never saw; everybody else if left out.", rich_help_panel=PEOPLE),
]
MembersOnly = Annotated[
    bool,
    typer.Option(
        "--members-only", help="No non-members: how members are fitted, no verdict.", rich_help_panel=PEOPLE
    ),
]
Root = Annotated[
    Path | None, typer.Option(help="Folder that a table's paths may point into.", rich_help_panel=PEOPLE)
]
Match = Annotated[
    str | None,
    typer.Option(help="Compare only pairs alike in these: age,sex,site or a part.", rich_help_panel=PEOPLE),
]
Caliper = Annotated[
    float,
    typer.Option(min=0, help="Most years that the ages of a pair may differ.", rich_help_panel=PEOPLE),
]
SkipBad = Annotated[
    bool,
    typer.Option("--skip-bad", help="Leave out faulty lines and scans, and say so.", rich_help_panel=PEOPLE),
]
TrainSessions = Annotated[
    int | None,
    typer.Option(min=1, help="Only so many first sessions of each were trained on.", rich_help_panel=PEOPLE),
]
TrainedSession = Annotated[
    list[str] | None,
    typer.Option(
        "--trained-session",
        metavar="LABEL",
        help="Only sessions so called were trained on; repeat for several.",
        rich_help_panel=PEOPLE,
    ),
]
OtherScans = Annotated[
    list[str] | None,
    typer.Option(
        "--other-scans",
        metavar="ATTACK",
        help="Attack to run on the other sessions too; repeat for several.",
        rich_help_panel=AUDIT,
    ),
]
Population = Annotated[
    Path | None,
    typer.Option(help="List of people in neither group, known not to be trained on.", rich_help_panel=PEOPLE),
]
Coin = Annotated[
    bool,
    typer.Option("--coin", help="A fair coin for each decided who trained it.", rich_help_panel=PEOPLE),
]
Resolution = Annotated[
    float | None,
    typer.Option(
        min=1, max=10, help="Voxels of its grid, mm; else as its input, or 2.", rich_help_panel=MODEL
    ),
]
Normalise = Annotated[
    Voxels, typer.Option(help="Voxels of the z-score; none: as stored.", rich_help_panel=MODEL)
]
Target = Annotated[
    int | None, typer.Option(min=0, help="Which of several outputs is the age.", rich_help_panel=MODEL)
]
Features = Annotated[
    str | None,
    typer.Option(help="Columns a tabular model reads: a,b,c or gm_*.", rich_help_panel=MODEL),
]
Stability = Annotated[
    bool,
    typer.Option("--stability", help="Ask about moved copies of each scan too.", rich_help_panel=MODEL),
]
Checkpoints = Annotated[
    list[Path] | None,
    typer.Option(
        "--checkpoint", help="Earlier weights of a network; repeat, oldest first.", rich_help_panel=MODEL
    ),
]
BlackBox = Annotated[
    bool, typer.Option("--black-box", help="Do not look inside: ask a function.", rich_help_panel=MODEL)
]
TrustPickle = Annotated[
    bool,
    typer.Option(
        "--trust-pickle", help="Load a pickle, which can run any code: your own.", rich_help_panel=MODEL
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(help="Weights of a network, .safetensors or .pt.", rich_help_panel=MODEL),
]
StatedMae = Annotated[
    float | None,
    typer.Option(min=0, help="MAE that it is known for on new people, years.", rich_help_panel=MODEL),
]
Primary = Annotated[
    str | None,
    typer.Option(help="Attack that the verdict rests on; choose before you look.", rich_help_panel=AUDIT),
]
Tolerated = Annotated[
    float,
    typer.Option(min=0.501, max=1.0, help="AUC up to which a leak is tolerated.", rich_help_panel=AUDIT),
]
Prevalence = Annotated[
    list[float] | None,
    typer.Option(
        help="Share of members among those an adversary tests, at which precision is stated; repeatable.",
        show_default="0.5, 0.1, 0.01",
        rich_help_panel=AUDIT,
    ),
]
Title = Annotated[str, typer.Option(help="Title of the report.", rich_help_panel=AUDIT)]
FailAbove = Annotated[
    float | None,
    typer.Option(
        min=0.5,
        max=1.0,
        help="Exit 1 if the AUC is above this with 95 % confidence.",
        rich_help_panel=AUDIT,
    ),
]


def audit_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="Table of predictions, model file or package.module:name.",
            show_default=False,
        ),
    ],
    cohort: Cohort = None,
    members: Members = None,
    non_members: NonMembers = None,
    members_only: MembersOnly = False,
    match: Match = None,
    caliper: Caliper = 1.0,
    root: Root = None,
    skip_bad: SkipBad = False,
    train_sessions: TrainSessions = None,
    trained_session: TrainedSession = None,
    other_scans: OtherScans = None,
    population: Population = None,
    coin: Coin = False,
    resolution: Resolution = None,
    normalise: Normalise = Voxels.ALL,
    target: Target = None,
    features: Features = None,
    weights: Weights = None,
    checkpoint: Checkpoints = None,
    black_box: BlackBox = False,
    stability: Stability = False,
    trust_pickle: TrustPickle = False,
    stated_mae: StatedMae = None,
    primary: Primary = None,
    tolerated: Tolerated = 0.6,
    prevalence: Prevalence = None,
    title: Title = "",
    fail_above: FailAbove = None,
    output: Output = None,
    seed: Seed = None,
    resume: Resume = False,
    jobs: Jobs = 0,
    memory: Memory = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Audit a model that you bring: may it be released?

    INPUT is one of

    - a table of predictions (.tsv, .csv): participant_id, age, predicted_age,
      member (1: trained on, 0: not, n/a: leave out; or --members, which
      wins). No model, no scans.

    - a network to look into: module:factory with --weights, or a MONAI
      bundle; with scans as --cohort.

    - a model to ask: .onnx, TorchScript, .pt2, or module:function with
      --black-box; with scans as --cohort.

    - a scikit-learn regressor: .skops or .onnx; a table of features as
      --cohort.
    """
    from privoxel.executor import usable_cores
    from privoxel.recipes.brought_settings import BroughtAudit
    from privoxel.recipes.doors import audit_given, check_given
    from privoxel.recipes.given import Given
    from privoxel.recipes.matched import parse_match

    log_to_terminal(verbose=verbose)
    require_output(output, resume=resume)
    options = BroughtAudit(
        primary=primary,
        stated_mae=stated_mae,
        match=parse_match(match) if match else (),
        caliper=caliper,
        tolerated_auc=tolerated,
        prevalences=tuple(prevalence or ()),
        train_sessions=_sessions(train_sessions, trained_session),
        other_scans=tuple(other_scans or ()),
        population=_listed(population),
        coin=coin,
        seed=seed or 0,
        skip_bad=skip_bad,
        signals=_signals(memory),
        resume=resume,
        workers=jobs or usable_cores(),
        progress=progress_bars(quiet=quiet or as_json),
        title=title,
    )
    given = Given(
        model,
        cohort,
        members,
        non_members,
        root,
        resolution=resolution,
        normalise=_normalisation(normalise),
        target=target,
        features=tuple(part.strip() for part in (features or "").split(",") if part.strip()),
        stability=stability,
        black_box=black_box,
        trust_pickle=trust_pickle,
        weights=weights,
        checkpoints=tuple(checkpoint or ()),
        members_only=members_only,
    )
    folder = output or fresh_folder()
    if not (quiet or as_json):
        typer.echo(f"Run folder: {folder}", err=True)
    if members_only:
        _refuse_beside_members_only(
            {
                "--fail-above": fail_above,
                "--non-members": non_members,
                "--match": match,
                "--train-sessions": train_sessions,
                "--trained-session": trained_session or None,
                "--other-scans": other_scans or None,
                "--prevalence": prevalence or None,
                "--population": population,
                "--coin": coin or None,
            }
        )
        checked = check_given(given, folder, options)
        typer.echo(json.dumps(checked.summary, indent=1) if as_json else "\n".join(checked.lines))
        if not as_json:
            typer.echo(f"A line a member, for you alone: {checked.table}")
        return
    outcome = audit_given(given, folder, options)
    print_outcome(outcome, as_json=as_json)
    if fail_above is not None:
        gate(outcome, fail_above)


def _refuse_beside_members_only(given: Mapping[str, object]) -> None:
    idle = [option for option, value in given.items() if value is not None]
    if idle:
        raise ConfigError(
            f"--members-only gives no verdict and compares nobody, got {', '.join(idle)}. "
            "Drop that, or bring non-members."
        )


def _sessions(count: int | None, labels: list[str] | None) -> int | tuple[str, ...] | None:
    """Return which sessions were trained on: so many, those of ``labels``, or None for all.

    Raises:
        ConfigError: if both are given.
    """
    if count is not None and labels:
        raise ConfigError(
            "An audit needs the sessions that were trained on by number or by name, got --train-sessions and "
            "--trained-session. Drop one of them."
        )
    return tuple(labels) if labels else count


def _listed(path: Path | None) -> tuple[str, ...]:
    """Return the participants that a list names.

    Raises:
        ProblemsError: if it cannot be read.
    """
    if path is None:
        return ()
    from privoxel.cohort.listed import read_listed
    from privoxel.errors import ProblemsError

    listed = read_listed(path)
    if listed.problems:
        raise ProblemsError(f"The list {listed.place} cannot be used", listed.problems)
    return tuple(listed.lines)


def _normalisation(voxels: Voxels) -> Literal["all", "brain", "none"]:
    if voxels is Voxels.NONE:
        return "none"
    return "brain" if voxels is Voxels.BRAIN else "all"


def _signals(memory: str | None) -> "SignalConfig":
    """Return how signals are extracted within ``memory``.

    Raises:
        ConfigError: if it is no size.
    """
    from pydantic import ValidationError

    from privoxel.config import SignalConfig

    try:
        return SignalConfig() if memory is None else SignalConfig(memory=memory)
    except ValidationError as error:
        raise ConfigError(
            f"--memory needs a size such as 512MiB or 4GiB, got {memory!r}. Correct it."
        ) from error
