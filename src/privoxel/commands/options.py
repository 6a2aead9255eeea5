"""Options that several commands share."""

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON for machines.")]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out faulty scans, and say so in the report.")
]
