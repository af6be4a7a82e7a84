"""`lapor retention`: how long data are kept, what has come to its end, and removing that."""

from typing import Annotated

import typer
from rich.table import Table

from deploy.commands.running import console, fail, run, settings
from services.intake import retention as intake
from services.notify import retention as notify
from shared.audit import operator
from shared.audit_store import AgeingAudit, audit_log
from shared.kept import AUDIT, KEPT
from shared.retention import Keeping, Retention
from shared.settings import ServiceSettings
from shared.storage import connect
from shared.topics import SERVICES

app = typer.Typer(no_args_is_help=True, help="How long data are kept (docs/retention.md).")
KEEPINGS = {"intake": intake.keepings, "notify": notify.keepings}
"""What services have of the table besides their audit logs."""


@app.command()
def show() -> None:
    """Each class of data with how long it is kept, and how many documents have come to their end. Topics are in
    `lapor topics list`."""
    chosen = settings()
    due = run(_of_all(chosen, removing=False))
    table = Table(box=None)
    for heading in ("class", "service", "days", "due", "setting"):
        table.add_column(heading, no_wrap=True, justify="right" if heading in ("days", "due") else "left")
    for kept in KEPT:
        for service in kept.services:
            variable = f"LAPOR_RETENTION__{kept.setting.upper()}"
            days = str(kept.age(chosen.retention).days)
            table.add_row(kept.name, service, days, str(due[service][kept.name]), variable)
    console.print(table)


@app.command("run")
def remove(
    now: Annotated[bool, typer.Option("--now", help="Remove it; the services do so by themselves each hour.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how much it is and remove nothing.")] = False,
) -> None:
    """Remove what has come to its end, by the settings that this command is given."""
    if now == dry_run:
        fail("Give --dry-run or --now.")
    done = run(_of_all(settings(), removing=now))
    for service, counts in done.items():
        for name, count in counts.items():
            if count:
                console.print(f"{service:8} {name}: {count} {'removed' if now else 'to be removed'}")
    if not any(count for counts in done.values() for count in counts.values()):
        console.print("Nothing has come to its end.")


async def _of_all(chosen: ServiceSettings, *, removing: bool) -> dict[str, dict[str, int]]:
    """By service and class, how many documents are due, or were removed."""
    client = connect(chosen)
    try:
        done = {}
        for service in SERVICES:
            database = client[chosen.database(service)]
            log = audit_log(database, service, chosen.audit_key_file)
            own = KEEPINGS[service](database) if service in KEEPINGS else ()
            work = Retention(chosen.retention, log, [*own, Keeping(AUDIT, AgeingAudit(database, log))])
            done[service] = await (work.run(operator()) if removing else work.due())
        return done
    finally:
        client.close()
