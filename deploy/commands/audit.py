"""`lapor audit`: what was done, and whether its record is whole."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from rich.table import Table

from deploy.commands.running import console, fail, run, settings
from shared.audit import Action, Seal, Verdict, compare, verify
from shared.audit_store import MongoAudit
from shared.connections import kafka_options
from shared.events import AuditAnchored
from shared.projection import Document
from shared.records import Malformed, from_record
from shared.settings import ServiceSettings
from shared.storage import connect
from shared.topics import SERVICES

app = typer.Typer(no_args_is_help=True, help="The audit logs: who did what, in chains that show tampering.")
Service = Annotated[str | None, typer.Option(help=f"Only that of {', '.join(SERVICES)}.")]


class BadAnchor(Exception):
    """The anchors cannot be read, or one of them is none; the text says which and why."""


@app.command("verify")
def check(service: Service = None) -> None:
    """Check each log entry by entry, and against the anchors outside of the databases. Ends with 1 at any fault."""
    chosen = settings()
    bad = 0
    for name in _services(service):
        try:
            verdict, anchors = run(verdict_on(chosen, name))
        except BadAnchor as reason:
            console.print(f"{name:8} [red]{reason}[/]", soft_wrap=True)
            bad += 1
            continue
        span = f", {verdict.first} to {verdict.last}" if verdict.entries else ""
        console.print(
            f"{name:8} {verdict.entries} entries{span}, {anchors} anchors: "
            + (f"[red]{verdict.fault}[/]" if verdict.fault else "whole"),
            soft_wrap=True,
        )
        bad += bool(verdict.fault)
    if bad:
        raise typer.Exit(1)


@app.command()
def show(
    service: Service = None,
    action: Annotated[Action | None, typer.Option(help="Only what was done so.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only about this id, number or code.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only from this time on (UTC).")] = None,
    before: Annotated[int | None, typer.Option(min=1, help="Only numbers below this, in one service's log.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many at most.")] = 50,
) -> None:
    """What was recorded, newest first."""
    if before is not None and service is None:
        fail("--before counts in one service's log: name it with --service.")
    at = since.replace(tzinfo=UTC) if since else None
    found = run(_show(settings(), _services(service), action, subject, at, before, limit))
    table = Table(box=None)
    for heading in ("service", "n", "at (UTC)", "action", "actor", "role", "subject", "facts"):
        table.add_column(heading, no_wrap=heading != "facts", justify="right" if heading == "n" else "left")
    for name, entry in found:
        facts = ", ".join(f"{key}={value}" for key, value in entry["facts"].items())
        columns = (f"{entry['at']:%Y-%m-%d %H:%M:%S}", entry["action"], entry["actor"], entry["role"] or "")
        table.add_row(name, str(entry["_id"]), *columns, entry["subject"] or "", facts)
    console.print(table)
    if len(found) == limit and service is not None:
        console.print(f"Older ones: --service {service} --before {found[-1][1]['_id']}")


def _services(service: str | None) -> Sequence[str]:
    if service is not None and service not in SERVICES:
        fail(f"There is no service {service}; there are {', '.join(SERVICES)}.")
    return (service,) if service else SERVICES


async def verdict_on(chosen: ServiceSettings, service: str) -> tuple[Verdict, int]:
    """The verdict on one service's log, and how many anchors it was compared with. Raises UnusableKey, BadAnchor."""
    seal = Seal(service, chosen.audit_key_file)
    client = connect(chosen)
    try:
        store = MongoAudit(client[chosen.database(service)])
        said = f"{service:8} … {{}} entries"
        verdict = await verify(
            service, store.walk(), seal, lambda so_far: console.print(said.format(so_far.entries), markup=False)
        )
        compared = 0

        async def counted() -> AsyncIterator[Sequence[AuditAnchored]]:
            nonlocal compared
            async for some in _anchors(chosen, service):
                compared += len(some)
                yield some

        lost = await compare(verdict, counted(), store.hashes)
        verdict.fault = verdict.fault or lost
        return verdict, compared
    finally:
        client.close()


async def _anchors(chosen: ServiceSettings, service: str) -> AsyncIterator[Sequence[AuditAnchored]]:
    """All anchors of a service that the topic holds now, some at a time. Raises BadAnchor."""
    topic = chosen.topic_prefix + AuditAnchored.topic
    server = {"bootstrap_servers": chosen.kafka_bootstrap, **kafka_options(chosen)}
    admin, consumer = AIOKafkaAdminClient(**server), AIOKafkaConsumer(**server, enable_auto_commit=False)
    try:
        await admin.start()
        await consumer.start()
        (described,) = await admin.describe_topics([topic])
        if described["error_code"]:
            raise BadAnchor(f"{topic} cannot be read: {for_code(described['error_code']).__name__}")
        places = [TopicPartition(topic, part["partition"]) for part in described["partitions"]]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        while [place for place in places if await consumer.position(place) < ends[place]]:
            for records in (await consumer.getmany(timeout_ms=1000, max_records=500)).values():
                some = []
                for record in records:
                    try:
                        event = from_record(AuditAnchored.topic, record.key, record.value, record.headers)
                    except Malformed as reason:
                        where = f"{topic}, partition {record.partition}, offset {record.offset}"
                        raise BadAnchor(f"{where} is no anchor: {reason}") from None
                    if isinstance(event, AuditAnchored) and event.service == service:
                        some.append(event)
                if some:
                    yield some
    finally:
        await consumer.stop()
        await admin.close()


async def _show(
    chosen: ServiceSettings,
    services: Sequence[str],
    action: Action | None,
    subject: str | None,
    since: datetime | None,
    before: int | None,
    limit: int,
) -> list[tuple[str, Document]]:
    client = connect(chosen)
    try:
        found = [
            (service, entry)
            for service in services
            for entry in await MongoAudit(client[chosen.database(service)]).of(
                action=action, subject=subject, since=since, before=before, limit=limit
            )
        ]
    finally:
        client.close()
    return sorted(found, key=lambda one: (one[1]["at"], one[1]["_id"]), reverse=True)[:limit]
