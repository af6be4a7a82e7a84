"""Brings records to Kafka: the journal's events, and dead letters.

Plain ``acks="all"`` without the idempotent producer, which can stick after an expired batch (aiokafka issue 1017);
consumers take each event once. Every wait is bounded, and after a failed send the producer is made anew.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from shared.events import Event, Headers, headers_of

log = structlog.get_logger()

Record = tuple[str, bytes | None, bytes | None, Headers]
"""Topic (full name), key, value, headers."""

MAX_RECORD_BYTES = 2**21
"""More than the brokers' limit for events (1 MiB), so that the dead letter of the largest, with its reason, fits."""
_CLOSING_SECONDS = 5.0


class Publisher:
    """Sends to one cluster on behalf of one service (``source`` in the CloudEvents attributes)."""

    def __init__(self, bootstrap: str, topic_prefix: str, source: str, wait_seconds: float = 10.0) -> None:
        self._bootstrap = bootstrap
        self._prefix = topic_prefix
        self._source = source
        self._wait = wait_seconds
        self._producer: AIOKafkaProducer | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()

    async def publish(self, events: Sequence[Event]) -> list[str]:
        """Send events to their topics; returns the ids that the brokers have acknowledged. Does not raise."""
        records: list[Record] = [
            (self._prefix + e.topic, e.key.encode(), e.model_dump_json().encode(), headers_of(e, self._source))
            for e in events
        ]
        outcome = await self.send(records)
        return [event.id for event, sent in zip(events, outcome, strict=True) if sent]

    async def send(self, records: Sequence[Record]) -> list[bool]:
        """Send records; per record whether it was acknowledged within the wait. Does not raise."""
        acknowledged: list[bool] = [False] * len(records)
        producer: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(self._wait):
                producer = await self._ready()
                waits = [await _begin(producer, record) for record in records]
                outcome = await asyncio.gather(*waits, return_exceptions=True)
            acknowledged = [not isinstance(result, BaseException) for result in outcome]
            reasons = {repr(result) for result in outcome if isinstance(result, BaseException)}
            if reasons:
                log.warning("records were not sent", reason=sorted(reasons), records=acknowledged.count(False))
        except (KafkaError, TimeoutError, OSError) as error:
            log.warning("records were not sent", reason=repr(error), records=len(records))
        if not all(acknowledged) and producer is not None:
            self._discard(producer)
        return acknowledged

    async def _ready(self) -> AIOKafkaProducer:
        async with self._lock:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap,
                    acks="all",
                    request_timeout_ms=int(self._wait * 1000),
                    max_request_size=MAX_RECORD_BYTES,
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    def _discard(self, producer: AIOKafkaProducer) -> None:
        """Use another from now on. To stop this one may wait until its records have expired; nobody waits for that."""
        if self._producer is producer:
            self._producer = None
        closing = asyncio.create_task(_close(producer))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def stop(self) -> None:
        """Close the connection."""
        if self._producer is not None:
            self._discard(self._producer)
        if self._closing:
            _, late = await asyncio.wait(self._closing, timeout=_CLOSING_SECONDS)
            for task in late:
                task.cancel()


async def _begin(producer: AIOKafkaProducer, record: Record) -> asyncio.Future[Any]:
    """Hand one record to the producer; the future is its acknowledgement. One that is too large fails by itself."""
    topic, key, value, headers = record
    try:
        acknowledgement: asyncio.Future[Any] = await producer.send(topic, value, key, headers=list(headers))
    except MessageSizeTooLargeError as error:
        acknowledgement = asyncio.get_running_loop().create_future()
        acknowledgement.set_exception(error)
    return acknowledgement


async def _close(producer: AIOKafkaProducer) -> None:
    try:
        await producer.stop()
    except (KafkaError, OSError) as error:
        log.warning("a producer did not stop", reason=repr(error))
