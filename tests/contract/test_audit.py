"""The audit log on real MongoDB and Kafka: what writes it, and what tampering `lapor audit verify` finds."""

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.commands.audit import verdict_on
from deploy.commands.deadletters import replay_recorded
from deploy.local.servers import Servers
from shared import topics
from shared.audit import BEGINNING, Action, Seal, canonical
from shared.audit_store import MongoAudit
from shared.contract import Contract
from shared.deadletters import letters
from shared.events import AuditAnchored, now
from shared.keyfile import UnusableKey
from shared.publisher import Publisher
from shared.service import Service
from shared.settings import ServiceSettings
from shared.storage import Documents
from shared.topics import dead_letters
from tests.support.audit import EACH, WRITERS, audit_key
from tests.support.explain import indexed
from tests.support.running import read_topics

ROOT = Path(__file__).parents[2]
RECORDED = 5


@pytest.fixture
async def settings(servers: Servers, namespace: str) -> ServiceSettings:
    made = ServiceSettings(
        namespace=namespace,
        kafka_bootstrap=servers.kafka_bootstrap,
        mongo_url=servers.mongo_url,
        audit_key_file=audit_key(),
        topic_partitions=2,
    )
    await topics.create(made)
    return made


@dataclass
class Log:
    """A log with five entries, of which the head was anchored."""

    settings: ServiceSettings
    service: Service
    entries: Documents

    async def record(self, *subjects: str) -> None:
        for subject in subjects:
            await self.service.audit.record(Action.AGENCY_CHANGED, "cli:tests", subject, active=True)

    async def anchor(self) -> None:
        """As the service does each minute; stopping the journal waits until it is published."""
        journal = self.service.journal([])
        await journal.start()
        await self.service.anchor()
        await journal.stop()

    async def fault(self) -> str:
        verdict, _ = await verdict_on(self.settings, "opd")
        return verdict.fault


@pytest.fixture
async def log(settings: ServiceSettings) -> AsyncIterator[Log]:
    service = Service("opd", settings, Contract((), ()))
    await MongoAudit(service.database).ensure_indexes()
    made = Log(settings, service, service.database["audit"])
    await made.record(*(f"OPD-{number}" for number in range(1, RECORDED + 1)))
    await made.anchor()
    yield made
    await service.publisher.stop()
    service.database.client.close()


async def test_a_log_that_nobody_touched_is_whole(log: Log) -> None:
    verdict, anchors = await verdict_on(log.settings, "opd")
    assert (verdict.entries, verdict.first, verdict.last, verdict.fault) == (RECORDED, 1, RECORDED, "")
    assert anchors == 1
    (event,) = await read_topics(log.settings, AuditAnchored.topic)
    assert isinstance(event, AuditAnchored)
    assert (event.service, event.n) == ("opd", RECORDED)
    entry = await log.entries.find_one({"_id": 2})
    assert entry is not None
    assert set(entry) == {"_id", "at", "action", "actor", "role", "subject", "facts", "previous", "hash"}
    assert (entry["actor"], entry["subject"], entry["facts"]) == ("cli:tests", "OPD-2", {"active": True})


async def test_a_head_is_anchored_once(log: Log) -> None:
    await log.anchor()
    await log.anchor()
    assert len(await read_topics(log.settings, AuditAnchored.topic)) == 1


async def change_a_field(entries: Documents) -> None:
    await entries.update_one({"_id": 3}, {"$set": {"subject": "OPD-9"}})


async def change_a_fact(entries: Documents) -> None:
    await entries.update_one({"_id": 3}, {"$set": {"facts.active": False}})


async def add_a_field(entries: Documents) -> None:
    await entries.update_one({"_id": 3}, {"$set": {"remark": {"nested": 1.5}}})


async def delete_in_the_middle(entries: Documents) -> None:
    await entries.delete_many({"_id": {"$in": [2, 3]}})


async def delete_the_first(entries: Documents) -> None:
    await entries.delete_one({"_id": 1})


async def delete_the_last(entries: Documents) -> None:
    await entries.delete_one({"_id": RECORDED})


async def delete_all(entries: Documents) -> None:
    await entries.delete_many({})


async def swap_two(entries: Documents) -> None:
    second, third = [d async for d in entries.find({"_id": {"$in": [2, 3]}}).sort("_id", 1)]
    await entries.replace_one({"_id": 2}, {**third, "_id": 2})
    await entries.replace_one({"_id": 3}, {**second, "_id": 3})


async def insert_between(entries: Documents) -> None:
    entry = await entries.find_one({"_id": 2})
    assert entry is not None
    await entries.insert_one({**entry, "_id": 2.5})


async def insert_at_the_end(entries: Documents) -> None:
    entry = await entries.find_one({"_id": RECORDED})
    assert entry is not None
    await entries.insert_one({**entry, "_id": RECORDED + 1, "previous": entry["hash"]})


async def rewrite_without_the_key(entries: Documents) -> None:
    """A consistent chain of plain hashes, as somebody makes it who knows how it is done."""
    previous = BEGINNING
    async for entry in entries.find({}).sort("_id", 1):
        entry |= {"subject": "OPD-9" if entry["_id"] == 3 else entry["subject"], "previous": previous}
        content = {name: value for name, value in entry.items() if name != "hash"}
        previous = hashlib.sha256(canonical({"service": "opd", "entry": content})).hexdigest()
        await entries.replace_one({"_id": entry["_id"]}, {**content, "hash": previous})


async def seal_anew(entries: Documents, service: str) -> None:
    entry = await entries.find_one({"_id": 3})
    assert entry is not None
    changed = {**entry, "subject": "OPD-9"}
    await entries.replace_one({"_id": 3}, {**changed, "hash": Seal(service, audit_key()).of(changed)})


async def from_another_log(entries: Documents) -> None:
    """An entry that has its right number, previous hash and key, but of another service."""
    await seal_anew(entries, "sla")


async def reseal_one(entries: Documents) -> None:
    """By somebody who has the key, but does not write all that follows anew."""
    await seal_anew(entries, "opd")


TAMPERING: list[tuple[Callable[[Documents], Awaitable[None]], str]] = [
    (change_a_field, "entry 3 is not as it was written"),
    (change_a_fact, "entry 3 is not as it was written"),
    (add_a_field, "entry 3 is not as it was written"),
    (delete_in_the_middle, "entries 2 to 3 are missing"),
    (delete_the_first, "entry 1 is missing at the beginning"),
    (delete_the_last, "entry 5 is missing; the last is 4"),
    (delete_all, "entry 5 is missing; the last is none"),
    (swap_two, "entry 2 is not as it was written"),
    (insert_between, "an entry with the number 2.5"),
    (insert_at_the_end, "entry 6 is not as it was written"),
    (rewrite_without_the_key, "entry 1 is not as it was written"),
    (from_another_log, "entry 3 is not as it was written"),
    (reseal_one, "entry 4 does not follow the one before it"),
]


@pytest.mark.parametrize(("tamper", "told"), TAMPERING, ids=[tamper.__name__ for tamper, _ in TAMPERING])
async def test_tampering_is_found_and_named(
    log: Log, tamper: Callable[[Documents], Awaitable[None]], told: str
) -> None:
    await tamper(log.entries)
    assert told in await log.fault()


async def test_an_end_that_was_cut_off_and_written_anew_is_found(log: Log) -> None:
    """Even though the service that starts again continues a chain that fits in itself."""
    await log.entries.delete_many({"_id": {"$gte": 4}})
    again = Service("opd", log.settings, Contract((), ()))
    for subject in ("OPD-7", "OPD-8", "OPD-9"):
        await again.audit.record(Action.AGENCY_CHANGED, "cli:tests", subject)
    again.database.client.close()
    assert "entry 5 is another than the one that was anchored" in await log.fault()


async def test_a_service_goes_on_behind_a_gap_and_the_gap_stays_seen(log: Log) -> None:
    await log.entries.delete_one({"_id": RECORDED})
    await log.record("OPD-6")
    assert f"entry {RECORDED} is missing" in await log.fault()


async def test_who_can_write_the_topic_alone_makes_it_worse_only(log: Log) -> None:
    publisher = Publisher(log.settings.kafka_bootstrap, log.settings.topic_prefix, "tests")
    forged = AuditAnchored(id="audit:opd:2", occurred_at=now(), service="opd", n=2, hash="0" * 64)
    await publisher.publish([forged])
    await publisher.stop()
    assert "entry 2 is another than the one that was anchored" in await log.fault()


async def test_another_key_fits_nothing(log: Log, tmp_path: Path) -> None:
    other = tmp_path / "key"
    other.write_bytes(os.urandom(32))
    verdict, _ = await verdict_on(log.settings.model_copy(update={"audit_key_file": other}), "opd")
    assert "entry 1 is not as it was written" in verdict.fault
    with pytest.raises(UnusableKey, match="LAPOR_AUDIT_KEY_FILE"):
        await verdict_on(log.settings.model_copy(update={"audit_key_file": None}), "opd")


async def test_many_writers_of_two_processes_make_one_chain(settings: ServiceSettings) -> None:
    environment = os.environ | {
        "LAPOR_NAMESPACE": settings.namespace,
        "LAPOR_MONGO_URL": settings.mongo_url,
        "LAPOR_AUDIT_KEY_FILE": str(settings.audit_key_file),
    }
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.audit", "sla", name, cwd=ROOT, env=environment
        )
        for name in ("P1", "P2")
    ]
    assert await asyncio.gather(*(process.wait() for process in processes)) == [0, 0]
    verdict, _ = await verdict_on(settings, "sla")
    assert (verdict.entries, verdict.last, verdict.fault) == (2 * WRITERS * EACH, 2 * WRITERS * EACH, "")
    service = Service("sla", settings, Contract((), ()))
    subjects = {entry["subject"] async for entry in service.database["audit"].find()}
    service.database.client.close()
    assert len(subjects) == 2 * WRITERS * EACH, "each was recorded once"


@pytest.mark.parametrize(
    ("subject", "facts"),
    [
        ("siti@warga.example", {}),
        ("Siti Aminah", {}),
        ("081234567890", {}),
        ("+6281234567890", {}),
        ("OPD-1", {"name": "Siti"}),
        ("OPD-1", {"active": "Jalan Gajah Mada 1"}),
    ],
)
async def test_personal_data_are_refused(log: Log, subject: str, facts: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"personal data|no fact called"):
        await log.service.audit.record(Action.AGENCY_CHANGED, "cli:tests", subject, **facts)
    assert await log.entries.count_documents({}) == RECORDED


async def test_lists_are_read_along_an_index(log: Log) -> None:
    store = MongoAudit(log.service.database)
    async with indexed(log.service.database, "audit"):
        newest = await store.of(limit=2)
        older = await store.of(before=newest[-1]["_id"])
        one = await store.of(subject="OPD-2", action=Action.AGENCY_CHANGED, since=newest[-1]["at"].replace(year=2020))
    assert [entry["_id"] for entry in newest + older] == [5, 4, 3, 2, 1]
    assert [entry["_id"] for entry in one] == [2]


async def test_a_letter_that_is_replayed_is_recorded_first(log: Log) -> None:
    settings = log.settings
    publisher = Publisher(settings.kafka_bootstrap, settings.topic_prefix, "tests")
    topic = settings.topic_prefix + "complaint.submitted"
    headers = [
        ("dlq_topic", topic.encode()),
        ("dlq_reason", b"no event"),
        ("dlq_partition", b"0"),
        ("dlq_offset", b"0"),
    ]
    assert await publisher.send([(dead_letters(settings.group("opd")), b"key", b"{}", headers)]) == [True]
    await publisher.stop()
    (letter,) = await letters(settings, ["opd"])
    with pytest.raises(UnusableKey):
        await replay_recorded(settings.model_copy(update={"audit_key_file": None}), [letter])
    assert [one.replayed for one in await letters(settings, ["opd"])] == [False]
    assert await replay_recorded(settings, [letter]) == 1
    entry = await log.entries.find_one({"action": Action.DEAD_LETTER_REPLAYED})
    assert entry is not None
    assert (entry["subject"], entry["facts"]) == (letter.id, {"topic": topic})
    assert [one.replayed for one in await letters(settings, ["opd"])] == [True]


def lapor(settings: ServiceSettings, *arguments: str) -> "subprocess.CompletedProcess[str]":
    own = {
        "LAPOR_NAMESPACE": settings.namespace,
        "LAPOR_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "LAPOR_MONGO_URL": settings.mongo_url,
        "LAPOR_AUDIT_KEY_FILE": str(settings.audit_key_file),
    }
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", *arguments],
        cwd=ROOT, env=os.environ | own, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


async def test_the_commands(log: Log) -> None:
    whole = await asyncio.to_thread(lapor, log.settings, "audit", "verify")
    assert whole.returncode == 0, whole.stdout
    assert "opd      5 entries, 1 to 5, 1 anchors: whole" in whole.stdout
    assert "sla      0 entries, 0 anchors: whole" in whole.stdout
    shown = await asyncio.to_thread(
        lapor, log.settings, "audit", "show", "--service", "opd", "--limit", "2", "--action", "agency_changed"
    )
    assert "OPD-5" in shown.stdout
    assert "OPD-3" not in shown.stdout
    assert "--before 4" in shown.stdout
    await delete_the_last(log.entries)
    cut = await asyncio.to_thread(lapor, log.settings, "audit", "verify", "--service", "opd")
    assert cut.returncode == 1
    assert "entry 5 is missing" in cut.stdout
