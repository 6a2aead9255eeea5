"""``privoxel federate``: train a federation on this machine and attack it, or deploy one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from privoxel.cli_options import (
    AsJson,
    DryRun,
    Jobs,
    Memory,
    Output,
    Quiet,
    Resume,
    Seed,
    SkipBad,
    Verbose,
    fresh_folder,
    log_to_terminal,
    progress_bars,
    require_output,
)

if TYPE_CHECKING:
    from privoxel.recipes.federation.run import FederationOutcome

federate_app = typer.Typer(
    help="Federations: train, attack as one of the learners, control.", no_args_is_help=True
)


@federate_app.command("run")
def federate_run(
    config: Annotated[Path, typer.Argument(help="Configuration, .toml or .yaml.")],
    cohort: Annotated[
        list[Path] | None, typer.Option(help="BIDS folder or table of a real cohort; several are joined.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder that a table's paths may point into.")] = None,
    output: Output = None,
    seed: Seed = None,
    resume: Resume = False,
    skip_bad: SkipBad = False,
    dry_run: DryRun = False,
    jobs: Jobs = 0,
    memory: Memory = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train the federation of CONFIG on this machine, let every learner attack every other, and report."""
    from privoxel.executor import usable_cores
    from privoxel.recipes.federation.run import FederateOptions, plan_federated, run_federated
    from privoxel.recipes.federation.settings import load_federation, with_overrides

    require_output(output, resume=resume)
    log_to_terminal(verbose=verbose)
    settings = with_overrides(load_federation(config), seed=seed, memory=memory)
    options = FederateOptions(
        cohorts=tuple(cohort or ()),
        root=root,
        resume=resume,
        skip_bad=skip_bad,
        workers=jobs or usable_cores(),
        progress=progress_bars(quiet=quiet or as_json),
    )
    if dry_run:
        plan = plan_federated(settings, options)
        typer.echo(json.dumps(plan, indent=1) if as_json else "\n".join(f"{k}: {v}" for k, v in plan.items()))
        return
    place = output or fresh_folder()
    if not quiet and not as_json:
        typer.echo(f"Run folder: {place}", err=True)
    print_federation(run_federated(settings, place, options), as_json=as_json)


def print_federation(outcome: "FederationOutcome", *, as_json: bool) -> None:
    """Print a federation's results on the terminal, or as JSON."""
    if as_json:
        typer.echo(outcome.results.model_dump_json(indent=1))
        return
    from rich.console import Console

    from privoxel.recipes.federation.summary import federation_table

    console = Console()
    console.print(federation_table(outcome.results))
    console.print()
    for line in outcome.results.findings or [outcome.results.refusal]:
        console.print(line, highlight=False)
    console.print(f"Report: {outcome.report}", highlight=False, soft_wrap=True)
