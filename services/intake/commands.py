"""``python -m services.intake staff …``: the accounts of those who work here are made by command."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from services.intake.accounts import Staff, add_staff, disable_staff, list_staff
from services.intake.identity import IdentityRefused
from shared.issuers import GIVABLE
from shared.keyfile import UnusableKey
from shared.settings import ServiceSettings
from shared.sop import Role
from shared.storage import TRANSIENT


def run(arguments: Sequence[str]) -> int:
    """Carry out one command; returns the process's exit code, and says on standard error what went wrong."""
    given = _parser().parse_args(arguments)
    try:
        return asyncio.run(_carry_out(given))
    except IdentityRefused as refusal:
        return _fail(f"{refusal.field.removeprefix('body.')}: {refusal.detail}")
    except UnusableKey as reason:
        return _fail(str(reason))
    except TRANSIENT as error:
        return _fail(f"MongoDB cannot be reached: {error}\nStart it, or set LAPOR_MONGO_URL.")


async def _carry_out(given: argparse.Namespace) -> int:
    settings = ServiceSettings()
    if given.command == "add":
        password = sys.stdin.readline().rstrip("\r\n")
        staff = Staff(given.username, Role(given.role), given.name or given.username, password, given.agency)
        changed = await add_staff(settings, staff)
        _say(f"{given.username}: {'kept' if changed else 'nothing to change'}")
    elif given.command == "list":
        for account in await list_staff(settings):
            state = "" if account["active"] else "disabled"
            columns = (account["role"], account["logins"][0], account["agency"] or "-", account["name"], state)
            _say("\t".join(columns).rstrip())
    elif not await disable_staff(settings, given.username):
        return _fail(f"There is no staff account {given.username}; `staff list` shows them.")
    else:
        _say(f"{given.username}: disabled, and signed out everywhere")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.intake", description=__doc__)
    commands = parser.add_subparsers(required=True).add_parser("staff", help="accounts of staff")
    staff = commands.add_subparsers(dest="command", required=True)
    add = staff.add_parser("add", help="make an account, or bring it up to date")
    add.add_argument("username")
    add.add_argument("--role", required=True, choices=sorted(GIVABLE))
    add.add_argument("--agency", help="code of the agency, for its operators")
    add.add_argument("--name", help="as other people read it")
    add.add_argument("--password-stdin", required=True, action="store_true", help="read the password's line from stdin")
    staff.add_parser("list", help="all accounts but the citizens'")
    staff.add_parser("disable", help="end an account's sign-in").add_argument("username")
    return parser


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _fail(text: str) -> int:
    sys.stderr.write(text + "\n")
    return 1
