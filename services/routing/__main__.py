"""``python -m services.routing`` runs the service; ``python -m services.routing agencies`` keeps the directory."""

import argparse
import asyncio
import sys
from pathlib import Path

from services.routing.agencies import STARTING_SET, UnusableFile, import_agencies, list_agencies
from services.routing.app import build
from services.routing.settings import Settings
from shared.service import serve


def main(arguments: list[str] | None = None) -> str | None:
    """None, or what to say as the process fails."""
    parser = argparse.ArgumentParser(prog="python -m services.routing")
    commands = parser.add_subparsers(dest="command")
    agencies = commands.add_parser("agencies", help="the agency directory").add_subparsers(dest="action", required=True)
    importing = agencies.add_parser("import", help="bring the directory up to a CSV file; nobody is removed")
    importing.add_argument("file", type=Path, nargs="?", default=STARTING_SET)
    agencies.add_parser("list", help="all agencies, by code")
    given = parser.parse_args(arguments)
    settings = Settings()
    if given.command is None:
        serve(build(settings), "routing", settings)
    elif given.action == "list":
        for agency in asyncio.run(list_agencies(settings)):
            active = "" if agency["active"] else "  (not active)"
            sys.stdout.write(f"{agency['_id']:14}{agency['name']}: {', '.join(agency['categories'])}{active}\n")
    else:
        try:
            done = asyncio.run(import_agencies(settings, given.file))
        except UnusableFile as faults:
            return f"Nothing was imported, nothing was changed:\n{faults}"
        sys.stdout.write(f"{done.added} added, {done.changed} changed, {done.unchanged} unchanged.\n")
    return None


if __name__ == "__main__":
    sys.exit(main())
