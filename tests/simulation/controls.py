"""Controls: the same simulation with one promise broken. The checker must see each, or its silence means nothing."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from shared.events import ComplaintEvent, Event
from shared.journal import NO_TRACES, Entry, Idempotency, Journal
from shared.projection import Change, Derive, Document, Projection, history, revision
from tests.simulation.processes import Plan
from tests.support.memory import MemoryDocuments, MemoryJournal, copied
from tests.support.memory_broker import BrokerPublisher, MemoryConsumer
from tests.support.memory_notify import MemoryDeliveries, MemoryInbox


class _NoRelay(Journal):
    async def relay_once(self) -> int:
        return 0


class _Trusting(BrokerPublisher):
    """What was sent is taken for acknowledged."""

    async def publish(self, events: Sequence[Event], traces: Mapping[str, str] = NO_TRACES, /) -> list[str]:
        await super().publish(events, traces)
        return [event.id for event in events]


class _AnsweredUnwritten(Journal):
    async def append(
        self, event: Event, idempotency: Idempotency | None = None, current: Mapping[str, Document | None] | None = None
    ) -> Event:
        writing = asyncio.ensure_future(super().append(event, idempotency, current))
        writing.add_done_callback(lambda done: done.cancelled() or done.exception())
        return event


class _Unchecked(MemoryJournal):
    """Entries may share an id."""

    def __init__(self) -> None:
        super().__init__()
        self._others: list[Entry] = []

    def _insert(self, entry: Entry) -> Exception | None:
        if entry.event.id in self.entries:
            self._others.append(entry)
            return None
        return super()._insert(entry)

    def all_entries(self) -> list[Entry]:
        return [*super().all_entries(), *self._others]


class _Keyless(MemoryJournal):
    """Idempotency keys are not looked at."""

    def _insert(self, entry: Entry) -> Exception | None:
        self._by_key.clear()
        return super()._insert(entry)


class _Careless(MemoryConsumer):
    """At most once: the offsets are committed first."""

    async def turn(self, member: Any) -> None:
        records = await member.fetch(self._limit, self._order)
        await member.commit(records)
        await self._receiver.take(records)


class _Hasty(MemoryConsumer):
    """What fails is skipped."""

    async def turn(self, member: Any) -> None:
        records = await member.fetch(self._limit, self._order)
        try:
            async with asyncio.timeout(0.05):
                await self._receiver.take(records)
        except TimeoutError:
            pass
        await member.commit(records)


class _Forgetful(MemoryConsumer):
    """What cannot be used is dropped."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)

        async def dropped(bad: object) -> None:
            return None

        self._receiver._put_aside = dropped  # type: ignore[method-assign]


def _kept(derive: Derive, events: Sequence[ComplaintEvent]) -> Document:
    """A complaint's document with exactly these events in this order, repeated or not."""
    return {
        **derive(events),
        "_id": events[0].complaint_id,
        "revision": revision(event.id for event in events),
        "history": [{"topic": event.topic, **event.model_dump()} for event in events],
    }


class _Counting(Projection):
    """Events are not told apart: one that comes again is folded in again."""

    async def apply(
        self, events: Iterable[Event], current: Mapping[str, Document | None] | None = None
    ) -> list[Document]:
        for event in events:
            while isinstance(event, ComplaintEvent) and event.topic in self._takes:
                document = (await self._store.load([event.complaint_id])).get(event.complaint_id)
                merged = sorted([*history(document), event], key=lambda e: e.seq)
                if await self._store.save([(_kept(self._derive, merged), document)]):
                    break
        return []


class _Unordered(Projection):
    """Events are kept in the order in which they arrive."""

    async def apply(
        self, events: Iterable[Event], current: Mapping[str, Document | None] | None = None
    ) -> list[Document]:
        for event in events:
            while isinstance(event, ComplaintEvent) and event.topic in self._takes:
                document = (await self._store.load([event.complaint_id])).get(event.complaint_id)
                known = history(document)
                if event.id in {e.id for e in known}:
                    break
                merged = [*known, event]
                if await self._store.save([(_kept(self._derive, merged), document)]):
                    break
        return []


class _Overwritten(MemoryDocuments):
    """The last writer wins, whatever it has read."""

    async def save(self, documents: Sequence[Change], *, durably: bool = False) -> bool:
        await self.before_save()
        for document, _ in documents:
            self.documents[document["_id"]] = copied(document)
        return True


class _Repeating(MemoryInbox):
    def _is_new(self, entry_id: str) -> bool:
        return True


class _Unleased(MemoryDeliveries):
    """A delivery that is being sent can be taken once more meanwhile."""

    async def lease(self, limit: int, at: datetime, until: datetime) -> tuple[list[Document], int]:
        taken, repeated = await super().lease(limit, at, at)
        return [{**delivery, "due_at": until} for delivery in taken], repeated


def _plan(**parts: Any) -> Plan:
    plan = Plan()
    for name, part in parts.items():
        setattr(plan, name, part)
    return plan


CONTROLS: dict[str, tuple[Plan, frozenset[str]]] = {
    "relay-off": (_plan(journal=_NoRelay), frozenset({"P0", "P3"})),
    "marked-before-acknowledged": (_plan(publisher=_Trusting), frozenset({"P3"})),
    "answered-before-written": (_plan(journal=_AnsweredUnwritten), frozenset({"P1"})),
    "journal-ids-not-unique": (_plan(journal_store=_Unchecked), frozenset({"P2"})),
    "idempotency-keys-not-unique": (_plan(journal_store=_Keyless), frozenset({"P7"})),
    "at-most-once": (_plan(consumer=_Careless), frozenset({"P4", "P5"})),
    "failures-skipped": (_plan(consumer=_Hasty), frozenset({"P4", "P8"})),
    "dead-letters-dropped": (_plan(consumer=_Forgetful), frozenset({"P6"})),
    "fold-without-deduplication": (_plan(projection=_Counting), frozenset({"P4"})),
    "fold-in-order-of-arrival": (_plan(projection=_Unordered), frozenset({"P4"})),
    "last-writer-wins": (_plan(documents=_Overwritten), frozenset({"P4"})),
    "inbox-keys-not-unique": (_plan(inbox=_Repeating), frozenset({"P5"})),
    "deliveries-not-leased": (_plan(deliveries=_Unleased), frozenset({"P5"})),
}
"""Each control, and the properties whose violation it must bring about."""
