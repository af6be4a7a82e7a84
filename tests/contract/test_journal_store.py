"""What every journal store does, in memory and on MongoDB: the journal's promises rest on it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from deploy.local.servers import Servers
from shared.events import Event, now
from shared.journal import Entry, Idempotency, JournalStore, KeyReused, Taken, Unstorable
from shared.sop import Transition
from shared.storage import Database, MongoJournal, connect
from tests.support.events import TRACE, Chain
from tests.support.explain import indexed
from tests.support.memory import MemoryJournal

LATER = timedelta(minutes=1)


@pytest.fixture
async def database(servers: Servers, namespace: str) -> AsyncIterator[Database]:
    client = connect(servers.mongo_url)
    made = client[f"{namespace}_journal"]
    await MongoJournal(made).ensure_indexes()
    yield made
    client.close()


@pytest.fixture(params=["memory", "mongodb"])
def store(request: pytest.FixtureRequest) -> JournalStore:
    return MemoryJournal() if request.param == "memory" else MongoJournal(request.getfixturevalue("database"))


def key(text: str, body: bytes = b"{}") -> Idempotency:
    return Idempotency.of("account", "POST /v1/complaints", text, body)


def event() -> Event:
    return Chain().last


def another(first: Event) -> Event:
    """A different event that claims the same place in the same chain."""
    return first.model_copy(update={"occurred_at": first.occurred_at + LATER})


def kinds(outcome: list[Exception | None]) -> list[type | None]:
    return [type(failure) if failure else None for failure in outcome]


async def waiting(store: JournalStore, limit: int = 100) -> list[Event]:
    return [entry.event for entry in await store.unpublished(now() + LATER, limit)]


async def test_what_is_inserted_waits_for_publication_unchanged(store: JournalStore) -> None:
    chain = Chain().through(Transition.FORWARDED, Transition.ASSIGNED).noted()
    for one in chain.events:
        assert await store.insert([Entry(one)]) == [None]
        await asyncio.sleep(0.002)  # so that each has a time of its own
    assert await waiting(store) == chain.events
    assert await store.count_unpublished() == 4
    assert await waiting(store, limit=2) == chain.events[:2], "oldest first"
    assert await store.unpublished(now() - LATER, 100) == [], "none was recorded a minute ago"


async def test_the_trace_context_of_a_request_waits_with_its_event(store: JournalStore) -> None:
    traced, untraced = event(), event()
    await store.insert([Entry(traced, key("a"), trace=TRACE), Entry(untraced)])
    found = {entry.event.id: entry.trace for entry in await store.unpublished(now() + LATER, 100)}
    assert found == {traced.id: TRACE, untraced.id: None}


async def test_marked_entries_wait_no_more(store: JournalStore) -> None:
    first, second = event(), event()
    await store.insert([Entry(first), Entry(second)])
    await store.mark([first.id, "no-such-entry"])
    await store.mark([first.id])
    assert await waiting(store) == [second]
    assert await store.count_unpublished() == 1


async def test_an_id_is_taken_once(store: JournalStore) -> None:
    first = event()
    assert kinds(await store.insert([Entry(first)])) == [None]
    assert kinds(await store.insert([Entry(another(first))])) == [Taken]
    assert await waiting(store) == [first], "the loser changes nothing"


async def test_an_idempotency_key_is_used_once_and_found(store: JournalStore) -> None:
    first = event()
    assert kinds(await store.insert([Entry(first, key("a"))])) == [None]
    assert kinds(await store.insert([Entry(event(), key("a")), Entry(event(), key("b"))])) == [KeyReused, None]
    assert await store.find_key(key("a").key) == (key("a").request, first)
    assert await store.find_key(key("c").key) is None
    assert await store.count_unpublished() == 2


async def test_entries_without_a_key_do_not_collide(store: JournalStore) -> None:
    assert kinds(await store.insert([Entry(event()), Entry(event()), Entry(event(), key("a"))])) == [None] * 3


async def test_one_batch_tells_each_entry_its_own_outcome(store: JournalStore) -> None:
    first, free = event(), event()
    entries = [
        Entry(first, key("a")),
        Entry(another(first), key("b")),
        Entry(event(), key("a")),
        Entry(event()),
        Entry(free, key("c")),
    ]
    assert kinds(await store.insert(entries)) == [None, Taken, KeyReused, None, None]
    assert await store.find_key(key("b").key) is None, "a key is not used up by an entry that lost"


async def test_an_entry_that_cannot_be_stored_harms_no_other(store: JournalStore) -> None:
    """A lone surrogate passes JSON and pydantic, but is no text that UTF-8 can hold."""
    chain, good = Chain().then(Transition.FORWARDED, analysis="\ud800"), event()
    assert kinds(await store.insert([Entry(event()), Entry(chain.last), Entry(good, key("a"))])) == [
        None,
        Unstorable,
        None,
    ]
    assert kinds(await store.insert([Entry(chain.last)])) == [Unstorable]
    assert await store.count_unpublished() == 2


@pytest.mark.parametrize("together", [True, False])
async def test_of_twenty_writers_of_one_id_one_wins(store: JournalStore, together: bool) -> None:
    first = event()
    rivals = [first.model_copy(update={"occurred_at": first.occurred_at + n * LATER}) for n in range(20)]
    if together:
        outcome = await store.insert([Entry(rival) for rival in rivals])
    else:
        outcome = [o for batch in await asyncio.gather(*(store.insert([Entry(r)]) for r in rivals)) for o in batch]
    assert (kinds(outcome).count(None), kinds(outcome).count(Taken)) == (1, 19)
    assert await waiting(store) == [rivals[outcome.index(None)]]


async def test_twenty_requests_under_one_key_make_one_entry(store: JournalStore) -> None:
    outcome = await asyncio.gather(*(store.insert([Entry(event(), key("a"))]) for _ in range(20)))
    assert sorted(str(kind) for batch in outcome for kind in kinds(batch)) == sorted(
        [str(None), *[str(KeyReused)] * 19]
    )


async def test_mongodb_keeps_the_contract_with_indexes(database: Database) -> None:
    store = MongoJournal(database)
    await store.ensure_indexes()
    chains = [Chain() for _ in range(200)]
    await store.insert([Entry(chain.last, key(chain.complaint_id)) for chain in chains])
    async with indexed(database, "journal"):
        await store.find_key(key(chains[7].complaint_id).key)
        assert len(await waiting(store, limit=50)) == 50
        assert await store.count_unpublished() == 200
        await store.mark([chain.last.id for chain in chains[:150]])
        assert len(await waiting(store)) == 50


async def test_mongodb_answers_only_what_is_on_disk() -> None:
    """Without ``j`` an acknowledged transition could be lost; without ``majority`` rolled back."""
    client = connect("mongodb://127.0.0.1:1")
    concern = MongoJournal(client["never-connected"])._durable.write_concern.document
    assert (concern["w"], concern["j"]) == ("majority", True)
    assert concern["wtimeout"] > 0, "every wait is bounded"
