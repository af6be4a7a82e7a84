"""`lapor staff`: accounts of operators, coordinators and administrators. Citizens register by themselves; machines have
`lapor clients`."""

import sys
from typing import Annotated

import typer
from rich.table import Table

from deploy.commands.running import console, fail, run, settings
from services.intake.accounts import Staff, add_staff, disable_staff, list_staff, reset_second_factor
from services.intake.identity import IdentityRefused
from shared.sop import Role

app = typer.Typer(no_args_is_help=True, help="Staff accounts.")


@app.command()
def add(
    login: Annotated[str, typer.Argument(help="Username or e-mail address to sign in by.")],
    role: Annotated[Role, typer.Option(help="One role; what it may do is the SOP's table.")],
    name: Annotated[str, typer.Option(help="As colleagues know the account.")],
    agency: Annotated[str | None, typer.Option(help="Code of the agency, for agency operators.")] = None,
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password from stdin.")] = False,
) -> None:
    """Make an account, or bring an existing one up to date."""
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    try:
        changed = run(add_staff(settings(), Staff(login, role, name, password, agency)))
    except IdentityRefused as refusal:
        fail(f"{refusal.field}: {refusal.detail}")
    console.print(f"{login} {'made or changed' if changed else 'is unchanged'}.")


@app.command("list")
def show() -> None:
    """All accounts that are not citizens', by role."""
    table = Table(box=None)
    for heading in ("role", "login", "name", "agency", "active"):
        table.add_column(heading, no_wrap=True)
    for account in run(list_staff(settings())):
        active = "yes" if account["active"] else "no"
        table.add_row(account["role"], account["logins"][0], account["name"], account["agency"] or "", active)
    console.print(table)


@app.command()
def disable(login: Annotated[str, typer.Argument(help="The account's login.")]) -> None:
    """End an account's sign-in. Tokens that were given end by themselves within the token's lifetime."""
    if not run(disable_staff(settings(), login)):
        fail(f"There is no staff account {login}; `lapor staff list` shows them.")
    console.print(f"{login} can no longer sign in.")


@app.command("reset-second-factor")
def reset(username: Annotated[str, typer.Argument(help="The account's login.")]) -> None:
    """Take away the second factor of somebody who has lost both app and recovery codes. See first who it is."""
    if not run(reset_second_factor(settings(), username)):
        fail(f"There is no second factor of a staff account {username}; `lapor staff list` shows the accounts.")
    console.print(f"{username} signs in by password alone until another second factor is set up.")
