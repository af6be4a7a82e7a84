"""`lapor agencies`: the agency directory."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from deploy.commands.running import console, fail, run, settings
from services.routing.agencies import STARTING_SET, import_agencies, list_agencies
from services.routing.directory import BadRows

app = typer.Typer(no_args_is_help=True, help="The agency directory (OPD).")


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, readable=True, help="CSV with the columns code, name, categories, units."
        ),
    ] = STARTING_SET,
) -> None:
    """Bring the directory up to a file; without one, up to the starting set. Agencies are never removed."""
    try:
        done = run(import_agencies(settings(), file))
    except BadRows as faults:
        fail(f"{file} was not imported, nothing was changed:\n{faults}")
    for word, codes in (("added", done.added), ("changed", done.changed), ("unchanged", done.unchanged)):
        console.print(f"{word} {len(codes)}{': ' if codes else ''}{', '.join(codes)}")


@app.command("list")
def show() -> None:
    """All agencies, by code."""
    table = Table(box=None)
    for heading in ("code", "name", "categories", "active"):
        table.add_column(heading, no_wrap=heading != "categories")
    for agency in run(list_agencies(settings())):
        active = "yes" if agency.active else "no"
        table.add_row(agency.code, agency.name, ", ".join(agency.categories), active)
    console.print(table)
