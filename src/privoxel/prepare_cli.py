"""``privoxel prepare``: raw T1w scans to brains in MNI152 space, in the form of a BIDS App."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer
from typer.core import TyperCommand

from privoxel.cli_options import (
    DONE,
    FINDING,
    WRONG_USE,
    AsJson,
    DryRun,
    Quiet,
    Verbose,
    log_to_terminal,
    progress_bars,
)

if TYPE_CHECKING:
    from privoxel.recipes.preparing import Preparation

LISTS = ("--participant-label", "--participant_label", "--session-label", "--session_label")


class Level(StrEnum):
    """Levels of analysis of a BIDS App."""

    participant = "participant"
    group = "group"


class BidsAppCommand(TyperCommand):
    """A command whose label options take several values at once, as BIDS Apps do."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat a label option for each of its values, then parse as usual."""
        return super().parse_args(ctx, spread(args))


def spread(args: list[str]) -> list[str]:
    """Return arguments with ``--participant-label 01 02`` as one option a value.

    >>> spread(["in", "out", "participant", "--participant-label", "01", "02", "-q"])
    ['in', 'out', 'participant', '--participant-label', '01', '--participant-label', '02', '-q']
    """
    out: list[str] = []
    option, fresh = "", False
    for arg in args:
        if arg in LISTS:
            option, fresh = arg, True
            continue
        if arg.startswith("-"):
            option, fresh = "", False
        if option:
            out.append(option)
        out.append(arg)
        fresh = False
    return [*out, option] if fresh else out


def prepare_command(
    bids_dir: Annotated[Path, typer.Argument(help="Raw BIDS dataset.", show_default=False)],
    output_dir: Annotated[
        Path, typer.Argument(help="Derivative: a new folder, or one of an earlier call.", show_default=False)
    ],
    level: Annotated[
        Level, typer.Argument(help="participant prepares scans; group only writes page and tables anew.")
    ],
    participant_label: Annotated[
        list[str] | None,
        typer.Option(
            "--participant-label",
            "--participant_label",
            help="Participants, with or without sub-; default all.",
        ),
    ] = None,
    session_label: Annotated[
        list[str] | None,
        typer.Option(
            "--session-label", "--session_label", help="Sessions, with or without ses-; default all."
        ),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder that links of the dataset may lead to.")] = None,
    resolution: Annotated[
        float, typer.Option(min=1, max=10, help="Edge of a voxel of the result, mm.")
    ] = 2.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the registration's random points.")] = 0,
    jobs: Annotated[
        int, typer.Option("--jobs", "--nprocs", min=0, help="Scans at once; 0 takes one a core.")
    ] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Understood, not needed: finished scans are always kept.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Reorient, extract the brain, correct the shading, register to MNI152, resample.

    Exit codes: 0 all prepared, 1 all prepared but some call for a look,
    2 a scan could not be prepared (the others were), 3 interrupted.
    """
    from privoxel.executor import usable_cores
    from privoxel.prepare.settings import PrepareSettings
    from privoxel.recipes.preparing import PrepareOptions, gather, plan_preparation, run_preparation

    del resume
    log_to_terminal(verbose=verbose)
    settings = PrepareSettings(resolution, seed)
    options = PrepareOptions(
        tuple(participant_label or ()),
        tuple(session_label or ()),
        jobs or usable_cores(),
        progress_bars(quiet=quiet or as_json),
        root,
    )
    if dry_run:
        plan = plan_preparation(bids_dir, output_dir, settings, options)
        todo = [scan.stem for scan in plan.todo]
        record = {"to_prepare": todo, "kept": list(plan.kept), "not_usable": list(map(str, plan.problems))}
        typer.echo(json.dumps(record, indent=1) if as_json else "\n".join(_plan_lines(record)))
        raise typer.Exit(WRONG_USE if plan.problems else DONE)
    if level is Level.group:
        outcome = gather(bids_dir, output_dir, settings)
    else:
        outcome = run_preparation(bids_dir, output_dir, settings, options)
    record = preparation_record(outcome)
    typer.echo(json.dumps(record, indent=1) if as_json else "\n".join(preparation_lines(outcome)))
    raise typer.Exit(WRONG_USE if outcome.problems else FINDING if outcome.flagged else DONE)


def preparation_lines(outcome: "Preparation") -> list[str]:
    """Return what was done as lines for a reader."""
    lines = [
        f"{len(outcome.prepared)} scans prepared, {len(outcome.kept)} kept from before, "
        f"{len(outcome.problems)} not prepared."
    ]
    lines += [f"  - {problem}" for problem in outcome.problems]
    if outcome.flagged:
        lines.append(f"{len(outcome.flagged)} to look at:")
        lines += [f"  - {row.stem}: {'; '.join(row.concerns)}" for row in outcome.flagged]
    return [*lines, f"Pictures and scores: {outcome.page}"]


def preparation_record(outcome: "Preparation") -> dict[str, Any]:
    """Return what was done as plain values for JSON."""
    return {
        "schema_version": "1.0",
        "prepared": list(outcome.prepared),
        "kept": list(outcome.kept),
        "not_prepared": [
            {"scan": problem.where, "what": problem.what, "remedy": problem.remedy}
            for problem in outcome.problems
        ],
        "scans": [
            {"scan": row.stem, "scores": dict(row.scores), "concerns": list(row.concerns)}
            for row in outcome.rows
        ],
        "page": str(outcome.page),
    }


def _plan_lines(record: dict[str, list[str]]) -> list[str]:
    lines = []
    for title, names in record.items():
        lines.append(f"{title.replace('_', ' ')}: {len(names)}")
        lines += [f"  - {name}" for name in names]
    return lines
