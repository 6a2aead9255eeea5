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


def reproduce_command(
    paper: Annotated[str, typer.Argument(help="gupta2021")],
    what: Annotated[
        str, typer.Argument(help="table1 to table7, fig1 to fig5, fig7, fig8, appendix-e or all")
    ],
    scale: Annotated[
        str, typer.Option(help="demo (40 minutes), small (a night on 8 cores) or paper (days, a GPU)")
    ] = "demo",
    cohort: Annotated[
        Path | None, typer.Option(help="BIDS folder or table of a real cohort, in place of the simulated.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder that a table's paths may point into.")] = None,
    output: Output = None,
    seed: Seed = None,
    skip_bad: SkipBad = False,
    dry_run: DryRun = False,
    jobs: Jobs = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Reproduce a paper, or one of its tables and figures: measured beside published, with controls.

    Models that are finished in the output folder are read, started ones go on.
    """
    from rich.console import Console

    from privoxel.errors import ConfigError
    from privoxel.executor import usable_cores
    from privoxel.recipes.reproduction.cells import ReproduceOptions
    from privoxel.recipes.reproduction.estimating import estimate_reproduction
    from privoxel.recipes.reproduction.run import plan_reproduction, reproduce
    from privoxel.recipes.reproduction.summary import comparison_tables

    if paper != "gupta2021":
        raise ConfigError(f"reproduce needs gupta2021, got {paper!r}. No other paper is known yet.")
    place = output or Path("runs") / f"gupta2021-{scale}"
    options = ReproduceOptions(
        cohort=cohort,
        root=root,
        skip_bad=skip_bad,
        workers=jobs or usable_cores(),
        progress=progress_bars(quiet=quiet or as_json),
    )
    if dry_run or scale != "demo":
        plan = plan_reproduction(what, scale, place, options, seed=seed)
        for line in estimate_reproduction(plan, options):
            typer.echo(line, err=not dry_run)
        if dry_run:
            return
    found = reproduce(what, scale, place, options, seed=seed)
    if as_json:
        typer.echo(found.comparison.model_dump_json(indent=1))
        return
    console = Console()
    for table in comparison_tables(found.comparison):
        console.print(table)
    console.print(f"Page: {found.page}, as Markdown: {found.markdown}", highlight=False, soft_wrap=True)


deploy_app = typer.Typer(
    help="A federation over several machines, on Flower, with TLS.", no_args_is_help=True
)
federate_app.add_typer(deploy_app, name="deploy")

Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port of the server.")]


@deploy_app.command("keys")
def deploy_keys(
    output: Annotated[Path, typer.Option("-o", "--output", help="New folder of the keys.")],
    learner: Annotated[list[str], typer.Option(help="A learner's name; once for each.")],
    host: Annotated[
        list[str] | None, typer.Option(help="Name or address of the server; once for each.")
    ] = None,
) -> None:
    """Make the authority, the server's certificate and a key pair for each learner."""
    from privoxel.training.federated import require_flower

    require_flower()
    from privoxel.training.federated.deployment.keys import make_keys

    made = make_keys(output, host or ["localhost", "127.0.0.1"], learner)
    typer.echo(f"{len(made)} files in {output}. Give each site ca.pem and its own NAME.key; keep the rest.")


@deploy_app.command("secret")
def deploy_secret(
    output: Annotated[Path, typer.Option("-o", "--output", help="New file.")] = Path("shared.secret"),
) -> None:
    """Make, at one of the sites, the secret that only the sites share (never on the server's machine)."""
    from privoxel.training.federated import require_flower

    require_flower()
    from privoxel.training.federated.deployment.keys import make_secret

    typer.echo(f"{make_secret(output)}: give it to every site by a safe way, and not to the server.")


@deploy_app.command("server")
def deploy_server(
    config: Annotated[Path, typer.Argument(help="The federation, .toml: learners, mean age, model, rounds.")],
    keys: Annotated[Path, typer.Option(help="Folder made by `deploy keys`.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Run folder; started again, it goes on.")],
    host: Host = "127.0.0.1",
    port: Port = 9440,
    quiet: Quiet = False,
) -> None:
    """Wait for the learners, run the rounds, keep every community model."""
    from privoxel.training.federated import require_flower

    require_flower()
    from privoxel.training.federated.deployment.serving import serve
    from privoxel.training.federated.deployment.superlink import Address

    found = serve(config, output, keys, Address(host, port), progress_bars(quiet=quiet))
    typer.echo(f"{len(found.participation)} rounds; the last model: {found.rounds[-1]}")


@deploy_app.command("learner")
def deploy_learner(
    site: Annotated[Path, typer.Argument(help="The site, .toml: name, path of its scans, model, privacy.")],
    server: Annotated[str, typer.Option(help="HOST:PORT of the server.")],
    certificate: Annotated[Path, typer.Option(help="ca.pem of the federation.")],
    key: Annotated[Path, typer.Option(help="This site's private key.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the log.")] = Path(
        "runs/learner"
    ),
    minutes: Annotated[float | None, typer.Option(min=0, help="Leave after so long; default: stay.")] = None,
) -> None:
    """Take part with this machine's scans until the end; scans and the texts of errors never leave."""
    from privoxel.errors import ConfigError
    from privoxel.training.federated import require_flower

    require_flower()
    from privoxel.training.federated.deployment.joining import join
    from privoxel.training.federated.deployment.superlink import Address

    name, _, port = server.rpartition(":")
    if not name or not port.isdecimal():
        raise ConfigError(f"--server needs HOST:PORT, got {server!r}. Correct it.")
    seconds = None if minutes is None else 60 * minutes
    join(site, output, Address(name, int(port)), certificate, key, seconds=seconds)
