"""Stores and a publisher in memory. They pass the same contract suites as those on real servers (``tests/contract``),
so a unit test may stand on them; what they do before answering can be replaced to make them fail or wait."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from shared.events import Event, now
from shared.journal import NO_TRACES, Entry, KeyReused, Taken, Unstorable
from shared.projection import Change, Document

Before = Callable[[], Awaitable[object]]
"""Awaited by a store before it does what it is asked; it may raise."""


async def _nothing() -> None:
    """Let others run, as a call to a server does."""
    await asyncio.sleep(0)


def copied(value: Any) -> Any:
    """A document of its own: dictionaries, lists and tuples anew, the plain values in them as they are."""
    kind = type(value)
    if kind is dict:
        return {name: copied(part) if type(part) in _NESTED else part for name, part in value.items()}
    if kind is list or kind is tuple:
        return kind([copied(part) if type(part) in _NESTED else part for part in value])
    return value


_NESTED = frozenset({dict, list, tuple})


class MemoryJournal:
    """`shared.journal.JournalStore`. ``entries`` is what it holds, by event id; ``inserts`` counts the calls."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.recorded_at: dict[str, datetime] = {}
        self.published: set[str] = set()
        self._by_key: dict[str, Entry] = {}
        self.inserts = 0
        self.before_insert: Before = _nothing
        self.before_mark: Before = _nothing

    async def insert(self, entries: Sequence[Entry]) -> list[Exception | None]:
        self.inserts += 1
        await self.before_insert()
        return [self._insert(entry) for entry in entries]

    def _insert(self, entry: Entry) -> Exception | None:
        try:
            entry.event.model_dump_json()
        except ValueError as error:
            return Unstorable(str(error))
        if entry.event.id in self.entries:
            return Taken(entry.event.id)
        if entry.idempotency:
            if entry.idempotency.key in self._by_key:
                return KeyReused()
            self._by_key[entry.idempotency.key] = entry
        self.entries[entry.event.id] = entry
        self.recorded_at[entry.event.id] = now()
        return None

    def all_entries(self) -> list[Entry]:
        """All that it holds, in the order in which it came."""
        return list(self.entries.values())

    def all_events(self) -> list[Event]:
        """The events of all entries."""
        return [entry.event for entry in self.all_entries()]

    async def find_key(self, key: str) -> tuple[str, Event] | None:
        await _nothing()
        found = self._by_key.get(key)
        return (found.idempotency.request, found.event) if found and found.idempotency else None

    async def unpublished(self, before: datetime, limit: int) -> list[Entry]:
        await _nothing()
        waiting = [i for i in self.entries if i not in self.published and self.recorded_at[i] < before]
        return [self.entries[i] for i in sorted(waiting, key=lambda i: self.recorded_at[i])[:limit]]

    async def count_unpublished(self) -> int:
        await _nothing()
        return len(self.entries.keys() - self.published)

    async def mark(self, ids: Collection[str]) -> None:
        await self.before_mark()
        self.published |= self.entries.keys() & set(ids)


class MemoryDocuments:
    """`shared.projection.DocumentStore`. ``documents`` is what it holds, by ``_id``."""

    def __init__(self) -> None:
        self.documents: dict[str, Document] = {}
        self.before_save: Before = _nothing

    async def load(self, ids: Collection[str]) -> dict[str, Document]:
        await _nothing()
        return {i: copied(self.documents[i]) for i in ids if i in self.documents}

    async def kept(self, ids: Collection[str]) -> dict[str, set[str]]:
        await _nothing()
        found = {i: self.documents[i] for i in ids if i in self.documents}
        return {i: {entry["id"] for entry in document["history"]} for i, document in found.items()}

    async def save(self, documents: Sequence[Change], *, durably: bool = False) -> bool:
        await self.before_save()
        written = 0
        for document, before in documents:
            stored = self.documents.get(document["_id"])
            if (stored and stored["revision"]) == (before and before["revision"]):
                self.documents[document["_id"]] = copied(document)
                written += 1
        return written == len(documents)


class MemoryPublisher:
    """`shared.journal.EventPublisher`. ``topics`` is what was sent, in order, by topic without a namespace; ``traces``
    the trace contexts that went with it, by event id."""

    def __init__(self) -> None:
        self.topics: dict[str, list[Event]] = {}
        self.traces: dict[str, str | None] = {}
        self.before_publish: Before = _nothing
        self.refuses: Callable[[Event], bool] = lambda _: False

    async def publish(self, events: Sequence[Event], traces: Mapping[str, str] = NO_TRACES, /) -> list[str]:
        await self.before_publish()
        sent = [event for event in events if not self.refuses(event)]
        for event in sent:
            self.traces[event.id] = traces.get(event.id)
            self.topics.setdefault(event.topic, []).append(event)
        return [event.id for event in sent]

    def sent(self) -> Mapping[str, int]:
        """How often each event was sent, by its id."""
        counts: dict[str, int] = {}
        for event in (event for events in self.topics.values() for event in events):
            counts[event.id] = counts.get(event.id, 0) + 1
        return counts
