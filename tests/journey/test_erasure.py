"""A citizen deletes their data, and everything that there is is searched for them: all databases, all topics and what
the brokers have on disk, logs, metrics and e-mails (UU PDP 27/2022). Their cases stay, one of them under way."""

import json
import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code
from pymongo import MongoClient

from deploy.demo.people import staff
from deploy.demo.pictures import street
from deploy.demo.target import Target
from deploy.local.launcher import System
from deploy.local.servers import Servers
from shared.events import CitizenContact, ContactErased, Event, now
from shared.publisher import Publisher
from shared.records import from_record
from shared.sop import Role
from tests.chaos.evidence import places
from tests.journey.test_canaries import (
    Canary,
    carried_through,
    desks,
    filed,
    letters,
    logs,
    metrics,
    records,
    registered,
)
from tests.support.running import until


def everything_stored(target: Target) -> dict[str, list[bytes]]:
    """Every document of every service's database, whatever may be in it."""
    found: dict[str, list[bytes]] = {}
    with MongoClient[dict[str, Any]](target.mongo_url) as client:
        for service in target.urls:
            database = client[f"{target.namespace}_{service}"]
            for name in database.list_collection_names():
                found[f"{service}.{name}"] = [repr(document).encode() for document in database[name].find()]
    return found


async def last_contact(target: Target, citizen: str) -> bytes | None:
    """The value of the last record of the citizen's on the topic of contacts. Raises LookupError."""
    consumer = AIOKafkaConsumer(bootstrap_servers=target.kafka_bootstrap, group_id=None, enable_auto_commit=False)
    await consumer.start()
    found: dict[bytes, bytes | None] = {}
    try:
        every = [
            p for p in await places(target.kafka_bootstrap, target.namespace) if p.topic.endswith("citizen.contact")
        ]
        consumer.assign(every)
        await consumer.seek_to_beginning(*every)
        ends = await consumer.end_offsets(every)
        while [place for place in every if await consumer.position(place) < ends[place]]:
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                found |= {record.key: record.value for record in batch}
    finally:
        await consumer.stop()
    return found[citizen.encode()]


@pytest.mark.timeout(240)
async def test_nothing_is_left_of_who_has_deleted_their_data(system: System, target: Target) -> None:
    canary, neighbour = Canary.hatched(), Canary.hatched()
    async with AsyncExitStack() as stack:
        people = await desks(target, stack)
        operator = people["forward"]
        other = await stack.enter_async_context(await registered(target, neighbour))
        neighbours = await filed(other, "public")
        person = await stack.enter_async_context(await registered(target, canary))
        citizen = (await person.get("intake", "/v1/me"))["id"]
        done, hidden, open_one = [await filed(person, v) for v in ("public", "anonim", "rahasia")]
        for complaint in (done, hidden):
            await carried_through(complaint, people)
        reason = {"reason": f"Menanyakan lokasi kepada {canary.name}."}
        await operator.post("intake", f"/v1/complaints/{done}/reporter", reason)
        await person.photo("intake", street(7, repaired=False))
        stored = everything_stored(target)
        assert {where for where, documents in stored.items() if any(map(canary.found_in, documents))} >= {
            "intake.accounts",
            "intake.journal",
            "intake.identity_accesses",
            "notify.contacts",
        }, "a search that could find nothing proves nothing"
        logged = {name: len(content) for name, content in logs(system)}
        mails = {content for _, content in letters(target)}

        await person.post("intake", "/v1/me/deletion", {"current_password": canary.password})

        async def told() -> bool:
            return await last_contact(target, citizen) is None

        await until(told, within=30)

        async def forgotten() -> bool:
            return not any(canary.found_in(d) for documents in everything_stored(target).values() for d in documents)

        await until(forgotten, within=30)
        shown = await _goes_on(target, open_one, people)
        shown += [
            json.dumps(await people[move].get("routing", "/v1/cases", limit=100)).encode() for move in ("forward",)
        ]
        assert (await other.get("intake", f"/v1/complaints/{neighbours}"))["status"] == "submitted"

    leaks = [where for where, documents in everything_stored(target).items() if any(map(canary.found_in, documents))]
    leaks += [where for where, content in [*[r async for r in records(target)], *[m async for m in metrics(target)]]
              if canary.found_in(content)]  # fmt: skip
    leaks += [name for name, content in logs(system) if canary.found_in(content[logged.get(name, 0) :])]
    leaks += [
        f"an e-mail to {to}" for to, content in letters(target) if content not in mails and canary.found_in(content)
    ]
    leaks += ["what staff are shown" for content in shown if canary.found_in(content)]
    assert leaks == []
    assert any(map(neighbour.found_in, everything_stored(target)["notify.contacts"])), "the neighbour stays"
    with MongoClient[dict[str, Any]](target.mongo_url) as client:
        kept = client[f"{target.namespace}_notify"]
        assert kept["inbox"].count_documents({"audience": f"citizen:{citizen}"}) == 0
        replies = list(kept["deliveries"].find({"complaint_id": open_one, "notice": "reply"}))
        assert [(reply["state"], reply["reason"]) for reply in replies] == [("skipped", "erased")]
        photos = client[f"{target.namespace}_intake"]["photos"]
        assert photos.count_documents({"owners": citizen}) == 0


async def _goes_on(target: Target, complaint: str, people: dict[str, Any]) -> list[bytes]:
    """The case that was under way goes through all six steps without its reporter; what staff are shown of it."""
    shown = await carried_through(complaint, people)
    async with staff(target, Role.COORDINATOR) as coordinator:

        async def answered() -> bool:
            found: dict[str, Any] = await coordinator.get("routing", f"/v1/cases/{complaint}")
            shown.append(json.dumps(found).encode())
            return bool(found["status"] == "answered")

        await until(answered, within=60)
    return shown


@pytest.fixture
async def contacts(servers: Servers, namespace: str) -> str:
    """A topic of contacts whose segments end at once, so that what takes a day takes seconds."""
    topic = f"{namespace}.citizen.contact"
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.kafka_bootstrap)
    await admin.start()
    quick = {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.01",
        "segment.ms": "1000",
        "max.compaction.lag.ms": "1000",
        "delete.retention.ms": "86400000",
    }
    try:
        answer = await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=quick)])
        assert not any(code for _, code, *_ in answer.topic_errors), [for_code(c) for _, c, *_ in answer.topic_errors]
    finally:
        await admin.close()
    return topic


@pytest.mark.timeout(180)
async def test_the_brokers_have_nothing_left_on_disk(
    servers: Servers, namespace: str, contacts: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A tombstone, and later another that begins a new segment: after compaction the contact is in no file."""
    tag = f"kenari-{secrets.token_hex(8)}"
    folders = list(tmp_path_factory.getbasetemp().glob(f"servers*/**/{contacts}-0"))
    if not folders:
        pytest.skip("the brokers' files are not on this machine")
    publisher = Publisher(servers.kafka_bootstrap, f"{namespace}.", "tests")

    def on_disk() -> bool:
        return any(tag.encode() in path.read_bytes() for folder in folders for path in Path(folder).glob("*.log"))

    async def say(event: Event) -> None:
        assert await publisher.publish([event]) == [event.id]

    try:
        told = {"citizen_id": "siti", "version": 1, "name": tag, "email": f"{tag}@warga.example", "phone": None}
        await say(CitizenContact(id="c1", occurred_at=now(), language="id", **told))
        assert on_disk()
        for number in range(1, 40):
            await say(ContactErased(id=f"e{number}", occurred_at=now(), citizen_id="siti"))
            try:
                await until(_not(on_disk), within=3)
                break
            except TimeoutError:
                continue
        assert not on_disk()
    finally:
        await publisher.stop()


def _not(look: Any) -> Any:
    async def looked() -> bool:
        return not look()

    return looked


def test_a_record_without_a_value_is_a_deletion_on_this_topic_only() -> None:
    headers = [("ce_type", b"lapor.citizen.contact.v1"), ("ce_id", b"e1"), ("ce_time", now().isoformat().encode())]
    event = from_record("citizen.contact", b"siti", None, headers)
    assert isinstance(event, ContactErased)
    assert event.citizen_id == "siti"
