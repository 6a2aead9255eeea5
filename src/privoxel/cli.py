"""The command line: parse, call one function, print.

Exit codes: 0 done, 1 a finding, 2 wrong use or bad input, 3 interrupted and resumable. Expected
errors are printed without a traceback. Heavy imports live inside the commands.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer

from privoxel.audit_cli import audit_command
from privoxel.cli_options import (
    DONE,
    INTERRUPTED,
    WRONG_USE,
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
    gate,
    log_to_terminal,
    print_outcome,
    progress_bars,
    require_output,
)
from privoxel.cohort_cli import cohort_app
from privoxel.defend_cli import defend_command
from privoxel.errors import PrivoxelError
from privoxel.federate_cli import federate_app, reproduce_command
from privoxel.prepare_cli import BidsAppCommand, prepare_command
from privoxel.scan_cli import scan_command
from privoxel.version import __version__

if TYPE_CHECKING:
    from privoxel.attacks.base import Attack
    from privoxel.config import RunConfig

TYPER_INTERRUPTED = 130
"""What typer makes of Ctrl-C."""

LIST_NOTE = (
    "Signals in brackets are read where the model has them. Attacks that need to be named are not among "
    'names = ["all"]. Any attack on predictions alone also runs as centred-NAME and tube-centred-NAME.'
)
TABLE_WIDTH = 130
"""Columns of a terminal below which attacks are listed in paragraphs, a table being all folds."""

app = typer.Typer(
    name="privoxel",
    help="Audit deep regression models of 3D brain images for membership inference.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
attacks_app = typer.Typer(help="The attacks privoxel can run.", no_args_is_help=True)
app.add_typer(cohort_app, name="cohort")
app.add_typer(attacks_app, name="attacks")
app.add_typer(federate_app, name="federate")
app.command("reproduce")(reproduce_command)
app.command("audit")(audit_command)
app.command("scan")(scan_command)
app.command("defend")(defend_command)
app.command("prepare", cls=BidsAppCommand)(prepare_command)

Ray = Annotated[
    str | None,
    typer.Option(help="Train shadows on Ray: local, auto (the cluster of this machine), or HOST:PORT."),
]
GpuShare = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Share of a GPU that a shadow takes on Ray; default: a whole one if targets train on a GPU.",
    ),
]
Workers = Annotated[
    int, typer.Option("--jobs", min=0, help="Processes for shadows and for attacks; 0 takes one a core.")
]
Budget = Annotated[
    str | None, typer.Option(help="Most time the run may take, such as 45min or 2h; decides the shadows.")
]
FailAbove = Annotated[
    float | None,
    typer.Option(
        min=0.5, max=1.0, help="Exit 1 if the primary attack's AUC is above this with 95 % confidence."
    ),
]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"privoxel {__version__}")
        raise typer.Exit(DONE)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


@app.command()
def demo(
    output: Output = None,
    seed: Seed = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    jobs: Jobs = 0,
    memory: Memory = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Audit a model of simulated brains: everything privoxel does, in five minutes on two cores."""
    from privoxel.recipes.configs import built_in

    call = _Call(output, seed, resume=resume, dry_run=dry_run, as_json=as_json, quiet=quiet, verbose=verbose)
    call.jobs, call.memory = jobs, memory
    _run(built_in("demo"), call)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="Configuration, .toml or .yaml.")],
    cohort: Annotated[Path | None, typer.Option(help="BIDS folder or table of a real cohort.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder that a table's paths may point into.")] = None,
    output: Output = None,
    seed: Seed = None,
    resume: Resume = False,
    skip_bad: SkipBad = False,
    include_participants: Annotated[
        bool, typer.Option("--include-participants", help="Show slices of real scans in the report.")
    ] = False,
    fail_above: FailAbove = None,
    dry_run: DryRun = False,
    jobs: Workers = 0,
    ray: Ray = None,
    gpu_share: GpuShare = None,
    budget: Budget = None,
    memory: Memory = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train, attack and report as CONFIG says."""
    from privoxel.config import load_config

    call = _Call(output, seed, resume=resume, dry_run=dry_run, as_json=as_json, quiet=quiet, verbose=verbose)
    call.cohort, call.root, call.skip_bad = cohort, root, skip_bad
    call.include_participants, call.fail_above, call.jobs = include_participants, fail_above, jobs
    call.memory, call.ray, call.gpu_share, call.budget = memory, ray, gpu_share, budget
    _run(load_config(config), call)


@app.command()
def report(
    run_folder: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Default: report.html in the folder.")
    ] = None,
) -> None:
    """Write the report of a finished run again, from results.json and scores.npz."""
    from privoxel.recipes.rewrite import rewrite_report

    typer.echo(str(rewrite_report(run_folder, output)))


@attacks_app.command("list")
def attacks_list(as_json: AsJson = False) -> None:
    """List the attacks: what each sees, what it needs, where it comes from."""
    from rich.console import Console
    from rich.markup import escape
    from rich.padding import Padding
    from rich.table import Table

    from privoxel.attacks import ATTACKS, CONTROLS, WHEN_NAMED, WITH_STATED_SD

    everyone = (ATTACKS, WHEN_NAMED, WITH_STATED_SD, CONTROLS)
    attacks = [attack for some in everyone for attack in some.values()]
    if as_json:
        typer.echo(json.dumps([_attack_record(attack) for attack in attacks], indent=1))
        return
    rows = [_attack_row(attack) for attack in attacks]
    console = Console()
    if console.width < TABLE_WIDTH:
        for name, adversary, reads, needs, source in rows:
            console.print(name, style="bold", highlight=False)
            for line in (f"{adversary}; needs {needs or 'nothing more'}", f"reads {reads}", source):
                console.print(Padding(escape(line), (0, 0, 0, 2)), highlight=False)
    else:
        table = Table(box=None, pad_edge=False)
        table.add_column("name", no_wrap=True)
        for heading in ("adversary", "reads", "needs", "source"):
            table.add_column(heading, overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table)
    console.print(LIST_NOTE, markup=False)


def _attack_row(attack: "Attack") -> tuple[str, str, str, str, str]:
    from privoxel.attacks import WHEN_NAMED
    from privoxel.attacks.base import optional_signals
    from privoxel.attacks.needs import needs_of

    optional = [f"({signal})" for signal in sorted(optional_signals(attack))]
    return (
        attack.name,
        str(attack.threat_model),
        ", ".join((*sorted(attack.requires), *optional)) or "nothing",
        ", ".join((*needs_of(attack), *(["to be named"] if attack.name in WHEN_NAMED else []))),
        attack.source,
    )


def _attack_record(attack: "Attack") -> dict[str, Any]:
    from privoxel.attacks import ATTACKS
    from privoxel.attacks.base import needs_models, optional_signals
    from privoxel.attacks.needs import needs_of

    return {
        "name": attack.name,
        "title": attack.title,
        "threat_model": str(attack.threat_model),
        "signals": sorted(attack.requires),
        "optional_signals": sorted(optional_signals(attack)),
        "needs_leaked": attack.needs_leaked,
        "needs_models": needs_models(attack),
        "needs": needs_of(attack),
        "in_all": attack.name in ATTACKS,
        "source": attack.source,
    }


class _Call:
    """The options that every run shares."""

    def __init__(self, output: Path | None, seed: int | None, **flags: bool) -> None:
        self.output = output
        self.seed = seed
        self.resume = flags["resume"]
        self.dry_run = flags["dry_run"]
        self.as_json = flags["as_json"]
        self.quiet = flags["quiet"] or flags["as_json"]
        self.verbose = flags["verbose"]
        self.cohort: Path | None = None
        self.root: Path | None = None
        self.skip_bad = False
        self.include_participants = False
        self.fail_above: float | None = None
        self.jobs = 0
        self.memory: str | None = None
        self.ray: str | None = None
        self.gpu_share: float | None = None
        self.budget: str | None = None


def _run(config: "RunConfig", call: _Call) -> None:
    from privoxel.config import with_memory
    from privoxel.executor import LOCAL, Executor, usable_cores
    from privoxel.recipes.audit import RunOptions, plan_audit, run_audit
    from privoxel.recipes.budget import parse_budget

    log_to_terminal(verbose=call.verbose)
    if call.seed is not None:
        config = config.model_copy(update={"seed": call.seed})
    if call.memory is not None:
        config = with_memory(config, call.memory)
    workers = call.jobs or usable_cores()
    options = RunOptions(
        cohort=call.cohort,
        root=call.root,
        resume=call.resume,
        skip_bad=call.skip_bad,
        include_participants=call.include_participants,
        workers=workers,
        executor=Executor("ray" if call.ray else "joblib", workers, call.ray or LOCAL, call.gpu_share),
        budget=None if call.budget is None else parse_budget(call.budget),
        progress=progress_bars(quiet=call.quiet),
    )
    if call.dry_run:
        plan = plan_audit(config, options)
        typer.echo(
            json.dumps(plan, indent=1) if call.as_json else "\n".join(f"{k}: {v}" for k, v in plan.items())
        )
        return
    require_output(call.output, resume=call.resume)
    output = call.output or fresh_folder()
    if not call.quiet:
        typer.echo(f"Run folder: {output}", err=True)
    outcome = run_audit(config, output, options)
    print_outcome(outcome, as_json=call.as_json)
    if call.fail_above is not None:
        gate(outcome, call.fail_above)


def main() -> Any:
    """Run the command line and exit with its code."""
    try:
        code = app(standalone_mode=False)
        if code == TYPER_INTERRUPTED:
            raise KeyboardInterrupt
    except typer.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        error.show()
        code = WRONG_USE
    except PrivoxelError as error:
        typer.echo(f"privoxel: {error}", err=True)
        code = WRONG_USE
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        typer.echo(
            f"privoxel: {place}{error.strerror or error}. Mend that and go on with --resume.", err=True
        )
        code = WRONG_USE
    except (KeyboardInterrupt, click.Abort):
        typer.echo(
            "privoxel: interrupted. Finished work is kept: the same command with --resume goes on "
            "(and with its folder as --output, if that was not named).",
            err=True,
        )
        code = INTERRUPTED
    sys.exit(code if isinstance(code, int) else DONE)
