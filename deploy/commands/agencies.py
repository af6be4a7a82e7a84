"""`lapor agencies`: the agency directory."""

import secrets
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from deploy.access.install import connect_agency, disconnect_agency
from deploy.access.kafka import MECHANISM, KafkaRefused
from deploy.commands.running import console, fail, run, settings
from services.routing.agencies import STARTING_SET, Imported, UnusableFile, import_agencies, list_agencies
from shared import topics
from shared.agency_feed import agency_topic
from shared.audit import Action, operator
from shared.audit_store import audit_log
from shared.storage import connect as connect_to

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


@app.command()
def connect(code: Annotated[str, typer.Argument(help="The agency's code.", metavar="CODE")]) -> None:
    """Let an agency's own system read its topic on locked brokers: makes its principal, or gives it a new password."""
    if code not in {agency["_id"] for agency in run(list_agencies(settings()))}:
        fail(f"There is no agency {code}; `lapor agencies list` shows them.")
    run(_record(Action.AGENCY_CONNECTED, code))
    try:
        secret = connect_agency(settings(), code, secrets.token_urlsafe(24))
    except KafkaRefused as refusal:
        fail(f"Not done: {refusal}\nSign in as the administrator of the brokers (LAPOR_KAFKA_USERNAME).")
    topic = settings().topic_prefix + agency_topic(code)
    console.print(
        f"username   {secret.username}\npassword   {secret.password}   (kept nowhere: hand it over now)\n"
        f"mechanism  {MECHANISM}\ntopic      {topic}\n"
        f"group      {secret.username}, or {secret.username}. and more behind it",
        markup=False,
        soft_wrap=True,
    )


@app.command()
def disconnect(code: Annotated[str, typer.Argument(help="The agency's code.", metavar="CODE")]) -> None:
    """Let an agency's own system in no more."""
    run(_record(Action.AGENCY_DISCONNECTED, code))
    try:
        disconnect_agency(settings(), code)
    except KafkaRefused as refusal:
        fail(f"Not done: {refusal}")
    console.print(f"The system of {code} can no longer sign in.")


async def _record(action: Action, code: str) -> None:
    client = connect_to(settings())
    try:
        log = audit_log(client[settings().database("routing")], "routing", settings().audit_key_file)
        await log.record(action, operator(), code)
    finally:
        client.close()


async def _import(file: Path) -> Imported:
    done = await import_agencies(settings(), file)
    await topics.create_of_agencies(settings(), [agency["_id"] for agency in await list_agencies(settings())])
    return done
