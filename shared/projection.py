"""Projections: documents folded from events.

A document is a function of the *set* of its complaint's events. It keeps them (``history``, sorted along the chain) and
all its other fields are derived from them, so order and repetition cannot matter, and a rebuild from the topics gives
the same document. ``revision`` names that set: the compare-and-set value of concurrent writers.
"""

import asyncio
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cachetools import LRUCache

from shared.events import (
    ChainEvent,
    ComplaintEvent,
    Event,
    NotificationDelivered,
    Submitted,
    from_document,
    is_receipt,
)
from shared.pieces import pieces, side_by_side

_PAUSES = (0, 0.02, 0.05, 0.1, 0.2)
"""Seconds before each look whether another writer's documents are on disk."""

REMEMBERED = 1000
"""Documents that each projection remembers as it saved them last: what happened to a complaint just now is what the
next event is about, and need not be read and decoded again."""
_FEW = 10
"""Complaints for which a round trip to the database weighs more than a wrong guess."""

Document = dict[str, Any]
Derive = Callable[[Sequence[ComplaintEvent]], Document]
Change = tuple[Document, Document | None]
"""A document as it is to be, and as it was read (None: there is none yet)."""


def chain_order(event: ComplaintEvent) -> tuple[int, bool, Any, str]:
    """Sort key: along the chain; side events after the chain event they were made at, by time."""
    return (event.seq, not isinstance(event, ChainEvent), event.occurred_at, event.id)


@dataclass(frozen=True, slots=True)
class Folded:
    """A document and the events in it, each with the entry that it is kept in."""

    document: Document
    told: Sequence[tuple[ComplaintEvent, Document]]

    @classmethod
    def of(cls, document: Document) -> "Folded":
        """A document as it was read, its events decoded."""
        return cls(document, list(zip(history(document), document["history"], strict=True)))

    @classmethod
    def with_events(cls, known: "Folded | None", events: Iterable[ComplaintEvent], derive: Derive) -> "Folded | None":
        """``known`` with ``events`` in it, or None if it has them all already. All events are of one complaint."""
        there = {event.id for event, _ in known.told} if known else set()
        fresh = {event.id: event for event in events if event.id not in there}
        if not fresh:
            return None
        entries = ((event, {"topic": event.topic, **event.stored}) for event in fresh.values())
        told = sorted([*(known.told if known else ()), *entries], key=lambda one: chain_order(one[0]))
        document = {
            **derive([event for event, _ in told]),
            "_id": told[0][0].complaint_id,
            "revision": revision(event.id for event, _ in told),
            "history": [entry for _, entry in told],
        }
        return cls(document, told)


def revision(ids: Iterable[str]) -> int:
    """What tells one set of events from another: 63 bits of a hash."""
    digest = hashlib.blake2b("\n".join(sorted(ids)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


DECODED: LRUCache[tuple[str, int], Sequence[ComplaintEvent]] = LRUCache(2 * REMEMBERED)
"""The events of documents that were read, by id and revision: to decode them costs more than to read them, a request
does it several times, and the same revision holds the same events."""


def history(document: Document | None) -> Sequence[ComplaintEvent]:
    """The events that a document was folded from, in order. They are everybody's: do not change the list."""
    if document is None:
        return ()
    name = (document["_id"], document["revision"])
    events = DECODED.get(name)
    if events is None:
        decoded = (from_document(entry["topic"], entry) for entry in document["history"])
        events = DECODED[name] = tuple(event for event in decoded if isinstance(event, ComplaintEvent))
    return events


def fold(document: Document | None, events: Iterable[ComplaintEvent], derive: Derive) -> Document | None:
    """The document with ``events`` in it, or None if it has them all already. All events are of one complaint."""
    folded = Folded.with_events(Folded.of(document) if document else None, events, derive)
    return folded.document if folded else None


def concerns(event: Event, topics: Collection[str]) -> bool:
    """Whether a projection of these topics takes the event. Of the notices that were delivered it takes the receipt,
    which has a clock (SOP step 1). Until December 2026 the others were told as well, and may still be on the topic;
    they say nothing that a desk or the citizen's own page shows."""
    if not isinstance(event, ComplaintEvent) or event.topic not in topics:
        return False
    return not isinstance(event, NotificationDelivered) or is_receipt(event)


class Unconfirmed(TimeoutError):
    """Another writer's documents hold the events, and may still lose them; ask again after a moment."""


class DocumentStore(Protocol):
    """Where a projection's documents live. The contract suite in ``tests/contract`` says how an implementation
    behaves."""

    async def load(self, ids: Collection[str]) -> dict[str, Document]:
        """The documents that exist among ``ids``."""

    async def save(self, documents: Sequence[Change], *, durably: bool = False) -> bool:
        """Write each document if the stored one still is the one that it was made from. False if one had moved on.
        Unless it is done ``durably``, a crash of the database can take it back."""

    async def kept(self, ids: Collection[str]) -> dict[str, set[str]]:
        """Of the documents that exist among ``ids``, the events in them that no crash of the database takes back."""


class Projection:
    """One kind of document of one service: which events it takes, how it derives its fields, and where it is kept.

    ``at_a_time`` documents are folded and written at once; while the database takes them, the next are folded."""

    def __init__(self, store: DocumentStore, derive: Derive, takes: Collection[str], *, at_a_time: int = 100) -> None:
        self._store = store
        self._derive = derive
        self._takes = frozenset(takes)
        self._at_a_time = at_a_time
        self._recent: LRUCache[str, Folded] = LRUCache(REMEMBERED)

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
            if isinstance(event, ComplaintEvent) and concerns(event, self._takes):
                pending.setdefault(event.complaint_id, []).append(event)
        guessed = self._guesses(pending, current or {})
        there: list[ComplaintEvent] = []
        changed: dict[str, Document] = {}
        while pending:
            pending = await self._round(pending, guessed, durable, changed, there)
            guessed = {}
        await self._confirm(there)
        return list(changed.values())

    async def _round(
        self,
        pending: Mapping[str, list[ComplaintEvent]],
        guessed: Mapping[str, Folded | None],
        durable: bool,
        changed: dict[str, Document],
        there: list[ComplaintEvent],
    ) -> dict[str, list[ComplaintEvent]]:
        """Fold and save what is pending once; returns what has to be done again, by what is stored then. ``changed``
        gets the documents, ``there`` the events that were in theirs before."""
        missing = [key for key in pending if key not in guessed]
        read = await self._store.load(missing) if missing else {}
        again: dict[str, list[ComplaintEvent]] = {}

        async def take(keys: Sequence[str]) -> None:
            changes: list[tuple[Folded, Folded | None]] = []
            for key in keys:
                known = guessed[key] if key in guessed else Folded.of(read[key]) if key in read else None
                folded = Folded.with_events(known, pending[key], self._derive)
                if folded is not None:
                    changes.append((folded, known))
                elif durable and key in guessed:
                    again[key] = pending[key]  # memory may know of what the database has lost: it is asked
                elif durable:
                    there.extend(pending[key])
            documents = {folded.document["_id"]: folded.document for folded, _ in changes}
            changed.update(documents)
            if changes and not await self._save(changes, durable):
                again.update((key, pending[key]) for key in documents)

        await side_by_side(take, pieces(pending, self._at_a_time))
        return again

    def _guesses(
        self, pending: Mapping[str, Sequence[ComplaintEvent]], current: Mapping[str, Document | None]
    ) -> Mapping[str, Folded | None]:
        """What is likely to be stored of each complaint, where there is a notion. A wrong one is found out on saving.

        One that begins just now has nothing stored, most likely. Of many, some will have: then all are read and folded
        again, while to read them at once would have cost each next to nothing."""
        guessed: dict[str, Folded | None] = {}
        few = len(pending) <= _FEW
        for key, events in pending.items():
            if key in self._recent:
                guessed[key] = self._recent[key]
            elif key in current:
                document = current[key]
                guessed[key] = Folded.of(document) if document else None
            elif few and any(isinstance(event, Submitted) for event in events):
                guessed[key] = None
        return guessed

    async def _save(self, changes: Sequence[tuple[Folded, Folded | None]], durably: bool) -> bool:
        for folded, _ in changes:  # until it is known what is stored now
            self._recent.pop(folded.document["_id"], None)
        saved = await self._store.save(
            [(folded.document, known.document if known else None) for folded, known in changes], durably=durably
        )
        if saved:
            for folded, _ in changes:
                self._recent[folded.document["_id"]] = folded
        return saved

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
            if isinstance(event, ComplaintEvent) and concerns(event, self._takes)
        }
        held = await self._store.kept(set(taken.values())) if taken else {}
        return {e.id for e in wanted if e.id not in taken or e.id in held.get(taken[e.id], ())}
