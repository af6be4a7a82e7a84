"""What every document store does, in memory and on MongoDB: concurrent writers lose nothing."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from deploy.local.servers import Servers
from shared.events import CHAIN_TOPICS, ComplaintEvent
from shared.projection import Document, DocumentStore, Projection
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


def document(name: str, revision: int, **fields: object) -> Document:
    return {"_id": name, "revision": revision, **fields}


def seen(events: Sequence[ComplaintEvent]) -> Document:
    """The least that a projection derives."""
    return {"seen": [event.id for event in events]}


async def test_load_gives_what_exists(store: DocumentStore) -> None:
    assert await store.load(["a"]) == {}
    assert await store.save([(document("a", 1), 0), (document("b", 1), 0)])
    assert await store.load(["a", "b", "c"]) == {"a": document("a", 1), "b": document("b", 1)}
    assert await store.load([]) == {}


async def test_save_replaces_only_the_revision_that_was_read(store: DocumentStore) -> None:
    assert await store.save([(document("a", 1), 0)])
    assert await store.save([(document("a", 2, fresh=True), 1)])
    assert not await store.save([(document("a", 2, fresh=False), 1)]), "another writer was first"
    assert not await store.save([(document("a", 1), 0)]), "there is one already"
    assert not await store.save([(document("nowhere", 5), 4)]), "what is not there cannot be replaced"
    assert await store.load(["a", "nowhere"]) == {"a": document("a", 2, fresh=True)}


async def test_one_that_moved_on_does_not_hinder_the_others(store: DocumentStore) -> None:
    assert await store.save([(document("a", 1), 0)])
    assert not await store.save([(document("b", 1), 0), (document("a", 9), 8), (document("c", 1), 0)])
    assert set(await store.load(["a", "b", "c"])) == {"a", "b", "c"}


async def test_what_is_written_is_kept_for_good_after_a_moment_or_at_once(store: DocumentStore) -> None:
    assert await store.save([(document("a", 1, history=[{"id": "a:1"}]), 0)], durably=True)
    assert await store.kept(["a", "nowhere"]) == {"a": {"a:1"}}
    assert await store.save([(document("a", 2, history=[{"id": "a:1"}, {"id": "a:2"}]), 1)])

    async def both() -> bool:
        return await store.kept(["a"]) == {"a": {"a:1", "a:2"}}

    await until(both)
    assert not await store.save([(document("a", 2, history=[]), 1)], durably=True), "another writer was first"


async def test_of_twenty_writers_of_one_revision_one_wins(store: DocumentStore) -> None:
    for revision in range(3):
        saved = await asyncio.gather(
            *(store.save([(document("a", revision + 1, by=writer), revision)]) for writer in range(20))
        )
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
        assert stored[chain.complaint_id]["revision"] == len(chain.events)


async def test_mongodb_waits_for_the_disk_where_nothing_else_remembers(database: Database) -> None:
    """What a desk projects of its own entries need not wait: the journal remembers them."""
    store = MongoDocuments(database["documents"])
    durable, following = store._durable.write_concern.document, store._collection.write_concern.document
    assert (durable["w"], durable["j"]) == ("majority", True)
    assert (following["w"], following["j"]) == (1, False)
    assert store._committed.read_concern.level == "majority"
