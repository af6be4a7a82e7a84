"""The notify service's stores, in memory and on MongoDB: once by the key, the highest version, one holder of each
delivery."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from deploy.local.servers import Servers
from services.notify.delivery_store import DeliveryStore
from services.notify.desk import Finish, Wait
from services.notify.projection import project
from services.notify.store import CitizenStore, InboxStore
from shared.calendar import Deadlines
from shared.events import CitizenContact, new_id, now
from shared.storage import Database, connect
from tests.support.events import STRAIGHT, Chain
from tests.support.memory_notify import MemoryCitizens, MemoryDeliveries, MemoryInbox

LEASE = timedelta(seconds=30)


@pytest.fixture
async def database(servers: Servers, namespace: str) -> AsyncIterator[Database]:
    client = connect(servers.mongo_url)
    yield client[f"{namespace}_notify"]
    client.close()


Inboxes = InboxStore | MemoryInbox
Deliveries = DeliveryStore | MemoryDeliveries
Citizens = CitizenStore | MemoryCitizens


@pytest.fixture
async def stored_inbox(database: Database) -> InboxStore:
    store = InboxStore(database)
    await store.ensure_indexes()
    return store


@pytest.fixture
async def stored_deliveries(database: Database) -> DeliveryStore:
    store = DeliveryStore(database)
    await store.ensure_indexes()
    return store


@pytest.fixture
def stored_citizens(database: Database) -> CitizenStore:
    return CitizenStore(database)


@pytest.fixture(params=["memory", "mongodb"])
def inbox(request: pytest.FixtureRequest) -> Inboxes:
    return MemoryInbox() if request.param == "memory" else request.getfixturevalue("stored_inbox")


@pytest.fixture(params=["memory", "mongodb"])
def deliveries(request: pytest.FixtureRequest) -> Deliveries:
    return MemoryDeliveries() if request.param == "memory" else request.getfixturevalue("stored_deliveries")


@pytest.fixture(params=["memory", "mongodb"])
def citizens(request: pytest.FixtureRequest) -> Citizens:
    return MemoryCitizens() if request.param == "memory" else request.getfixturevalue("stored_citizens")


def made(count: int, at: datetime) -> Any:
    chains = [Chain(at=at) for _ in range(count)]
    return project([e for c in chains for e in c.events], at, Deadlines(), timedelta(minutes=1))


async def test_twenty_consumers_of_the_same_events_leave_one_entry_each(inbox: Inboxes) -> None:
    events = Chain().through(*STRAIGHT[1:]).events
    entries = project(events, now(), Deadlines(), timedelta(minutes=1)).inbox
    added = await asyncio.gather(*(inbox.add(random.sample(entries, len(entries))) for _ in range(20)))
    assert sorted(e["_id"] for part in added for e in part) == sorted(e["_id"] for e in entries)
    audiences = {entry["audience"] for entry in entries}
    assert sum([await inbox.count_unread(audience) for audience in audiences]) == len(entries)


async def test_an_entry_that_was_read_stays_read_when_its_event_comes_again(inbox: Inboxes) -> None:
    (entry,) = made(1, now()).inbox
    await inbox.add([entry])
    first = await inbox.mark_read(entry["_id"], entry["audience"], now())
    assert await inbox.add([entry]) == []
    again = await inbox.mark_read(entry["_id"], entry["audience"], now() + timedelta(hours=1))
    assert first == again
    assert await inbox.count_unread(entry["audience"]) == 0
    assert await inbox.mark_read(entry["_id"], "coordinator", now()) is None


async def test_the_highest_version_of_a_contact_stands_whoever_writes_last(citizens: Citizens) -> None:
    store, citizen = citizens, new_id()
    contacts = [
        CitizenContact(
            id=new_id(),
            occurred_at=now(),
            citizen_id=citizen,
            version=version,
            name="$name",  # a value, and not a field's path
            email=f"v{version}@warga.example",
            phone=None,
            language="id",
        )
        for version in range(1, 21)
    ]
    await asyncio.gather(*(store.keep([c]) for c in random.sample(contacts, 20)))
    assert (await store.contacts([citizen]))[citizen]["email"] == "v20@warga.example"
    await store.keep(contacts[:3])
    found = (await store.contacts([citizen]))[citizen]
    assert (found["version"], found["name"]) == (20, "$name")


async def test_a_choice_replaces_the_one_before(citizens: Citizens) -> None:
    assert await citizens.preferences(["a", "b"]) == {}
    await citizens.prefer("a", {"reply": True, "started": False}, now())
    await citizens.prefer("a", {"reply": False}, now())
    assert await citizens.preferences(["a", "b"]) == {"a": {"reply": False}}


async def test_twenty_workers_share_deliveries_and_none_gets_another_s(deliveries: Deliveries) -> None:
    at = now()
    await deliveries.add(made(200, at).deliveries)

    async def work() -> list[str]:
        mine: list[str] = []
        for _ in range(60):
            leased, repeated = await deliveries.lease(10, at, at + LEASE)
            assert repeated == 0
            mine += [d["_id"] for d in leased]
        return mine

    taken = [i for part in await asyncio.gather(*(work() for _ in range(20))) for i in part]
    assert len(taken) == len(set(taken)) == 200


async def test_a_delivery_is_added_once(deliveries: Deliveries) -> None:
    at = now()
    first, second = made(2, at).deliveries
    assert await deliveries.add([first]) == [first]
    assert await deliveries.add([first, second]) == [second]
    assert await deliveries.count_open() == 2


async def test_an_unfinished_lease_ends_and_the_next_holder_knows(deliveries: Deliveries) -> None:
    at = now()
    await deliveries.add(made(1, at).deliveries)
    ((stale,), _) = await deliveries.lease(10, at, at + LEASE)
    assert await deliveries.lease(10, at + LEASE / 2, at + LEASE) == ([], 0)
    ((fresh,), repeated) = await deliveries.lease(10, at + LEASE, at + 2 * LEASE)
    assert (repeated, fresh["attempts"]) == (1, 2)
    await deliveries.settle([(stale, Finish("failed", "smtp-550"))], at, at)
    (kept,) = await deliveries.load([stale["_id"]])
    assert kept["state"] == "sending", "who has lost the lease has nothing to say"
    await deliveries.settle([(stale, Finish("sent"))], at, at)
    (sent,) = await deliveries.load([stale["_id"]])
    assert (sent["state"], sent["open"]) == ("sent", False), "except that it went out"
    await deliveries.settle([(fresh, Wait(at, "smtp-451"))], at, at)
    assert (await deliveries.load([stale["_id"]]))[0]["state"] == "sent"


async def test_reports_are_due_once_done_or_after_a_while(deliveries: Deliveries) -> None:
    at = now()
    chain = Chain(at=at).through(*STRAIGHT[1:-1])
    made_now = project(chain.events, at, Deadlines(), timedelta(minutes=1)).deliveries
    await deliveries.add(made_now)
    assert await deliveries.unreported(at, 100) == []
    due = [d["notice"] for d in await deliveries.unreported(at + timedelta(minutes=1), 100)]
    assert due == ["receipt"], "step 6 is not done before its e-mail is, and of the others nobody has to hear"
    leased, _ = await deliveries.lease(100, at, at + LEASE)
    (reply,) = (d for d in leased if d["notice"] == "reply")
    (other,) = (d for d in leased if d["notice"] == "started")
    await deliveries.settle([(reply, Finish("sent")), (other, Finish("sent"))], at, at)
    assert [d["notice"] for d in await deliveries.unreported(at, 100)] == ["reply"]
    await deliveries.mark_reported([reply["_id"]])
    assert await deliveries.unreported(at, 100) == []
    assert await deliveries.count_open() == len(made_now) - 2


async def test_no_query_reads_a_whole_collection(
    database: Database, stored_inbox: InboxStore, stored_deliveries: DeliveryStore
) -> None:
    """By the profiler: what each method asks, and how many documents were looked at for it."""
    inbox, deliveries, at = stored_inbox, stored_deliveries, now()
    documents = made(300, at)
    await inbox.add(documents.inbox)
    await deliveries.add(documents.deliveries)
    await database.command("profile", 2)
    entry, citizens = documents.inbox[0], CitizenStore(database)
    for unread in (False, True):
        _, cursor = await inbox.read(entry["audience"], unread=unread, limit=1)
        await inbox.read(entry["audience"], unread=unread, limit=1, cursor=cursor)
    await inbox.count_unread(entry["audience"])
    await inbox.mark_read(entry["_id"], entry["audience"], at)
    leased, _ = await deliveries.lease(5, at, at + LEASE)
    await deliveries.settle([(leased[0], Finish("sent"))], at, at)
    await deliveries.unreported(at, 5)
    await deliveries.mark_reported([leased[0]["_id"]])
    await deliveries.count_open()
    for complaint in (None, entry["complaint_id"]):
        for state in (None, "sent"):
            await deliveries.find(complaint, state, 5, None)
    await citizens.contacts(["x"])
    await citizens.preferences(["x"])
    await citizens.prefer("x", {"reply": True}, at)
    await database.command("profile", 0)
    asked = (
        await database["system.profile"]
        .find({"ns": {"$regex": r"\.(inbox|deliveries|contacts|preferences)$"}})
        .to_list(500)
    )
    assert len(asked) > 15
    for query in asked:
        assert "COLLSCAN" not in query.get("planSummary", ""), query


async def test_pages_of_deliveries_join(stored_deliveries: DeliveryStore) -> None:
    deliveries = stored_deliveries
    for minute in range(7):
        await deliveries.add(made(3, now() + timedelta(minutes=minute)).deliveries)
    seen: list[dict[str, Any]] = []
    cursor = None
    while True:
        found, cursor = await deliveries.find(None, "pending", 4, cursor)
        seen += found
        if cursor is None:
            break
    assert len({d["_id"] for d in seen}) == len(seen) == 21
    assert all(a["created_at"] >= b["created_at"] for a, b in pairwise(seen))
