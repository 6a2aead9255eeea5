"""Options that several commands share, and what they mean for a command."""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from privoxel.errors import ConfigError

if TYPE_CHECKING:
    from privoxel.progress import Progress
    from privoxel.recipes.audit import Outcome

DONE, FINDING, WRONG_USE, INTERRUPTED = 0, 1, 2, 3

Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="Run folder; default: a new one under runs/.")
]
Seed = Annotated[int | None, typer.Option(help="Root seed; overrides the configuration.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run of the same settings in --output.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON for machines.")]
Jobs = Annotated[int, typer.Option(min=0, help="Worker processes for attacks; 0 takes one a core.")]
Memory = Annotated[
    str | None, typer.Option(help="What extracting signals may take, such as 512MiB or 4GiB; sets its batch.")
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress bars.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Log each stage to the terminal.")]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out faulty scans, and say so in the report.")
]


def require_output(output: Path | None, *, resume: bool) -> None:
    """Raise ``ConfigError`` if a run is to be resumed and nobody said which."""
    if resume and output is None:
        raise ConfigError(
            "--resume needs the --output folder of the run to continue, got none. Name it with -o."
        )


def log_to_terminal(*, verbose: bool) -> None:
    """Send the log to the terminal if asked."""
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)


def fresh_folder() -> Path:
    """Return a new run folder's path, named after the time."""
    from privoxel.recipes.runs import new_folder

    return new_folder()


def progress_bars(*, quiet: bool) -> "Progress":
    """Return bars on a terminal, or nothing where they are not wanted."""
    from privoxel.progress import Silent

    if quiet or os.environ.get("CI"):
        return Silent()
    from privoxel.terminal import Bars

    return Bars()


def print_outcome(outcome: "Outcome", *, as_json: bool) -> None:
    """Print what a run found: one row an attack, the verdict and where the report is."""
    if as_json:
        typer.echo(outcome.results.model_dump_json(indent=1))
        return
    from rich.console import Console

    from privoxel.recipes.summary import summary_table

    console = Console()
    console.print(summary_table(outcome.results, width=console.width))
    console.print()
    console.print(outcome.results.verdict.sentence, highlight=False)
    console.print(f"Report: {outcome.report}", highlight=False, soft_wrap=True)


def gate(outcome: "Outcome", limit: float) -> None:
    """Exit 1 if the interval of the primary attack's AUC lies above ``limit``.

    Raises:
        ConfigError: if there is no verdict or no interval to go by, on which a gate must not pass.
    """
    verdict = outcome.results.verdict
    if verdict.outcome == "refused":
        raise ConfigError(
            f"--fail-above needs a verdict, got a refusal: {verdict.reasons[0]}. Mend that first."
        )
    if verdict.auc is None or verdict.auc.low is None:
        raise ConfigError(
            "--fail-above needs an interval of the primary attack's AUC, got none. Audit more participants."
        )
    if verdict.auc.low > limit:
        raise typer.Exit(FINDING)
