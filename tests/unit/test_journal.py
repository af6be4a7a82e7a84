"""The journal at work: shared commits, who loses a race, repeated requests, and what a crash at each point leaves.

A crash is a store or publisher that raises, or a journal that is thrown away without stopping; the stores in memory
pass the same contract suite as MongoDB's (``tests/contract/test_journal_store.py``)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from shared import telemetry
from shared.case import Case
from shared.events import CHAIN_TOPICS, ComplaintEvent, Event
from shared.journal import STUCK_SECONDS, WRITERS, Entry, Idempotency, Journal, KeyReused, Overloaded, Taken, Unstorable
from shared.projection import Document, Projection
from shared.sop import Transition
from tests.support.events import TRACE, Chain
from tests.support.memory import MemoryDocuments, MemoryJournal, MemoryPublisher
from tests.support.running import until


def derive(events: Sequence[ComplaintEvent]) -> Document:
    return {"status": Case.of(events).status}


@dataclass
class Desk:
    """The parts that outlive a process, and journals over them."""

    store: MemoryJournal = field(default_factory=MemoryJournal)
    documents: MemoryDocuments = field(default_factory=MemoryDocuments)
    publisher: MemoryPublisher = field(default_factory=MemoryPublisher)

    def journal(self, queue: int = 2000, batch: int = 500, relay_after: float = 0.02) -> Journal:
        projection = Projection(self.documents, derive, CHAIN_TOPICS)
        after = timedelta(seconds=relay_after)
        return Journal(self.store, self.publisher, [projection], queue=queue, batch=batch, relay_after=after)

    @asynccontextmanager
    async def running(self, queue: int = 2000, batch: int = 500, relay_after: float = 0.02) -> AsyncIterator[Journal]:
        journal = self.journal(queue, batch, relay_after)
        await journal.start()
        try:
            yield journal
        finally:
            await journal.stop()

    async def settled(self) -> None:
        """Wait until every entry is published and marked."""

        async def done() -> bool:
            return await self.store.count_unpublished() == 0

        await until(done, within=30)

    def complete(self, *chains: Chain) -> None:
        """Each event stands in the journal, in its document, and on its topic."""
        for chain in chains:
            assert {event.id for event in chain.events} <= self.store.entries.keys()
            assert len(self.documents.documents[chain.complaint_id]["history"]) == len(chain.events)
            assert {event.id for event in chain.events} <= self.publisher.sent().keys()


def key(text: str = "k", body: bytes = b"{}") -> Idempotency:
    return Idempotency.of("account", "POST /v1/complaints", text, body)


def failing(times: int, error: Exception) -> Callable[[], Awaitable[None]]:
    """What raises the first ``times`` times it is awaited."""
    left = times

    async def fail() -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise error

    return fail


async def test_an_appended_event_is_projected_before_the_caller_hears_of_it() -> None:
    desk, chain = Desk(), Chain()
    async with desk.running() as journal:
        assert await journal.append(chain.last) == chain.last
        assert desk.documents.documents[chain.complaint_id]["status"] == "submitted"
        await desk.settled()
    desk.complete(chain)
    assert desk.publisher.sent() == {chain.last.id: 1}


async def test_requests_under_way_together_share_one_insert() -> None:
    desk, chains = Desk(), [Chain() for _ in range(200)]
    async with desk.running(relay_after=5) as journal:
        await asyncio.gather(*(journal.append(chain.last) for chain in chains))
        assert desk.store.inserts < 10
        await desk.settled()
    desk.complete(*chains)
    assert set(desk.publisher.sent().values()) == {1}, "nothing is published twice when nothing fails"


async def test_who_comes_while_a_batch_is_written_goes_with_all_others_who_come() -> None:
    desk, chains = Desk(), [Chain() for _ in range(21)]
    gate = asyncio.Event()
    desk.store.before_insert = gate.wait
    async with desk.running() as journal:
        appends = [asyncio.create_task(journal.append(chains[0].last))]
        for chain in chains[1:]:
            await asyncio.sleep(0.001)
            appends.append(asyncio.create_task(journal.append(chain.last)))
        await asyncio.sleep(0.001)
        gate.set()
        await asyncio.gather(*appends)
    assert desk.store.inserts == 2
    desk.complete(*chains)


async def test_a_batch_that_is_stuck_holds_up_the_others_for_a_moment_only() -> None:
    desk, stuck, others = Desk(), Chain(), [Chain() for _ in range(3)]
    gate = asyncio.Event()

    async def wait() -> None:
        desk.store.before_insert = lambda: asyncio.sleep(0)
        await gate.wait()

    desk.store.before_insert = wait
    async with desk.running() as journal:
        waiting = asyncio.create_task(journal.append(stuck.last))
        await asyncio.sleep(0)
        async with asyncio.timeout(20 * STUCK_SECONDS):
            await asyncio.gather(*(journal.append(chain.last) for chain in others))
        assert not waiting.done()
        desk.complete(*others)
        gate.set()
        assert await waiting == stuck.last


async def test_of_batches_that_are_stuck_there_are_few() -> None:
    desk, chains = Desk(), [Chain() for _ in range(WRITERS + 3)]
    gate, begun = asyncio.Event(), 0

    async def wait() -> None:
        nonlocal begun
        begun += 1
        await gate.wait()

    desk.store.before_insert = wait
    async with desk.running(batch=1) as journal:
        appends = [asyncio.create_task(journal.append(chain.last)) for chain in chains]
        await asyncio.sleep((WRITERS + 2) * STUCK_SECONDS)
        assert begun == WRITERS
        gate.set()
        await asyncio.gather(*appends)
    desk.complete(*chains)


async def test_a_commit_takes_no_more_than_its_batch() -> None:
    desk, chains = Desk(), [Chain() for _ in range(30)]
    async with desk.running(batch=10) as journal:
        await asyncio.gather(*(journal.append(chain.last) for chain in chains))
    assert desk.store.inserts == 3


async def test_of_two_movers_one_wins() -> None:
    desk, chain = Desk(), Chain()
    first, second = (chain.last.model_copy(update={"number": number}) for number in ("one", "two"))
    async with desk.running() as journal:
        outcome = await asyncio.gather(journal.append(first), journal.append(second), return_exceptions=True)
        assert outcome[0] == first
        assert isinstance(outcome[1], Taken)
        with pytest.raises(Taken):
            await journal.append(second, key())
        await desk.settled()
    assert desk.publisher.sent() == {first.id: 1}


async def test_the_same_request_again_gets_the_same_answer() -> None:
    desk, chain, other = Desk(), Chain(), Chain()
    async with desk.running() as journal:
        await journal.append(chain.last, key())
        assert await journal.append(other.last, key()) == chain.last
        assert await journal.replay(key()) == chain.last
        assert await journal.replay(key("never used")) is None
        assert await journal.replay(None) is None
    assert list(desk.store.entries) == [chain.last.id]


async def test_the_same_request_twice_at_once_gets_one_answer_even_if_it_makes_the_same_event() -> None:
    """A move has a fixed id, so the second collides in the id as well as in the key."""
    desk, chain = Desk(), Chain()
    again = chain.last.model_copy(update={"occurred_at": chain.at + timedelta(seconds=1)})
    async with desk.running() as journal:
        answers = await asyncio.gather(*(journal.append(event, key()) for event in (chain.last, again)))
    assert answers == [chain.last, chain.last]


async def test_a_key_with_another_request_is_refused() -> None:
    desk, chain, other = Desk(), Chain(), Chain()
    async with desk.running() as journal:
        await journal.append(chain.last, key())
        with pytest.raises(KeyReused):
            await journal.append(other.last, key(body=b"{1}"))
        with pytest.raises(KeyReused):
            await journal.replay(key(body=b"{1}"))
    assert list(desk.store.entries) == [chain.last.id]


def test_keys_of_two_accounts_or_routes_or_texts_are_different() -> None:
    parts = ("account", "route", "key")
    first = Idempotency.of(*parts, b"{}")
    for position in range(3):
        changed = [part + "2" if place == position else part for place, part in enumerate(parts)]
        assert Idempotency.of(changed[0], changed[1], changed[2], b"{}").key != first.key
    other_body = Idempotency.of(*parts, b"{ }")
    assert other_body.key == first.key
    assert other_body.request != first.request


async def test_an_event_that_cannot_be_stored_fails_alone() -> None:
    desk, good = Desk(), Chain()
    bad = Chain().then(Transition.FORWARDED, analysis="\ud800")
    async with desk.running() as journal:
        outcome = await asyncio.gather(
            journal.append(bad.last, key()), journal.append(good.last), return_exceptions=True
        )
    assert isinstance(outcome[0], Unstorable)
    assert outcome[1] == good.last


async def test_a_full_queue_refuses_at_once_and_loses_nothing() -> None:
    desk, chains = Desk(), [Chain() for _ in range(30)]
    gate = asyncio.Event()
    desk.store.before_insert = gate.wait
    async with desk.running(queue=10, batch=5) as journal:
        appends = [asyncio.create_task(journal.append(chain.last)) for chain in chains]

        async def the_rest_is_refused() -> bool:
            return sum(task.done() for task in appends) >= len(chains) - 15

        await until(the_rest_is_refused)
        gate.set()
        outcome = await asyncio.gather(*appends, return_exceptions=True)
        accepted = [event for event in outcome if isinstance(event, Event)]
        assert {type(failure) for failure in outcome if isinstance(failure, Exception)} == {Overloaded}
        await desk.settled()
    assert 10 <= len(accepted) <= 15
    assert {event.id for event in accepted} == set(desk.store.entries)


async def test_before_it_has_started_nothing_is_taken() -> None:
    with pytest.raises(Overloaded):
        await asyncio.wait_for(Desk().journal().append(Chain().last), 1)


async def test_stop_writes_and_publishes_what_is_under_way() -> None:
    desk, chains = Desk(), [Chain() for _ in range(50)]
    journal = desk.journal(batch=7, relay_after=5)
    await journal.start()
    appends = [asyncio.create_task(journal.append(chain.last)) for chain in chains]
    await asyncio.sleep(0)
    await journal.stop()
    assert all(task.done() for task in appends)
    desk.complete(*chains)
    assert await desk.store.count_unpublished() == 0
    assert await journal.unpublished() == 0


async def test_stop_without_start_and_start_again_are_harmless() -> None:
    desk, chain = Desk(), Chain()
    journal = desk.journal()
    await journal.stop()
    await journal.start()
    await journal.start()
    await journal.append(chain.last)
    await journal.stop()
    desk.complete(chain)


async def test_a_caller_who_has_gone_leaves_his_entry_and_harms_no_other() -> None:
    desk, gone, stays = Desk(), Chain(), Chain()
    async with desk.running() as journal:
        leaving = asyncio.create_task(journal.append(gone.last))
        staying = asyncio.create_task(journal.append(stays.last))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await staying == stays.last
        await desk.settled()
    desk.complete(gone, stays)


async def test_if_the_insert_fails_every_caller_hears_it_and_may_repeat() -> None:
    desk, chains = Desk(), [Chain(), Chain()]
    desk.store.before_insert = failing(1, ConnectionError("the database is away"))
    async with desk.running() as journal:
        outcome = await asyncio.gather(*(journal.append(c.last) for c in chains), return_exceptions=True)
        assert [type(failure) for failure in outcome] == [ConnectionError, ConnectionError]
        assert not desk.store.entries
        await asyncio.gather(*(journal.append(c.last, key(c.number)) for c in chains))
        await desk.settled()
    desk.complete(*chains)


async def test_an_insert_whose_answer_is_lost_is_found_again_by_its_key() -> None:
    """The entry stands although the caller was told that the outcome is unknown; the repeated request finds it."""
    desk, chain = Desk(), Chain()

    async def insert_then_lose_the_answer(*_: object) -> None:
        desk.store.before_insert = failing(0, ConnectionError())
        await desk.store.insert([entry])
        raise ConnectionError("the answer was lost")

    entry = Entry(chain.last, key())
    desk.store.before_insert = insert_then_lose_the_answer
    async with desk.running() as journal:
        with pytest.raises(ConnectionError):
            await journal.append(chain.last, key())
        assert await journal.append(Chain().last, key()) == chain.last
        await desk.settled()
    desk.complete(chain)


@pytest.mark.parametrize("times", [1, 3])
async def test_a_projection_that_fails_is_repeated_and_only_then_marked(times: int) -> None:
    desk, chain = Desk(), Chain()
    desk.documents.before_save = failing(times, ConnectionError("the database is away"))
    async with desk.running() as journal:
        assert await journal.append(chain.last) == chain.last, "the entry stands, so the answer is yes"
        assert desk.documents.documents == {}
        await desk.settled()
    desk.complete(chain)


async def test_an_event_takes_the_trace_of_its_request_along_also_if_the_relay_brings_it() -> None:
    desk, traced, untraced, late = Desk(), Chain(), Chain(), Chain()
    async with desk.running() as journal:
        await journal.append(untraced.last)
        token = telemetry.TRACE.set(TRACE)
        await journal.append(traced.last)
        desk.publisher.refuses = lambda event: event.id == late.last.id
        await journal.append(late.last)
        telemetry.TRACE.reset(token)
        await asyncio.sleep(0.05)
        assert late.last.id not in desk.publisher.traces
        desk.publisher.refuses = lambda _: False
        await desk.settled()
    assert desk.publisher.traces == {untraced.last.id: None, traced.last.id: TRACE, late.last.id: TRACE}


async def test_an_entry_whose_projection_a_crash_of_the_database_took_back_is_projected_again() -> None:
    """The database dies after it has acknowledged the projection, and the service lives on and publishes."""
    desk, chain = Desk(), Chain()

    async def crash() -> None:
        desk.documents.documents.clear()
        desk.publisher.before_publish = _at_once

    desk.publisher.before_publish = crash
    async with desk.running() as journal:
        await journal.append(chain.last)
        await desk.settled()
    desk.complete(chain)


async def _at_once() -> None:
    """Nothing in the way."""


@pytest.mark.parametrize("times", [1, 3])
async def test_publishing_that_fails_is_repeated(times: int) -> None:
    desk, chain = Desk(), Chain()
    desk.publisher.before_publish = failing(times, ConnectionError("the brokers are away"))
    async with desk.running() as journal:
        await journal.append(chain.last)
        await desk.settled()
    desk.complete(chain)


async def test_what_the_brokers_do_not_acknowledge_stays_unmarked_and_harms_no_other() -> None:
    desk, chains = Desk(), [Chain(), Chain(), Chain()]
    refused = chains[1].last.id
    desk.publisher.refuses = lambda event: event.id == refused
    async with desk.running() as journal:
        await asyncio.gather(*(journal.append(chain.last) for chain in chains))

        async def only_one_waits() -> bool:
            return await desk.store.count_unpublished() == 1

        await until(only_one_waits, within=30)
        assert desk.store.published == {chains[0].last.id, chains[2].last.id}
        desk.publisher.refuses = lambda _: False
        await desk.settled()
    desk.complete(*chains)


async def test_a_mark_that_fails_leads_to_a_second_publication_and_no_loss() -> None:
    desk, chain = Desk(), Chain()
    desk.store.before_mark = failing(1, ConnectionError("the database is away"))
    async with desk.running() as journal:
        await journal.append(chain.last)
        await desk.settled()
    desk.complete(chain)
    assert desk.publisher.sent() == {chain.last.id: 2}


async def _never() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("point", ["projection", "publication", "mark"])
async def test_what_a_crash_leaves_the_next_process_brings_to_its_end(point: str) -> None:
    """The process ends where it stands: between insert and projection, or before the publication or the mark."""
    desk, chains = Desk(), [Chain() for _ in range(5)]
    match point:
        case "projection":
            desk.documents.before_save = _never
        case "publication":
            desk.publisher.before_publish = _never
        case _:
            desk.store.before_mark = _never
    dying = desk.journal(relay_after=5)
    await dying.start()
    appends = [asyncio.create_task(dying.append(chain.last)) for chain in chains]

    async def there() -> bool:
        """All is written, and sent where nothing is in the way of that."""
        return len(desk.store.entries) == 5 and (point == "publication" or len(desk.publisher.sent()) == 5)

    await until(there)
    await asyncio.sleep(0.02)
    for task in [*dying._tasks, *appends]:
        task.cancel()
    await asyncio.gather(*dying._tasks, *appends, return_exceptions=True)
    assert await desk.store.count_unpublished() == 5

    fresh = MemoryDocuments()
    fresh.documents = desk.documents.documents
    publisher = MemoryPublisher()
    publisher.topics = desk.publisher.topics
    desk.documents, desk.publisher = fresh, publisher
    desk.store.before_mark = failing(0, ConnectionError())
    async with desk.running():
        await desk.settled()
    desk.complete(*chains)
    assert set(desk.publisher.sent().values()) == {1 if point == "publication" else 2}


async def test_the_relay_leaves_young_entries_to_their_own_process() -> None:
    desk, chain = Desk(), Chain()
    async with desk.running(relay_after=60) as journal:
        desk.publisher.refuses = lambda _: True
        await journal.append(chain.last)
        assert await journal.relay_once() == 0
        assert await journal.unpublished() == 1


async def test_the_relay_leaves_alone_what_takes_long_to_publish() -> None:
    desk, chain = Desk(), Chain()

    async def slowly() -> None:
        await asyncio.sleep(0.3)

    desk.publisher.before_publish = slowly
    async with desk.running(relay_after=0.02) as journal:
        await journal.append(chain.last)
        await asyncio.sleep(0.1)
        assert await journal.relay_once() == 0
        await desk.settled()
    desk.complete(chain)
    assert desk.publisher.sent() == {chain.last.id: 1}
