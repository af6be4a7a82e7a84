"""What every document store does, in memory and on MongoDB: concurrent writers lose nothing."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence

import pytest

from deploy.local.servers import Servers
from shared.events import CHAIN_TOPICS, ComplaintEvent
from shared.projection import Document, DocumentStore, Projection, revision
from shared.storage import Database, MongoDocuments, connect
from tests.support.events import STRAIGHT, Chain
from tests.support.memory import MemoryDocuments
from tests.support.running import until


@pytest.fixture
async def database(servers: Servers, namespace: str) -> AsyncIterator[Database]:
    client = connect(servers.mongo_url)
    yield client[f"{namespace}_documents"]
    client.close()


@pytest.fixture(params=["memory", "mongodb"])
def store(request: pytest.FixtureRequest) -> DocumentStore:
    if request.param == "memory":
        return MemoryDocuments()
    return MongoDocuments(request.getfixturevalue("database")["documents"])


def document(name: str, number: int, **fields: object) -> Document:
    return {"_id": name, "revision": number, **fields}


def seen(events: Sequence[ComplaintEvent]) -> Document:
    """The least that a projection derives."""
    return {"seen": [event.id for event in events]}


async def test_load_gives_what_exists(store: DocumentStore) -> None:
    assert await store.load(["a"]) == {}
    assert await store.save([(document("a", 1), None), (document("b", 1), None)])
    assert await store.load(["a", "b", "c"]) == {"a": document("a", 1), "b": document("b", 1)}
    assert await store.load([]) == {}


async def test_save_replaces_only_the_revision_that_was_read(store: DocumentStore) -> None:
    first = document("a", 1)
    assert await store.save([(first, None)])
    assert await store.save([(document("a", 2, fresh=True), first)])
    assert not await store.save([(document("a", 2, fresh=False), first)]), "another writer was first"
    assert not await store.save([(first, None)]), "there is one already"
    assert not await store.save([(document("nowhere", 5), document("nowhere", 4))]), "it cannot be replaced"
    assert await store.load(["a", "nowhere"]) == {"a": document("a", 2, fresh=True)}


async def test_one_that_moved_on_does_not_hinder_the_others(store: DocumentStore) -> None:
    assert await store.save([(document("a", 1), None)])
    late = (document("a", 9), document("a", 8))
    assert not await store.save([(document("b", 1), None), late, (document("c", 1), None)])
    assert set(await store.load(["a", "b", "c"])) == {"a", "b", "c"}


async def test_what_is_written_is_kept_for_good_after_a_moment_or_at_once(store: DocumentStore) -> None:
    first = document("a", 1, history=[{"id": "a:1"}])
    assert await store.save([(first, None)], durably=True)
    assert await store.kept(["a", "nowhere"]) == {"a": {"a:1"}}
    assert await store.save([(document("a", 2, history=[{"id": "a:1"}, {"id": "a:2"}]), first)])

    async def both() -> bool:
        return await store.kept(["a"]) == {"a": {"a:1", "a:2"}}

    await until(both)
    assert not await store.save([(document("a", 2, history=[]), first)], durably=True), "another writer was first"


async def test_what_is_saved_is_what_is_read_whatever_changed(store: DocumentStore) -> None:
    one, two, three = ({"id": f"a:{n}", "note": "x" * n} for n in (1, 2, 3))
    states = [
        document("a", 1, status="submitted", due={"forward": 5}, history=[one]),
        document("a", 2, status="submitted", due={}, informed_at=None, history=[one, three]),
        document("a", 3, status="assigned", history=[one, two, three]),
        document("a", 4, status="assigned", late=True, history=[one, two, three, {"id": "a:4"}]),
    ]
    for before, after in itertools.pairwise([None, *states]):
        assert after is not None
        assert await store.save([(after, before)])
        assert await store.load(["a"]) == {"a": after}


async def test_of_twenty_writers_of_one_revision_one_wins(store: DocumentStore) -> None:
    there: Document | None = None
    for number in range(3):
        saved = await asyncio.gather(
            *(store.save([(document("a", number + 1, by=writer), there)]) for writer in range(20))
        )
        there = document("a", number + 1)
        assert saved.count(True) == 1
        assert (await store.load(["a"]))["a"]["by"] == saved.index(True)


async def test_twenty_workers_folding_the_same_complaints_lose_nothing(store: DocumentStore) -> None:
    chains = [Chain().through(*STRAIGHT[1:]) for _ in range(5)]
    projection = Projection(store, seen, CHAIN_TOPICS)

    async def work(worker: int) -> None:
        mine: list[ComplaintEvent] = [e for chain in chains for e in chain.events][worker % 7 :: 7]
        for event in mine:
            await projection.apply([event], {event.complaint_id: None} if worker % 2 else None)

    await asyncio.gather(*(work(worker) for worker in range(20)))
    stored = await store.load([chain.complaint_id for chain in chains])
    for chain in chains:
        assert stored[chain.complaint_id]["seen"] == [event.id for event in chain.events]
        assert stored[chain.complaint_id]["revision"] == revision(event.id for event in chain.events)


async def test_mongodb_waits_for_the_disk_where_nothing_else_remembers(database: Database) -> None:
    """What a desk projects of its own entries need not wait: the journal remembers them."""
    store = MongoDocuments(database["documents"])
    durable, following = store._durable.write_concern.document, store._collection.write_concern.document
    assert (durable["w"], durable["j"]) == ("majority", True)
    assert (following["w"], following["j"]) == (1, False)
    assert store._committed.read_concern.level == "majority"
