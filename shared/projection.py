"""Projections: documents folded from events.

A document is a function of the *set* of its complaint's events. It keeps them (``history``, sorted along the chain) and
all its other fields are derived from them, so order and repetition cannot matter, and a rebuild from the topics gives
the same document. ``revision`` is the number of events in it: the compare-and-set value of concurrent writers.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from shared.events import ChainEvent, ComplaintEvent, Event, from_document

_PAUSES = (0, 0.02, 0.05, 0.1, 0.2)
"""Seconds before each look whether another writer's documents are on disk."""

_AT_A_TIME = 50
"""Documents folded between two turns of the event loop."""

Document = dict[str, Any]
Derive = Callable[[Sequence[ComplaintEvent]], Document]


def chain_order(event: ComplaintEvent) -> tuple[int, bool, Any, str]:
    """Sort key: along the chain; side events after the chain event they were made at, by time."""
    return (event.seq, not isinstance(event, ChainEvent), event.occurred_at, event.id)


def history(document: Document | None) -> list[ComplaintEvent]:
    """The events that a document was folded from, in order."""
    return [event for event, _ in _told(document)]


def _told(document: Document | None) -> list[tuple[ComplaintEvent, Document]]:
    """The events of a document, each with the entry that it is kept in."""
    if document is None:
        return []
    events = ((from_document(entry["topic"], entry), entry) for entry in document["history"])
    return [(event, entry) for event, entry in events if isinstance(event, ComplaintEvent)]


def fold(document: Document | None, events: Iterable[ComplaintEvent], derive: Derive) -> Document | None:
    """The document with ``events`` in it, or None if it has them all already. All events are of one complaint."""
    known = {entry["id"] for entry in document["history"]} if document else set()
    fresh = {event.id: event for event in events if event.id not in known}
    if not fresh:
        return None
    entries = ((event, {"topic": event.topic, **event.model_dump()}) for event in fresh.values())
    merged = sorted([*_told(document), *entries], key=lambda told: chain_order(told[0]))
    return {
        **derive([event for event, _ in merged]),
        "_id": merged[0][0].complaint_id,
        "revision": len(merged),
        "history": [entry for _, entry in merged],
    }


class Unconfirmed(TimeoutError):
    """Another writer's documents hold the events, and may still lose them; ask again after a moment."""


class DocumentStore(Protocol):
    """Where a projection's documents live. The contract suite in ``tests/contract`` says how an implementation
    behaves."""

    async def load(self, ids: Collection[str]) -> dict[str, Document]:
        """The documents that exist among ``ids``."""

    async def save(self, documents: Sequence[tuple[Document, int]], *, durably: bool = False) -> bool:
        """Write each document if the stored one still has the given revision (0: there is none). False if one had moved
        on. Unless it is done ``durably``, a crash of the database can take it back."""

    async def kept(self, ids: Collection[str]) -> dict[str, set[str]]:
        """Of the documents that exist among ``ids``, the events in them that no crash of the database takes back."""


class Projection:
    """One kind of document of one service: which events it takes, how it derives its fields, and where it is kept."""

    def __init__(self, store: DocumentStore, derive: Derive, takes: Collection[str]) -> None:
        self._store = store
        self._derive = derive
        self._takes = frozenset(takes)

    async def apply(
        self, events: Iterable[Event], current: Mapping[str, Document | None] | None = None
    ) -> list[Document]:
        """Fold ``events`` into their documents, whoever else is writing them; returns the documents that changed.

        ``current`` gives documents that the caller has just read (None: known not to exist), which saves reading them
        again. Without it, nobody waits for the answer, and it is done durably: the caller forgets the events after it.
        Raises `Unconfirmed`.
        """
        durable = current is None
        pending: dict[str, list[ComplaintEvent]] = {}
        for event in events:
            if isinstance(event, ComplaintEvent) and event.topic in self._takes:
                pending.setdefault(event.complaint_id, []).append(event)
        known = {key: (current or {})[key] for key in pending if key in (current or {})}
        there: list[ComplaintEvent] = []
        changed: dict[str, Document] = {}
        while pending:
            missing = [key for key in pending if key not in known]
            stored = await self._store.load(missing) if missing else {}
            changes: list[tuple[Document, int]] = []
            there = []
            for number, (key, fresh) in enumerate(pending.items(), 1):
                if number % _AT_A_TIME == 0:
                    await asyncio.sleep(0)  # a backlog must not keep the service from answering
                document = known[key] if key in known else stored.get(key)
                folded = fold(document, fresh, self._derive)
                if folded is not None:
                    changes.append((folded, document["revision"] if document else 0))
                elif durable:
                    there += fresh
            changed |= {document["_id"]: document for document, _ in changes}
            if not changes or await self._store.save(changes, durably=durable):
                break
            known = {}
        await self._confirm(there)
        return list(changed.values())

    async def _confirm(self, events: Sequence[ComplaintEvent]) -> None:
        """Wait until what others have written is there for good: they may not have been told so yet."""
        for pause in _PAUSES if events else ():
            await asyncio.sleep(pause)
            if len(await self.kept(events)) == len({event.id for event in events}):
                return
        if events:
            raise Unconfirmed

    async def kept(self, events: Iterable[Event]) -> set[str]:
        """The ids of those events that are in their documents for good, and of those that it does not take."""
        wanted = list(events)
        taken = {
            event.id: event.complaint_id
            for event in wanted
            if isinstance(event, ComplaintEvent) and event.topic in self._takes
        }
        held = await self._store.kept(set(taken.values())) if taken else {}
        return {e.id for e in wanted if e.id not in taken or e.id in held.get(taken[e.id], ())}
