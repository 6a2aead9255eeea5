"""``privoxel audit``: attack a model through a table of its predictions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from privoxel.cli_options import (
    FINDING,
    AsJson,
    Jobs,
    Output,
    Quiet,
    Resume,
    Seed,
    Verbose,
    fresh_folder,
    log_to_terminal,
    print_outcome,
    progress_bars,
    require_output,
)
from privoxel.errors import ConfigError

if TYPE_CHECKING:
    from privoxel.recipes.audit import Outcome

FailAbove = Annotated[
    float | None,
    typer.Option(
        min=0.5, max=1.0, help="Exit 1 if the primary attack's AUC is above this with 95 % confidence."
    ),
]


def audit_command(
    predictions: Annotated[
        Path,
        typer.Argument(help="Table (.tsv, .csv): participant_id, age, predicted_age, member."),
    ],
    output: Output = None,
    match: Annotated[
        str | None, typer.Option(help="Compare only pairs alike in these: age,sex,site or a part.")
    ] = None,
    caliper: Annotated[
        float, typer.Option(min=0, help="Most years that the ages of a matched pair may differ.")
    ] = 1.0,
    stated_mae: Annotated[
        float | None, typer.Option(min=0, help="MAE on unseen people that the model is known for, years.")
    ] = None,
    primary: Annotated[
        str, typer.Option(help="Attack that the verdict rests on; choose before you look.")
    ] = "default-black-box",
    tolerated: Annotated[
        float, typer.Option(min=0.501, max=1.0, help="AUC up to which a leak is tolerated.")
    ] = 0.6,
    title: Annotated[
        str, typer.Option(help="Title of the report.")
    ] = "Membership-inference audit of predictions",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out faulty lines, and say so in the report.")
    ] = False,
    fail_above: FailAbove = None,
    seed: Seed = None,
    resume: Resume = False,
    jobs: Jobs = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Audit a model by a table of its predictions: no model, no scans, seconds.

    One line a scan: participant_id, age, predicted_age (years), member
    (1: trained on, 0: not, n/a: leave out); optional session, sex, site, sd.
    """
    from privoxel.executor import usable_cores
    from privoxel.recipes.matched import parse_match
    from privoxel.recipes.predictions import PredictionAudit, audit_predictions

    log_to_terminal(verbose=verbose)
    require_output(output, resume=resume)
    options = PredictionAudit(
        primary=primary,
        stated_mae=stated_mae,
        match=parse_match(match) if match else (),
        caliper=caliper,
        tolerated_auc=tolerated,
        seed=seed or 0,
        skip_bad=skip_bad,
        resume=resume,
        workers=jobs or usable_cores(),
        progress=progress_bars(quiet=quiet or as_json),
        title=title,
    )
    folder = output or fresh_folder()
    if not (quiet or as_json):
        typer.echo(f"Run folder: {folder}", err=True)
    outcome = audit_predictions(predictions, folder, options)
    print_outcome(outcome, as_json=as_json)
    if fail_above is not None:
        _gate(outcome, fail_above)


def _gate(outcome: "Outcome", limit: float) -> None:
    """Exit 1 if the AUC's interval lies above ``limit``, 2 if there is no verdict to go by."""
    verdict = outcome.results.verdict
    if verdict.outcome == "refused":
        raise ConfigError(
            f"--fail-above needs a verdict, got a refusal: {verdict.reasons[0]}. Mend the table first."
        )
    if verdict.auc is not None and verdict.auc.low is not None and verdict.auc.low > limit:
        raise typer.Exit(FINDING)
