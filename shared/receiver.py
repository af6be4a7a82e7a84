"""What happens to a batch of records from the topics: at least once, a bad record put aside without holding up the
rest.

Each record is decoded by itself. What is transient (database or broker away) is waited for and is never a dead letter;
what cannot be used goes to ``<group>.dlq`` with its reason. Where the records come from, and when their offsets are
committed, is for the caller (`shared.consumer`).
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Protocol

import structlog
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from shared import telemetry
from shared.events import RESTRICTED, Event, now
from shared.journal import Overloaded
from shared.publisher import Record
from shared.records import Malformed, from_record, trace_of
from shared.storage import TRANSIENT, refusal
from shared.topics import dead_letters

log = structlog.get_logger()

Handle = Callable[[Sequence[Event]], Awaitable[object]]
"""Takes the valid events of a batch, any of which may come again."""

_PASSES = (*TRANSIENT, TimeoutError, KafkaError, Overloaded)
"""What is waited for, and never makes a dead letter."""
_AT_A_TIME = 200
"""Records decoded between two turns of the event loop."""
WITHHELD = "withheld: the record holds personal data; it is where it came from"
"""The reason of a dead letter from a restricted topic, of which nothing is copied: the true one may quote it."""
ATTEMPTS = 5
"""How often an event may fail before it is a dead letter."""
_PATIENCE = timedelta(seconds=60)
"""How long one batch may wait for what is away, before it is given back to come again: well below the poll interval."""
_HANDLER = timedelta(seconds=20)


class DeadLettersUnavailable(TimeoutError):
    """A dead letter was not acknowledged, so the batch must come again."""


class Denied(TimeoutError):
    """The database refuses this service: an operator must see to it, and until then the records wait."""


class RecordSender(Protocol):
    """What brings dead letters to their topic: `shared.publisher.Publisher`."""

    async def send(self, records: Sequence[Record]) -> list[bool]:
        """Send records; per record whether it was acknowledged. Does not raise."""


class Receiver:
    """One consumer group's way with records. ``moved`` is called when a batch is done and while one waits for what is
    away, since neither is a stall; it is told which (True: done)."""

    def __init__(
        self, group: str, topic_prefix: str, handle: Handle, sender: RecordSender, moved: Callable[[bool], None]
    ) -> None:
        self._group = group
        self._prefix = topic_prefix
        self._handle = handle
        self._sender = sender
        self._moved = moved

    async def take(self, records: Sequence[ConsumerRecord]) -> None:
        """Apply what can be applied and put aside the rest. When it returns, the records' offsets can be committed;
        raises what was away for a minute, or `DeadLettersUnavailable`: then they must come again."""
        started = asyncio.get_running_loop().time()
        events: list[tuple[Event, ConsumerRecord]] = []
        bad: list[tuple[ConsumerRecord, str]] = []
        for number, record in enumerate(records, 1):
            if number % _AT_A_TIME == 0:
                await asyncio.sleep(0)  # a backlog must not keep the service from answering
            try:
                event = from_record(self._short(record.topic), record.key, record.value, record.headers)
            except Malformed as reason:
                bad.append((record, str(reason)))
            except Exception as error:  # noqa: BLE001 - whatever a record does to the decoder, it holds up nobody
                about = {"topic": record.topic, "offset": record.offset, "trace_id": trace_of(record.headers)}
                self._log("a record broke the decoder", error, [record], **about)
                bad.append((record, repr(error)))
            else:
                events.append((event, record))
        bad += await self._apply(events)
        await self._put_aside(bad)
        for topic, taken in Counter(record.topic for record in records).items():
            telemetry.CONSUMED.labels(self._short(topic)).inc(taken)
        telemetry.CONSUMER_BATCH.observe(asyncio.get_running_loop().time() - started)
        self._moved(True)

    def _short(self, topic: str) -> str:
        return topic.removeprefix(self._prefix)

    def _restricted(self, record: ConsumerRecord) -> bool:
        """Whether it holds personal data, so that nothing of it may be copied or quoted."""
        return self._short(record.topic) in RESTRICTED

    def _log(self, what: str, error: Exception, about: Sequence[ConsumerRecord], **more: object) -> None:
        """Log an error, whole unless its words may quote what is restricted."""
        if any(self._restricted(record) for record in about):
            log.error(what, kind=type(error).__name__, **more)
        else:
            log.error(what, exc_info=error, **more)

    async def _apply(self, events: Sequence[tuple[Event, ConsumerRecord]]) -> list[tuple[ConsumerRecord, str]]:
        """Hand over the batch, or, if that fails for good, its halves, and theirs; returns what cannot be applied."""
        if len(events) < 2:
            return [failed for event, record in events for failed in await self._apply_one(event, record)]
        try:
            await self._patiently([event for event, _ in events])
        except _PASSES:
            raise
        except Exception as error:  # noqa: BLE001 - logged by `_log`
            records = [record for _, record in events]
            self._log("a batch failed; its halves are tried", error, records, events=len(events))
        else:
            return []
        middle = len(events) // 2
        return [*await self._apply(events[:middle]), *await self._apply(events[middle:])]

    async def _apply_one(self, event: Event, record: ConsumerRecord) -> list[tuple[ConsumerRecord, str]]:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._patiently([event])
                break
            except _PASSES:
                raise
            except Exception as error:  # noqa: BLE001 - logged by `_log`
                about = {"event_id": event.id, "attempt": attempt, "trace_id": trace_of(record.headers)}
                self._log("an event failed", error, [record], **about)
                if attempt == ATTEMPTS:
                    return [(record, f"{type(error).__name__}: {error}")]
        return []

    async def _patiently(self, events: Sequence[Event]) -> None:
        """Hand over, waiting for what is away. Raises it after a minute: then the records come again."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE.total_seconds()
        pause = 0.1
        while True:
            try:
                async with asyncio.timeout(_HANDLER.total_seconds()):
                    await self._handle(events)
                return
            except Exception as error:
                denied = refusal(error)
                if not denied and not isinstance(error, _PASSES):
                    raise
                log.warning("waiting to apply events", reason=denied or repr(error), events=len(events))
                self._moved(False)
                if loop.time() + pause > deadline:
                    if denied:
                        raise Denied(denied) from error
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5)

    async def _put_aside(self, bad: Sequence[tuple[ConsumerRecord, str]]) -> None:
        if not bad:
            return
        topic = dead_letters(self._group)
        bad = [(r, WITHHELD if self._restricted(r) else reason) for r, reason in bad]
        letters: list[Record] = [
            (topic, None, b"", _origin(r, reason))
            if self._restricted(r)
            else (topic, r.key, _sendable(r), dead_letter_headers(r, reason))
            for r, reason in bad
        ]
        if not all(await self._sender.send(letters)):
            raise DeadLettersUnavailable
        for record, reason in bad:
            log.error(
                "dead letter",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                reason=reason,
                trace_id=trace_of(record.headers),
            )
            telemetry.DEAD_LETTERS.labels(self._short(record.topic)).inc()


def _sendable(record: ConsumerRecord) -> bytes | None:
    """The record's value; the producer takes no record that has neither a key nor a value."""
    value: bytes | None = record.value
    return b"" if record.key is None and value is None else value


def dead_letter_headers(record: ConsumerRecord, reason: str) -> list[tuple[str, bytes]]:
    """The record's own headers, and where it came from and why it was put aside (``dlq_*``)."""
    own = [(name, value) for name, value in record.headers if not name.startswith("dlq_")]
    return [*own, *_origin(record, reason)]


def _origin(record: ConsumerRecord, reason: str) -> list[tuple[str, bytes]]:
    origin = {
        "dlq_topic": record.topic,
        "dlq_partition": str(record.partition),
        "dlq_offset": str(record.offset),
        "dlq_reason": reason[:1000],
        "dlq_at": now().isoformat(),
    }
    return [(name, value.encode()) for name, value in origin.items()]
