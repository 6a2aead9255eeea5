"""``privoxel defend``: many settings trained, attacked and set against each other."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from privoxel.cli_options import (
    INTERRUPTED,
    AsJson,
    DryRun,
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
    from privoxel.evaluation.frontier_results import FrontierResults


def defend_command(
    config: Annotated[
        Path | None,
        typer.Argument(help="Configuration with [[points]] or [[grid]], .toml or .yaml; default: the demo."),
    ] = None,
    cohort: Annotated[Path | None, typer.Option(help="BIDS folder or table of a real cohort.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder that a table's paths may point into.")] = None,
    output: Output = None,
    seed: Seed = None,
    resume: Resume = False,
    skip_bad: SkipBad = False,
    dry_run: DryRun = False,
    jobs: Annotated[int, typer.Option(min=0, help="Settings trained at a time; 0 takes one a core.")] = 0,
    ray: Annotated[
        str | None,
        typer.Option(help="Train on Ray: local, auto (the cluster of this machine), or HOST:PORT."),
    ] = None,
    gpu_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of a GPU that a setting takes on a Ray cluster.")
    ] = 0.0,
    budget: Annotated[
        str | None,
        typer.Option(help="Most time that training may take, such as 45min; later settings are left out."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a grid of defences, attack all, and draw utility against vulnerability.

    A finished setting is never trained again. Exit code 3: some settings
    failed or were left out; the page shows the others, and the same command
    with --resume goes on.
    """
    from privoxel.executor import Executor, usable_cores
    from privoxel.recipes.budget import parse_budget
    from privoxel.recipes.configs import path_of
    from privoxel.recipes.defending.run import DefendOptions, plan_defence, run_defence
    from privoxel.recipes.defending.settings import load_grid
    from privoxel.recipes.defending.training import Scans

    log_to_terminal(verbose=verbose)
    grid = load_grid(config or path_of("defend_demo"), seed=seed)
    workers = jobs or usable_cores()
    options = DefendOptions(
        scans=Scans(cohort, root, skip_bad),
        resume=resume,
        budget=None if budget is None else parse_budget(budget),
        executor=Executor("ray", workers, ray, gpu_share) if ray else Executor("joblib", workers),
        progress=progress_bars(quiet=quiet or as_json),
    )
    if dry_run:
        plan = plan_defence(grid, output, options)
        typer.echo(json.dumps(plan, indent=1, ensure_ascii=False) if as_json else _lines(plan))
        return
    require_output(output, resume=resume)
    place = output or fresh_folder()
    if not (quiet or as_json):
        typer.echo(f"Run folder: {place}", err=True)
    found = run_defence(grid, place, options)
    if as_json:
        typer.echo(found.results.model_dump_json(indent=1))
    else:
        _print(found.results, found.page)
    if found.results.unfinished:
        raise typer.Exit(INTERRUPTED)


def _lines(plan: dict[str, object]) -> str:
    lines = []
    for key, value in plan.items():
        if isinstance(value, dict):
            lines += [f"{key}:", *(f"  {name}: {said}" for name, said in value.items())]
        else:
            lines.append(f"{key}: {value}")
    return "\n".join(lines)


def _print(results: "FrontierResults", page: Path) -> None:
    from rich.console import Console

    from privoxel.recipes.defending.summary import frontier_table

    console = Console()
    console.print(frontier_table(results, width=console.width))
    console.print()
    for line in results.findings:
        console.print(line, highlight=False)
    for one in results.unfinished:
        console.print(f"Not finished: {one.name}: {one.reason}", highlight=False, markup=False)
    console.print(f"Page: {page}", highlight=False, soft_wrap=True)
