"""Documents do not depend on the order, the repetition or the batches in which their events come, nor on who else
writes them."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.case import Case
from shared.events import CHAIN_TOPICS, ChainEvent, CitizenContact, ComplaintEvent, ProgressNoted, new_id, now
from shared.projection import Change, Document, Projection, Unconfirmed, chain_order, concerns, fold, history, revision
from shared.sop import Transition
from tests.support.chains import chains, deliveries, split
from tests.support.events import Chain
from tests.support.memory import MemoryDocuments

TAKES = (*CHAIN_TOPICS, "work.progress", "notification.delivered")


def derive(events: Sequence[ComplaintEvent]) -> Document:
    """Everything that a projection can derive: the case, and every event in order."""
    case = asdict(Case.of(events))
    return {"case": {name: repr(value) for name, value in case.items()}, "order": [event.id for event in events]}


def whole(events: Sequence[ComplaintEvent]) -> Document:
    document = fold(None, events, derive)
    assert document is not None
    return document


def wanted(chain: Chain) -> Document:
    """What a projection makes of a chain: of the notices it takes the receipt."""
    return whole([event for event in chain.events if concerns(event, TAKES)])


async def projected(batches: Sequence[Sequence[ComplaintEvent]]) -> dict[str, Document]:
    store = MemoryDocuments()
    projection = Projection(store, derive, TAKES)
    for batch in batches:
        await projection.apply(batch)
    return store.documents


@given(st.data())
def test_any_order_any_repetition_any_batches(data: st.DataObject) -> None:
    chain = data.draw(chains())
    batches = data.draw(deliveries(st.just(chain.events)))
    assert asyncio.run(projected(batches)) == {chain.complaint_id: wanted(chain)}


@given(st.data())
def test_complaints_do_not_mix(data: st.DataObject) -> None:
    both = [data.draw(chains(most=6)), data.draw(chains(most=6))]
    events = data.draw(st.permutations([event for chain in both for event in chain.events]))
    batches = data.draw(split(events))
    assert asyncio.run(projected(batches)) == {chain.complaint_id: wanted(chain) for chain in both}


@given(st.data())
def test_concurrent_writers_lose_nothing(data: st.DataObject) -> None:
    """Each of several processes applies some batches; their reads and writes interleave; some rely on stale reads."""
    both = [data.draw(chains(most=6)), data.draw(chains(most=6))]
    events = [event for chain in both for event in chain.events]
    batches = data.draw(deliveries(st.just(events)))
    writers = data.draw(st.integers(2, 5))
    stale = data.draw(st.booleans())

    async def write() -> dict[str, Document]:
        store = MemoryDocuments()

        async def one(share: Sequence[Sequence[ComplaintEvent]]) -> None:
            projection = Projection(store, derive, TAKES)
            for batch in share:
                await projection.apply(batch, {e.complaint_id: None for e in batch} if stale else None)

        await asyncio.gather(*(one(batches[writer::writers]) for writer in range(writers)))
        return store.documents

    assert asyncio.run(write()) == {chain.complaint_id: wanted(chain) for chain in both}


@given(chains())
def test_a_document_gives_its_events_back(chain: Chain) -> None:
    document = whole(chain.events)
    assert list(history(document)) == sorted(chain.events, key=chain_order)
    assert Case.of_document(document) == Case.of(chain.events)
    assert document["revision"] == revision({e.id for e in chain.events})
    assert fold(document, chain.events, derive) is None, "nothing new, nothing to write"
    assert not history(None)


def test_side_events_stand_after_the_move_they_were_made_at() -> None:
    chain = Chain().through(Transition.FORWARDED, Transition.ASSIGNED, Transition.STARTED).noted("one")
    chain.at += timedelta(minutes=5)
    chain.noted("two").then(Transition.COMPLETED)
    slow_clock = chain.at - timedelta(hours=1)
    chain.received(at=slow_clock, about=5)
    told = [e.note if isinstance(e, ProgressNoted) else e.seq for e in history(whole(chain.events[::-1]))]
    assert told == [1, 2, 3, 4, "one", "two", 5, 5]
    assert history(whole(chain.events[::-1]))[-1] == chain.last, "also by a clock that is slow"


async def test_a_projection_takes_only_its_own_topics() -> None:
    store = MemoryDocuments()
    chain = Chain().through(Transition.FORWARDED)
    contact: dict[str, Any] = {"name": "Siti", "email": None, "phone": None, "language": "id"}
    other = CitizenContact(id=new_id(), occurred_at=now(), citizen_id=chain.reporter_id, version=1, **contact)
    await Projection(store, derive, [Transition.FORWARDED.topic]).apply([*chain.events, other])
    assert store.documents[chain.complaint_id]["order"] == [chain.last.id]
    await Projection(store, derive, [Transition.CLOSED.topic]).apply([*chain.events, other])
    assert list(store.documents) == [chain.complaint_id]


class Counting(MemoryDocuments):
    """Documents that tell which were asked for, and how often."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[set[str]] = []

    @property
    def loads(self) -> int:
        return len(self.asked)

    async def load(self, ids: Collection[str]) -> dict[str, Document]:
        self.asked.append(set(ids))
        return await super().load(ids)


async def test_what_the_caller_has_just_read_is_not_read_again() -> None:
    store = Counting()
    chain = Chain()
    await Projection(store, derive, TAKES).apply(chain.events, {chain.complaint_id: None})
    current = dict(store.documents)
    await Projection(store, derive, TAKES).apply([chain.then(Transition.FORWARDED).last], current)
    assert store.loads == 0
    await Projection(store, derive, TAKES).apply([chain.then(Transition.ASSIGNED).last], current)
    assert store.loads == 1, "it had moved on: read again, and nothing is lost"
    assert store.documents[chain.complaint_id] == whole(chain.events)
    assert all(isinstance(event, ChainEvent) for event in chain.events)


async def test_what_it_has_saved_itself_is_not_read_again() -> None:
    store = Counting()
    mine, other = Projection(store, derive, TAKES), Projection(store, derive, TAKES)
    chain = Chain().then(Transition.FORWARDED)
    await mine.apply([chain.last])
    assert store.loads == 1, "nobody knew that there was none"
    await mine.apply([chain.then(Transition.ASSIGNED).last])
    assert store.loads == 1
    await other.apply([chain.then(Transition.STARTED).last])
    await mine.apply([chain.then(Transition.COMPLETED).last])
    assert store.loads == 3, "another has moved it on since"
    assert store.documents[chain.complaint_id] == whole(chain.events[1:])


async def test_a_complaint_that_begins_is_looked_for_only_where_it_is_there_already() -> None:
    store = Counting()
    early, new, again = Chain().then(Transition.FORWARDED), Chain(), Chain()
    await Projection(store, derive, TAKES).apply([*early.events[1:], *again.events])
    assert store.loads == 1, "for the one whose beginning has not come"
    await Projection(store, derive, TAKES).apply([*new.events, *again.events, early.events[0]])
    assert store.loads == 2, "two of them were there: all are read"
    assert store.documents == {chain.complaint_id: whole(chain.events) for chain in (early, new, again)}
    await Projection(store, derive, TAKES).apply(Chain().events)
    assert store.loads == 2


async def test_what_it_remembers_and_the_database_has_lost_is_written_again() -> None:
    store = MemoryDocuments()
    projection = Projection(store, derive, TAKES)
    chain = Chain()
    await projection.apply(chain.events)
    before = dict(store.documents)
    await projection.apply([chain.then(Transition.FORWARDED).last], {})
    store.documents = before  # a crash of the database takes it back
    await projection.apply([chain.last])
    assert store.documents[chain.complaint_id] == whole(chain.events)
    await projection.apply([chain.then(Transition.ASSIGNED).last], {})
    store.documents = {}
    await projection.apply([chain.then(Transition.STARTED).last])
    await projection.apply(chain.events)
    assert store.documents[chain.complaint_id] == whole(chain.events)


async def test_another_s_document_with_as_many_events_is_not_taken_for_its_own() -> None:
    store = MemoryDocuments()
    mine, other = Projection(store, derive, TAKES), Projection(store, derive, TAKES)
    chain = Chain().through(Transition.FORWARDED, Transition.ASSIGNED, Transition.STARTED)
    await mine.apply(chain.events)
    lost, kept = chain.noted().last, chain.noted().last
    before = dict(store.documents)
    await mine.apply([lost], {})
    store.documents = before
    await other.apply([kept])
    await mine.apply([chain.then(Transition.COMPLETED).last])
    await mine.apply([lost])
    assert {entry["id"] for entry in store.documents[chain.complaint_id]["history"]} == {
        *(event.id for event in chain.events), lost.id, kept.id,
    }  # fmt: skip


class Doubtful(MemoryDocuments):
    """Documents that a crash of the database may still take back."""

    async def kept(self, ids: Collection[str]) -> dict[str, set[str]]:
        return {}


async def test_events_that_are_there_but_not_for_good_are_not_done() -> None:
    """A consumer that commits its offset on them would lose them with the document."""
    chain, store = Chain().then(Transition.FORWARDED), Doubtful()
    projection = Projection(store, derive, TAKES)
    await projection.apply(chain.events)
    with pytest.raises(Unconfirmed):
        await projection.apply(chain.events)
    await projection.apply(chain.events, {})


async def test_nor_if_meanwhile_something_else_has_to_be_written_again() -> None:
    """What is there is confirmed also where another complaint of the batch takes a second look."""
    there, lost, store = Chain().then(Transition.FORWARDED), Chain(), Doubtful()
    await Projection(store, derive, TAKES).apply(there.events)
    projection = Projection(store, derive, TAKES)
    await projection.apply(lost.events)
    del store.documents[lost.complaint_id]
    with pytest.raises(Unconfirmed):
        await projection.apply([there.last, *lost.events])
    assert store.documents[lost.complaint_id] == whole(lost.events)


async def test_of_a_backlog_only_the_part_is_read_again_that_another_has_moved_on() -> None:
    store, many = Counting(), [Chain().then(Transition.FORWARDED) for _ in range(350)]
    projection = Projection(store, derive, TAKES)
    await projection.apply([event for chain in many for event in chain.events])
    await Projection(store, derive, TAKES).apply([many[200].then(Transition.ASSIGNED).last])
    store.asked.clear()
    changed = await projection.apply([chain.noted().last for chain in many])
    (again,) = store.asked
    assert many[200].complaint_id in again
    assert len(again) < 200
    assert len(changed) == len(many)
    assert store.documents == {chain.complaint_id: whole(chain.events) for chain in many}


class Slow(MemoryDocuments):
    """Documents that take their time to be written."""

    async def save(self, documents: Sequence[Change], *, durably: bool = False) -> bool:
        await asyncio.sleep(0.01)
        return await super().save(documents, durably=durably)


async def test_what_a_defect_leaves_out_is_written_before_it_is_told() -> None:
    """Or writes would go on behind the back of who tries the halves of the batch."""
    store, many = Slow(), [Chain() for _ in range(350)]
    defective = many[300].complaint_id

    def fails(events: Sequence[ComplaintEvent]) -> Document:
        if events[0].complaint_id == defective:
            raise ZeroDivisionError
        return derive(events)

    with pytest.raises(ZeroDivisionError):
        await Projection(store, fails, TAKES).apply([event for chain in many for event in chain.events])
    there = set(store.documents)
    await asyncio.sleep(0.05)
    assert there == set(store.documents) == {chain.complaint_id for chain in many[:300]}
