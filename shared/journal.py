"""The journal: truth, lock, outbox and audit trail of a desk in one collection.

Inserting an entry *is* the transition: its ``_id`` is the event's id, so of two writers of the same ``seq`` one loses,
and nothing else needs to be atomic. Around it, in this order: insert; projection, and publishing beside it; answer to
the caller; mark, once both are there for good. Requests that are under way at the same time share each of these (group
commit). What a crash leaves between two of them, the relay does again; consumers take each event once.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import structlog

from shared import telemetry
from shared.events import ChainEvent, Event, now
from shared.projection import Document

log = structlog.get_logger()
T = TypeVar("T")

STUCK_SECONDS = 0.5
"""A batch that takes so long is not waited for: it may have met a connection that does not answer."""
WRITERS = 4
"""Batches under way at most, where they are stuck."""
SEND_REST = 0.01
"""Seconds of rest after sending while little waits: sending one costs nearly what sending fifty does, so what follows
at once goes together; what comes to a desk at rest is sent as it comes."""
MARK_EVERY = 0.1
"""Seconds between marks while few are to be made: well below the relay's patience."""

_PAUSES = (0.0, 0.1, 0.2)
"""Seconds before each look whether an entry's projection is on disk; MongoDB writes its log every 0.1 s, or sooner."""


class Taken(Exception):
    """Another event has this id already: somebody else moved the complaint on first."""


class KeyReused(Exception):
    """The Idempotency-Key was used before, with another request."""


class Unstorable(ValueError):
    """The event holds what no database or topic takes, such as text that is not Unicode; the text says what."""


class Overloaded(Exception):
    """More requests wait for the journal than it may hold, or it has not started; try again after a moment."""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A client's Idempotency-Key: ``key`` is made unique by account and route, ``request`` is the hash of what was
    asked."""

    key: str
    request: str

    @classmethod
    def of(cls, account: str, route: str, key: str, body: bytes) -> "Idempotency":
        """The record for ``key`` as sent by ``account`` to ``route`` (method and path) with ``body``."""
        scope = hashlib.sha256("\n".join((account, route, key)).encode()).hexdigest()
        return cls(scope, hashlib.sha256(body).hexdigest())


@dataclass(frozen=True, slots=True)
class Entry:
    """What one caller wants written. ``current`` is the document it decided by, per complaint (None: there was none);
    ``trace`` the trace context of its request, which goes with the event."""

    event: Event
    idempotency: Idempotency | None = None
    current: Mapping[str, Document | None] = field(default_factory=dict)
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """An event that the journal holds, with its trace context, and whether it came into the documents, once that is
    known."""

    event: Event
    trace: str | None
    projected: "asyncio.Future[bool]"


class JournalStore(Protocol):
    """Where entries live. The contract suite in ``tests/contract`` says how an implementation behaves."""

    async def insert(self, entries: Sequence[Entry]) -> list[Exception | None]:
        """Store each entry durably; per entry None, `Taken`, `KeyReused` where its idempotency key exists, or
        `Unstorable`: one entry's failure is not the others'."""

    async def find_key(self, key: str) -> tuple[str, Event] | None:
        """The request hash and the event stored under an idempotency key."""

    async def unpublished(self, before: datetime, limit: int) -> list[Entry]:
        """Entries recorded before a moment and not marked, oldest first: their events and trace contexts."""

    async def count_unpublished(self) -> int:
        """How many entries are not marked."""

    async def mark(self, ids: Collection[str]) -> None:
        """Mark entries as published."""


NO_TRACES: Mapping[str, str] = MappingProxyType({})


class EventPublisher(Protocol):
    """What brings events to their topics."""

    async def publish(self, events: Sequence[Event], traces: Mapping[str, str] = NO_TRACES, /) -> list[str]:
        """Send each event, with the trace context that ``traces`` has for its id; returns the ids of those that the
        broker has acknowledged. Does not raise."""


class Projecting(Protocol):
    """What takes the journal's events into documents: `shared.projection.Projection`, or a service's own way."""

    async def apply(self, events: Sequence[Event], current: Mapping[str, Document | None] | None = None, /) -> object:
        """Take in ``events``, any of which may come again; ``current`` gives documents that the caller has just
        read."""

    async def kept(self, events: Sequence[Event], /) -> set[str]:
        """The ids of those events that no crash of the database takes out of the documents again."""


class Journal:
    """A desk's journal at work: the writer (group commit), the publisher's queue, and the relay."""

    def __init__(
        self,
        store: JournalStore,
        publisher: EventPublisher,
        projections: Sequence[Projecting],
        *,
        queue: int = 2000,
        batch: int = 500,
        relay_after: timedelta = timedelta(seconds=5),
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._projections = projections
        self._batch = batch
        self._relay_after = relay_after
        self._waiting: asyncio.Queue[tuple[Entry, asyncio.Future[None]]] = asyncio.Queue(queue)
        self._unsent: asyncio.Queue[Written] = asyncio.Queue(queue)
        self._unmarked: asyncio.Queue[Written] = asyncio.Queue()  # no longer than what was sent since the last mark
        self._under_way: set[str] = set()
        """The entries in those two, and in the hands of who works on them: the relay leaves them alone."""
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to write, publish and relay; repeating it does nothing."""
        loops = (self._relay, self._write, self._send, self._mark)
        self._tasks = self._tasks or [asyncio.create_task(loop()) for loop in loops]

    async def stop(self) -> None:
        """Write and publish what is under way, then end. New entries must not come any more."""
        if not self._tasks:
            return
        relay, *workers = self._tasks
        relay.cancel()
        queues: tuple[asyncio.Queue[Any], ...] = (self._waiting, self._unsent, self._unmarked)
        for queue in queues:
            with suppress(TimeoutError):
                async with asyncio.timeout(10):
                    await queue.join()
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def append(
        self, event: Event, idempotency: Idempotency | None = None, current: Mapping[str, Document | None] | None = None
    ) -> Event:
        """Write one event and project it; returns it, or the earlier one that the same request under the same key made.

        Raises `Taken` if its id exists, `KeyReused` if the key was used for another request, `Unstorable`, `Overloaded`
        if too many wait or the journal has not started, and what the database raises where the outcome is unknown: then
        the same request with the same key is safe.
        """
        if not self._tasks:
            raise Overloaded
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            entry = Entry(event, idempotency, current or {}, telemetry.TRACE.get())
            self._waiting.put_nowait((entry, written))
        except asyncio.QueueFull:
            raise Overloaded from None
        try:
            await written
        except (KeyReused, Taken):  # the same request sent twice at once collides in both, and either may be told
            earlier = await self.replay(idempotency)
            if earlier is None:
                raise
            return earlier
        return event

    async def replay(self, idempotency: Idempotency | None) -> Event | None:
        """The event that this request made before, under this key. Raises `KeyReused` if the request was another."""
        found = await self._store.find_key(idempotency.key) if idempotency else None
        if idempotency is None or found is None:
            return None
        request, event = found
        if request != idempotency.request:
            raise KeyReused
        return event

    async def unpublished(self) -> int:
        """How many entries wait to be published, for the metrics."""
        return await self._store.count_unpublished()

    async def _write(self) -> None:
        """One batch at a time: who comes meanwhile waits for its end, and goes with all others who have come."""
        under_way: set[asyncio.Task[None]] = set()
        try:
            while True:
                batch = await _take(self._waiting, self._batch)
                under_way.add(asyncio.create_task(self._write_batch(batch)))
                patience = STUCK_SECONDS if len(under_way) < WRITERS else None
                _, under_way = await asyncio.wait(under_way, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in under_way:
                task.cancel()

    async def _write_batch(self, batch: Sequence[tuple[Entry, asyncio.Future[None]]]) -> None:
        try:
            await self._commit(batch)
        except Exception as error:  # noqa: BLE001 - whatever happened, each caller must hear it
            for _, written in batch:
                if not written.done():
                    written.set_exception(error)
        finally:
            for _ in batch:
                self._waiting.task_done()

    async def _commit(self, batch: Sequence[tuple[Entry, asyncio.Future[None]]]) -> None:
        results = await self._store.insert([entry for entry, _ in batch])
        stored = [entry for (entry, _), failure in zip(batch, results, strict=True) if failure is None]
        current = {key: document for entry in stored for key, document in entry.current.items()}
        projected: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        for entry in stored:
            with suppress(asyncio.QueueFull):  # the relay takes what finds no room
                self._unsent.put_nowait(Written(entry.event, entry.trace, projected))
                self._under_way.add(entry.event.id)
        there = False
        try:
            there = await self._project([entry.event for entry in stored], current)
        finally:
            projected.set_result(there)
        for (_, written), failure in zip(batch, results, strict=True):
            if written.done():
                continue  # the caller has gone; the entry stands
            if failure is None:
                written.set_result(None)
            else:
                written.set_exception(failure)
        moves = Counter(entry.event.transition for entry in stored if isinstance(entry.event, ChainEvent))
        for transition, made in moves.items():
            telemetry.TRANSITIONS.labels(transition.value).inc(made)

    async def _project(self, events: Sequence[Event], current: Mapping[str, Document | None]) -> bool:
        try:
            for projection in self._projections:
                await projection.apply(events, current)
        except Exception:
            # The entries stand, so the callers are told yes; unmarked, they come to the relay, which projects again.
            log.exception("projection failed; the relay repeats it", entries=len(events))
            return False
        return True

    async def _send(self) -> None:
        while True:
            batch = await _take(self._unsent, self._batch)
            sent: set[str] = set()
            try:
                sent = set(await self._publisher.publish([one.event for one in batch], _traces(batch)))
                for one in batch:
                    if one.event.id in sent:
                        self._unmarked.put_nowait(one)
            except Exception:
                log.exception("publishing failed; the relay repeats it", entries=len(batch))
            finally:
                self._under_way -= {one.event.id for one in batch} - sent
                for _ in batch:
                    self._unsent.task_done()
            if self._unsent.qsize() < self._batch:
                await asyncio.sleep(SEND_REST)

    async def _mark(self) -> None:
        """Marks wait for each other a moment: nobody waits for them, and each takes the database's time from those who
        write."""
        while True:
            batch = await _take(self._unmarked, self._batch)
            try:
                # shielded: who waits and is cancelled must not cancel what the writer has to say
                await self._mark_kept([one.event for one in batch if await asyncio.shield(one.projected)])
            except Exception:
                log.exception("marking failed; the relay publishes again", entries=len(batch))
            finally:
                self._under_way -= {one.event.id for one in batch}
                for _ in batch:
                    self._unmarked.task_done()
            if self._unmarked.qsize() < self._batch:
                await asyncio.sleep(MARK_EVERY)

    async def _mark_kept(self, events: Sequence[Event]) -> int:
        """Mark what is projected for good; returns how many. What is not even after some pauses, which the database
        takes to write it down, is left to the relay."""
        left = list(events)
        for pause in _PAUSES:
            await asyncio.sleep(pause)
            kept = {event.id for event in left}
            for projection in self._projections:
                kept &= await projection.kept(left)
            if kept:
                await self._store.mark(kept)
            left = [event for event in left if event.id not in kept]
            if not left:
                break
        return len(events) - len(left)

    async def _relay(self) -> None:
        while True:
            try:
                await self.relay_once()
            except Exception:
                log.exception("relay failed; it tries again")
            await asyncio.sleep(self._relay_after.total_seconds() / 2)

    async def relay_once(self) -> int:
        """Project and publish again what was left unmarked for `relay_after`; returns how many entries were
        published. What this journal is about to publish or to mark is not left: under load it only takes longer."""
        total = 0
        while True:
            under_way = frozenset(self._under_way)
            found = await self._store.unpublished(now() - self._relay_after, self._batch)
            events = [entry.event for entry in found if entry.event.id not in under_way]
            if not events:
                break
            for projection in self._projections:
                await projection.apply(events)
            sent = set(await self._publisher.publish(events, _traces(found)))
            marked = await self._mark_kept([event for event in events if event.id in sent])
            total += marked
            if marked < len(found):
                break
        if total:
            log.info("relay published what was left", entries=total)
        return total


def _traces(issued: Iterable[Entry | Written]) -> dict[str, str]:
    """The trace contexts of those that have one, by event id."""
    return {one.event.id: one.trace for one in issued if one.trace}


async def _take(queue: asyncio.Queue[T], limit: int) -> list[T]:
    """All that waits in a queue, at least one and at most ``limit``."""
    items = [await queue.get()]
    while len(items) < limit and not queue.empty():
        items.append(queue.get_nowait())
    return items
