"""Reads what there is, past the services: MongoDB's collections, the topics from offset 0, and the mails received.

Nothing here uses the services' code for storing, decoding or consuming: a fault of theirs must not hide itself.
"""

import asyncio
import email
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from pymongo import MongoClient

from shared.sop import Transition
from tests.chaos.history import Json

SERVICES = ("intake", "routing", "opd", "notify", "sla")
JOURNALS = SERVICES
PROJECTIONS = {"intake": "complaints", "routing": "cases", "opd": "work", "sla": "clocks"}
IN_POISON = "chaos-"
"""How the ids of complaints begin that exist only in injected records."""
INJECTED = "x-chaos"
"""The header of records that a fault has put into a topic; its value says what for."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a topic (``topic`` without the namespace). ``value`` is its JSON, None where it is none."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    raw: bytes | None
    value: Json | None
    headers: dict[str, bytes]

    @property
    def injected(self) -> str:
        """What a fault has put it there for; empty where the system has."""
        return self.headers.get(INJECTED, b"").decode()


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail as the provider's server took it."""

    message_id: str
    to: str
    at: datetime


Partition = tuple[str, int]


@dataclass(slots=True)
class Evidence:
    """What was found. ``journals`` are by service; ``documents`` are the projections' by service and id;
    ``committed`` are the offsets of each service's group, by topic and partition, ``codes`` the challenges whose
    one-time codes were to be sent."""

    journals: dict[str, list[Json]] = field(default_factory=dict)
    documents: dict[str, dict[str, Json]] = field(default_factory=dict)
    inbox: list[Json] = field(default_factory=list)
    deliveries: list[Json] = field(default_factory=list)
    accounts: list[Json] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    dead_letters: dict[str, list[Record]] = field(default_factory=dict)
    committed: dict[str, dict[Partition, int]] = field(default_factory=dict)
    ends: dict[Partition, int] = field(default_factory=dict)
    mails: list[Mail] = field(default_factory=list)
    codes: set[str] = field(default_factory=set)

    def events(self) -> list[tuple[str, Json]]:
        """Each journal's entries: the service, and the entry (``_id``, ``topic``, ``event``)."""
        return [(service, entry) for service in JOURNALS for entry in self.journals.get(service, [])]


async def gather(mongo_url: str, bootstrap: str, namespace: str, mail_dir: Path | None) -> Evidence:
    """Read everything of one namespace."""
    found = await asyncio.to_thread(_stores, mongo_url, namespace)
    await _topics(found, bootstrap, namespace)
    found.committed = await committed(bootstrap, namespace)
    if mail_dir is not None:
        found.mails = await asyncio.to_thread(_mails, mail_dir, namespace)
    return found


def _stores(mongo_url: str, namespace: str) -> Evidence:
    found = Evidence()
    with MongoClient[Json](mongo_url, tz_aware=True) as client:
        for service in SERVICES:
            database = client[f"{namespace}_{service}"]
            found.journals[service] = list(database["journal"].find())
            if service in PROJECTIONS:
                found.documents[service] = {d["_id"]: d for d in database[PROJECTIONS[service]].find()}
        found.inbox = list(client[f"{namespace}_notify"]["inbox"].find())
        found.deliveries = list(client[f"{namespace}_notify"]["deliveries"].find())
        found.accounts = list(client[f"{namespace}_intake"]["accounts"].find({"role": "citizen"}))
    return found


async def _topics(found: Evidence, bootstrap: str, namespace: str) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, group_id=None)
    await consumer.start()
    try:
        partitions = await places(bootstrap, f"{namespace}.", f"{namespace}-")
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        found.ends = {(_short(p.topic, namespace), p.partition): end for p, end in ends.items()}
        left = {p for p, end in ends.items() if end > 0}
        while left:
            batches = await consumer.getmany(timeout_ms=1000)
            for partition, batch in batches.items():
                for one in batch:
                    record = _record(one, namespace)
                    if partition.topic.endswith(".dlq"):
                        service = partition.topic.removeprefix(f"{namespace}-").removesuffix(".dlq")
                        found.dead_letters.setdefault(service, []).append(record)
                    elif record.topic == "citizen.code":  # which is no journal's: the challenge is its outbox
                        found.codes.add((record.value or {}).get("challenge_id", ""))
                    else:
                        found.records.append(record)
            for partition in list(left):
                if await consumer.position(partition) >= ends[partition]:
                    left.discard(partition)
    finally:
        await consumer.stop()


async def places(bootstrap: str, *beginnings: str) -> list[TopicPartition]:
    """All partitions of the topics whose names begin so. Raises AssertionError where there is none."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        names = [name for name in await admin.list_topics() if name.startswith(beginnings)]
        found = [
            TopicPartition(topic["topic"], partition["partition"])
            for topic in await admin.describe_topics(names)
            for partition in topic["partitions"]
        ]
    finally:
        await admin.close()
    assert found, f"there is no topic {beginnings}"
    return found


def _short(topic: str, namespace: str) -> str:
    return topic.removeprefix(f"{namespace}.")


def _record(record: Any, namespace: str) -> Record:
    try:
        value = json.loads(record.value)
    except (ValueError, TypeError, RecursionError):
        value = None
    headers = {str(name): bytes(content or b"") for name, content in record.headers}
    short = _short(record.topic, namespace)
    return Record(
        short,
        record.partition,
        record.offset,
        record.key,
        record.value,
        value if isinstance(value, dict) else None,
        headers,
    )


async def committed(bootstrap: str, namespace: str) -> dict[str, dict[Partition, int]]:
    """How far each service's group has committed."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        return {
            service: {
                (_short(partition.topic, namespace), partition.partition): metadata.offset
                for partition, metadata in (await admin.list_consumer_group_offsets(f"{namespace}-{service}")).items()
            }
            for service in SERVICES
        }
    finally:
        await admin.close()


def _mails(folder: Path, namespace: str) -> list[Mail]:
    """The mails to this namespace's citizens, whose addresses name it."""
    found = []
    for path in sorted(folder.glob("*.eml")):
        message = email.message_from_bytes(path.read_bytes())
        to = str(message["X-Envelope-To"])
        if f"-{namespace}@" in to:
            at = datetime.strptime(path.name.split("-")[0], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
            found.append(Mail(str(message["Message-ID"]).strip(), to, at))  # a long one stands on a line of its own
    return found


@dataclass(frozen=True, slots=True)
class Rest:
    """A look at whether everything has come to rest. ``tokens`` change with every change of the stores or topics;
    ``waiting`` says what is still on its way."""

    tokens: tuple[int, ...]
    waiting: tuple[str, ...]


async def look(mongo_url: str, bootstrap: str, namespace: str, horizon: datetime) -> Rest:
    """Whether all is published, consumed, delivered and reported, and no clock strikes until ``horizon``."""
    counts, waiting = await asyncio.to_thread(_look_at_stores, mongo_url, namespace, horizon)
    until = await ends(bootstrap, namespace)
    behind = await lag(bootstrap, namespace, until)
    waiting += [f"{service} is {records} records behind" for service, records in behind.items() if records]
    return Rest((*counts, sum(until.values())), tuple(waiting))


def _look_at_stores(mongo_url: str, namespace: str, horizon: datetime) -> tuple[list[int], list[str]]:
    counts: list[int] = []
    waiting: list[str] = []
    with MongoClient[Json](mongo_url, tz_aware=True) as client:
        for service in SERVICES:
            journal = client[f"{namespace}_{service}"]["journal"]
            counts.append(journal.count_documents({}))
            if unpublished := journal.count_documents({"published": False}):
                waiting.append(f"{service} has {unpublished} unpublished")
        notify = client[f"{namespace}_notify"]
        counts += [notify["inbox"].count_documents({}), notify["deliveries"].count_documents({})]
        genuine = {"$not": re.compile(f"^{IN_POISON}")}
        queries: Sequence[tuple[str, str, Json]] = (
            ("notify", "deliveries", {"$or": [{"open": True}, {"reported": False}], "complaint_id": genuine}),
            ("sla", "clocks", {"next_alarm_at": {"$lte": horizon}}),
            ("intake", "complaints", {"lapses_at": {"$lte": horizon, "$type": "date"}}),
        )
        for service, collection, query in queries:
            if found := client[f"{namespace}_{service}"][collection].count_documents(query):
                waiting.append(f"{found} of {service}'s {collection}")
    return counts, waiting


Ends = dict[tuple[str, int], int]
"""By topic (its short name) and partition, the offset after the last record."""


async def ends(bootstrap: str, namespace: str) -> Ends:
    """Where all topics end now."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, group_id=None)
    await consumer.start()
    try:
        partitions = await places(bootstrap, f"{namespace}.")
        found = await consumer.end_offsets(partitions)
        return {(_short(p.topic, namespace), p.partition): end for p, end in found.items()}
    finally:
        await consumer.stop()


async def lag(bootstrap: str, namespace: str, until: Ends) -> dict[str, int]:
    """How many of the records before ``until`` each service's group has not taken."""
    behind = {}
    for service, offsets in (await committed(bootstrap, namespace)).items():
        topics = consumed_topics(service)
        behind[service] = sum(max(0, end - offsets.get(place, 0)) for place, end in until.items() if place[0] in topics)
    return behind


_CHAIN = tuple(transition.value for transition in Transition)
_ALL = (*(f"complaint.{name}" for name in _CHAIN), "work.progress", "notification.delivered")
_ALARMS = ("sla.warned", "sla.breached", "sla.withdrawn")
_OWN = {
    "intake": ("submitted", "resubmitted", "reopened", "closed"),
    "routing": ("forwarded", "returned", "assigned", "rework_requested", "documented"),
    "opd": ("declined", "started", "completed"),
    "notify": ("answered",),
    "sla": (),
}


def taken_topics(service: str) -> frozenset[str]:
    """The topics whose events a service's documents hold (the READMEs' tables)."""
    if service == "opd":
        unseen = {"complaint.submitted", "complaint.forwarded", "complaint.returned", "notification.delivered"}
        return frozenset(_ALL) - unseen
    if service == "intake":
        return frozenset(_ALL)
    if service == "sla":
        return frozenset((*_ALL, *_ALARMS)) - {"work.progress"}
    if service == "routing":
        return frozenset((*_ALL, *_ALARMS)) - {"notification.delivered"}
    return frozenset((*_ALL, *_ALARMS, "citizen.contact")) - {"notification.delivered"}


def consumed_topics(service: str) -> frozenset[str]:
    """The topics that a service's group reads: those it takes, less those it issues itself."""
    own = {f"complaint.{name}" for name in _OWN[service]}
    own |= {"opd": {"work.progress"}, "notify": {"notification.delivered"}, "sla": set(_ALARMS)}.get(service, set())
    return taken_topics(service) - own
