"""`lapor agencies`: the agency directory."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from deploy.commands.running import console, fail, run, settings
from services.routing.agencies import STARTING_SET, Imported, UnusableFile, import_agencies, list_agencies
from shared import topics

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
    """Bring the directory up to a file; without one, up to the starting set. Agencies are never removed. Each gets its
    own topic."""
    try:
        done = run(_import(file))
    except UnusableFile as faults:
        fail(f"Nothing was imported, nothing was changed:\n{faults}")
    console.print(f"{done.added} added, {done.changed} changed, {done.unchanged} unchanged.")


@app.command("list")
def show() -> None:
    """All agencies, by code."""
    table = Table(box=None)
    for heading in ("code", "name", "categories", "active"):
        table.add_column(heading, no_wrap=heading != "categories")
    for agency in run(list_agencies(settings())):
        active = "yes" if agency["active"] else "no"
        table.add_row(agency["_id"], agency["name"], ", ".join(agency["categories"]), active)
    console.print(table)


async def _import(file: Path) -> Imported:
    done = await import_agencies(settings(), file)
    await topics.create_of_agencies(settings(), [agency["_id"] for agency in await list_agencies(settings())])
    return done
