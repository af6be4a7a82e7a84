"""`lapor complaint show`: one complaint as the journals tell it, and how far each service's document has got."""

from typing import Annotated, Any

import typer
from rich.table import Table

from deploy.commands.running import console, fail, run, settings
from services.intake import projection as intake
from services.opd import projection as opd
from services.routing import projection as routing
from services.sla import projection as sla
from shared.case import Case
from shared.events import ChainEvent, ComplaintEvent, from_document
from shared.projection import Document, chain_order
from shared.sop import HOLDER
from shared.storage import connect
from shared.topics import SERVICES

app = typer.Typer(no_args_is_help=True, help="Complaints, as their journals tell them.")
DOCUMENTS = {
    "intake": ("complaints", intake.TAKES),
    "routing": ("cases", routing.TAKES),
    "opd": ("work", opd.TAKES),
    "sla": ("clocks", sla.TAKES),
}
"""Per service the collection of its documents and the events that they hold."""


@app.callback()
def complaint() -> None:
    """Complaints, as their journals tell them."""


@app.command()
def show(which: Annotated[str, typer.Argument(help="The complaint's number or id.", metavar="NUMBER")]) -> None:
    """The chain of a complaint with what is unpublished, and the last event that each service knows."""
    journal, known = run(_read(which))
    if not journal:
        fail(f"No complaint {which} in any journal. Give its number (LP-…) or its id.")
    events = sorted((event for event, _ in journal), key=chain_order)
    published = {event.id: sent for event, sent in journal}
    case = Case.of(events)
    console.print(
        f"[bold]{case.number}[/]  {case.complaint_id}\nstatus {case.status}, held by "
        f"{HOLDER[case.status] if case.status else None}, agency {case.agency.code if case.agency else '-'}"
    )
    table = Table(box=None)
    for heading in ("seq", "event", "at (UTC)", "by", "published"):
        table.add_column(heading, no_wrap=True)
    for event in events:
        chained = isinstance(event, ChainEvent)
        by = event.actor.role.value if isinstance(event, ChainEvent) else ""
        table.add_row(
            str(event.seq) if chained else "",
            event.topic,
            f"{event.occurred_at:%Y-%m-%d %H:%M:%S}",
            by,
            "yes" if published[event.id] else "[red]waiting[/]",
        )
    console.print(table)
    for service, seq in known.items():
        last = max((e.seq for e in events if isinstance(e, ChainEvent) and e.topic in DOCUMENTS[service][1]), default=0)
        level = "level" if seq == last else f"[red]behind: knows seq {seq} of {last}[/]" if seq else "not concerned yet"
        console.print(f"{service:8} {level}")
    missing = set(range(1, case.seq + 1)) - {event.seq for event in events if isinstance(event, ChainEvent)}
    if missing:
        fail(f"The chain has gaps: seq {sorted(missing)}. Restore the journal that lost them from its backup.")


async def _read(which: str) -> tuple[list[tuple[ComplaintEvent, bool]], dict[str, int]]:
    """All journal entries of a complaint with their marks, and the highest seq in each service's document."""
    chosen = settings()
    client = connect(chosen)
    try:
        complaints = client[chosen.database("intake")]["complaints"]
        found = await complaints.find_one({"$or": [{"_id": which.lower()}, {"number": which.upper()}]}, {"_id": 1})
        if found is None:
            return [], {}
        complaint_id: str = found["_id"]
        entries: list[tuple[ComplaintEvent, bool]] = []
        prefix: dict[str, Any] = {"_id": {"$gte": f"{complaint_id}:", "$lt": f"{complaint_id};"}}
        for service in SERVICES:
            async for entry in client[chosen.database(service)]["journal"].find(prefix):
                event = from_document(entry["topic"], entry["event"])
                if isinstance(event, ComplaintEvent):
                    entries.append((event, entry["published"]))
        known: dict[str, int] = {}
        for service, (collection, _) in DOCUMENTS.items():
            document: Document | None = await client[chosen.database(service)][collection].find_one(
                {"_id": complaint_id}
            )
            known[service] = Case.of_document(document).seq
        return entries, known
    finally:
        client.close()
