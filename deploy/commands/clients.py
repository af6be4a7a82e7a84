"""`lapor clients`: machine accounts of agencies' systems and frontends."""

from datetime import timedelta
from typing import Annotated

import typer
from rich.table import Table

from deploy.commands.running import console, fail, run, settings
from services.intake.clients import (
    LONGEST_OVERLAP,
    Client,
    add_client,
    disable_client,
    list_clients,
    rotate_client,
)
from services.intake.identity import IdentityRefused
from services.routing.agencies import list_agencies
from shared.scopes import GRANTABLE
from shared.sop import Role

app = typer.Typer(no_args_is_help=True, help="Machine accounts: agencies' systems and frontends.")
_HOURS = int(LONGEST_OVERLAP.total_seconds() // 3600)
ClientId = Annotated[str, typer.Argument(help="The account's id.", metavar="CLIENT_ID")]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What the machine is, as people call it.")],
    role: Annotated[Role, typer.Option(help="Whose work it does; a role of staff.")],
    scope: Annotated[list[str], typer.Option(help=f"May be repeated: {', '.join(sorted(GRANTABLE))}.")],
    agency: Annotated[str | None, typer.Option(help="Code of the agency, for an agency's system.")] = None,
) -> None:
    """Make an account and print its id and secret, once."""
    if agency and agency not in {known["_id"] for known in run(list_agencies(settings()))}:
        fail(f"There is no agency {agency}; `lapor agencies list` shows them.")
    client = Client(name, role, frozenset(scope), agency)
    try:
        secret = run(add_client(settings(), client))
    except IdentityRefused as refusal:
        fail(f"{refusal.field}: {refusal.detail}")
    _print(client.id, secret)


@app.command("list")
def show() -> None:
    """All machine accounts."""
    table = Table(box=None)
    for heading in ("client id", "name", "role", "agency", "scopes", "active"):
        table.add_column(heading, no_wrap=heading == "client id")
    for client in run(list_clients(settings())):
        active = "yes" if client["active"] else "no"
        scopes = " ".join(client["scopes"])
        table.add_row(client["_id"], client["name"], client["role"], client["agency"] or "", scopes, active)
    console.print(table)


@app.command()
def disable(client_id: ClientId) -> None:
    """End an account. Tokens that were given end by themselves within the token's lifetime."""
    if not run(disable_client(settings(), client_id)):
        fail(f"There is no machine account {client_id}; `lapor clients list` shows them.")
    console.print(f"{client_id} can no longer sign in.")


@app.command()
def rotate(
    client_id: ClientId,
    overlap_hours: Annotated[
        int, typer.Option(min=0, max=_HOURS, help="How long the present secret is accepted beside the new one.")
    ] = 24,
) -> None:
    """Give an account a new secret and print it, once."""
    secret = run(rotate_client(settings(), client_id, timedelta(hours=overlap_hours)))
    if secret is None:
        fail(f"There is no machine account {client_id}, or it is being changed; `lapor clients list` shows them.")
    _print(client_id, secret)


def _print(client_id: str, secret: str) -> None:
    console.print(
        f"client id      {client_id}\nclient secret  {secret}   (kept nowhere: hand it over now)",
        markup=False,
        soft_wrap=True,
    )
