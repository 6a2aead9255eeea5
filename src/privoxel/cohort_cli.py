"""``privoxel cohort``: simulate a cohort, check one, divide one among learners."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from privoxel.cli_options import DONE, FINDING, AsJson, Quiet, SkipBad, progress_bars
from privoxel.errors import ConfigError

cohort_app = typer.Typer(help="Simulate, check or divide a cohort.", no_args_is_help=True)


@cohort_app.command("simulate")
def cohort_simulate(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the new BIDS derivative.")],
    subjects: Annotated[int, typer.Option(min=1, help="Participants.")] = 100,
    resolution: Annotated[float, typer.Option(min=1, max=10, help="Edge of a voxel, mm.")] = 4.0,
    sessions: Annotated[int, typer.Option(min=1, help="Scans a participant.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the simulated people.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Write simulated T1-like brains as a BIDS derivative."""
    from privoxel.cohort.derivative import write_derivative
    from privoxel.cohort.simulated import SimulatorConfig, simulate_cohort

    cohort = simulate_cohort(
        SimulatorConfig(seed=seed, resolution_mm=resolution, sessions=sessions), subjects
    )
    with progress_bars(quiet=quiet).task("scans", len(cohort)) as task:
        write_derivative(cohort, output, progress=task.advance)
    typer.echo(f"{len(cohort)} scans of {subjects} simulated participants in {output}")


@cohort_app.command("check")
def cohort_check(
    cohort: Annotated[Path, typer.Argument(help="BIDS folder or table.")],
    resolution: Annotated[
        float, typer.Option(min=1, max=10, help="Edge of a voxel of the model's grid, mm.")
    ] = 2.0,
    root: Annotated[Path | None, typer.Option(help="Folder that a table's paths may point into.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Read every scan once and report all faults; exits 1 if there are any."""
    from privoxel.recipes.checking import check_lines, check_path, check_record

    check = check_path(cohort, resolution_mm=resolution, root=root, progress=progress_bars(quiet=quiet))
    typer.echo(json.dumps(check_record(check), indent=1) if as_json else "\n".join(check_lines(check)))
    raise typer.Exit(FINDING if check.problems else DONE)


@cohort_app.command("partition")
def cohort_partition(
    cohort: Annotated[Path | None, typer.Option(help="BIDS folder or table of a real cohort.")] = None,
    participants: Annotated[
        int | None, typer.Option(min=1, help="Simulated participants, where there is no --cohort.")
    ] = None,
    environment: Annotated[
        str, typer.Option(help="uniform-iid, uniform-non-iid, skewed-non-iid, dirichlet or site.")
    ] = "uniform-iid",
    learners: Annotated[int | None, typer.Option(help="Learners; default 8, or as many as sizes.")] = None,
    sizes: Annotated[str | None, typer.Option(help="Participants of each learner, such as 60,40,20.")] = None,
    unseen: Annotated[float | None, typer.Option(help="Share that no learner sees; default 0.2.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Dirichlet: the smaller, the more unlike.")] = None,
    ages: Annotated[
        str | None, typer.Option(help="Non-IID target ages: scaled to the cohort, or paper.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder that a table's paths may point into.")] = None,
    skip_bad: SkipBad = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for learners.tsv, partition.json, ages.svg.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw, and of simulated people.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Divide a cohort among the learners of a federation, and show their sizes and ages."""
    from privoxel.config import partition_config
    from privoxel.recipes.partitioning import (
        partition_path,
        partition_record,
        partition_simulated,
        write_partition,
    )

    config = partition_config(
        environment=environment,
        learners=learners,
        sizes=None if sizes is None else sizes.split(","),
        unseen=unseen,
        alpha=alpha,
        ages=ages,
    )
    if (cohort is None) == (participants is None):
        raise ConfigError(
            "A partition needs one cohort, got "
            f"{'none' if cohort is None else 'two'}. Give either --cohort DIR or --participants N."
        )
    if cohort is None:
        drawn = partition_simulated(participants or 0, config, seed)
    else:
        drawn = partition_path(cohort, config, seed, skip_bad=skip_bad, root=root)
    if output is not None:
        write_partition(drawn, output)
    record = partition_record(drawn)
    if as_json:
        typer.echo(json.dumps(record, indent=1))
        return
    _print_partition(record)
    if output is not None:
        typer.echo(f"Who is where: {output / 'learners.tsv'}. Figure: {output / 'ages.svg'}")


def _print_partition(record: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("learner")
    for heading in ("participants", "age: mean (SD)"):
        table.add_column(heading, justify="right")
    for group in (*record["learners"], record["unseen"]):
        mean = group["age_mean"]
        ages = "-" if mean is None else f"{mean:.2f} ({group['age_sd']:.2f})"
        table.add_row(group["name"], f"{group['participants']:,}", ages)
    if record["left_out"]:
        table.add_row("left out", f"{record['left_out']:,}", "-")
    Console().print(table)
