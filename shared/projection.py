"""Projections: documents folded from events.

A document is a function of the *set* of its complaint's events. It keeps them (``history``, sorted along the chain) and
all its other fields are derived from them, so order and repetition cannot matter, and a rebuild from the topics gives
the same document. ``revision`` is the number of events in it: the compare-and-set value of concurrent writers.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from shared.events import ChainEvent, ComplaintEvent, Event, from_document

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


class DocumentStore(Protocol):
    """Where a projection's documents live. The contract suite in ``tests/contract`` says how an implementation
    behaves."""

    async def load(self, ids: Collection[str]) -> dict[str, Document]:
        """The documents that exist among ``ids``."""

    async def save(self, documents: Sequence[tuple[Document, int]]) -> bool:
        """Write each document if the stored one still has the given revision (0: there is none). False if one had moved
        on."""


class Projection:
    """One kind of document of one service: which events it takes, how it derives its fields, and where it is kept."""

    def __init__(self, store: DocumentStore, derive: Derive, takes: Collection[str]) -> None:
        self._store = store
        self._derive = derive
        self._takes = frozenset(takes)

    async def apply(self, events: Iterable[Event], current: Mapping[str, Document | None] | None = None) -> None:
        """Fold ``events`` into their documents, whoever else is writing them.

        ``current`` gives documents that the caller has just read (None: known not to exist), which saves reading them
        again.
        """
        pending: dict[str, list[ComplaintEvent]] = {}
        for event in events:
            if isinstance(event, ComplaintEvent) and event.topic in self._takes:
                pending.setdefault(event.complaint_id, []).append(event)
        known = {key: (current or {})[key] for key in pending if key in (current or {})}
        while pending:
            missing = [key for key in pending if key not in known]
            stored = await self._store.load(missing) if missing else {}
            changes: list[tuple[Document, int]] = []
            for key, fresh in pending.items():
                document = known[key] if key in known else stored.get(key)
                folded = fold(document, fresh, self._derive)
                if folded is not None:
                    changes.append((folded, document["revision"] if document else 0))
            if not changes or await self._store.save(changes):
                return
            known = {}
