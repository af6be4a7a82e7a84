"""Brings records to Kafka: the journal's events, and dead letters.

Plain ``acks="all"`` without the idempotent producer, which can stick after an expired batch (aiokafka issue 1017);
consumers take each event once. Every wait is bounded, and after a failed send the producer is made anew.
"""

import asyncio
from collections.abc import Sequence

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from shared.events import Event, Headers, headers_of

log = structlog.get_logger()

Record = tuple[str, bytes | None, bytes | None, Headers]
"""Topic (full name), key, value, headers."""


class Publisher:
    """Sends to one cluster on behalf of one service (``source`` in the CloudEvents attributes)."""

    def __init__(self, bootstrap: str, topic_prefix: str, source: str, wait_seconds: float = 10.0) -> None:
        self._bootstrap = bootstrap
        self._prefix = topic_prefix
        self._source = source
        self._wait = wait_seconds
        self._producer: AIOKafkaProducer | None = None
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
                waits = [await producer.send(topic, value, key, headers=list(h)) for topic, key, value, h in records]
                outcome = await asyncio.gather(*waits, return_exceptions=True)
            acknowledged = [not isinstance(result, BaseException) for result in outcome]
        except (KafkaError, TimeoutError, OSError) as error:
            log.warning("records were not sent", reason=repr(error), records=len(records))
        if not all(acknowledged) and producer is not None:
            await self._discard(producer)
        return acknowledged

    async def _ready(self) -> AIOKafkaProducer:
        async with self._lock:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap, acks="all", request_timeout_ms=int(self._wait * 1000)
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    async def _discard(self, producer: AIOKafkaProducer) -> None:
        if self._producer is producer:
            self._producer = None
        try:
            async with asyncio.timeout(2):
                await producer.stop()
        except (KafkaError, TimeoutError, OSError) as error:
            log.warning("a producer did not stop", reason=repr(error))

    async def stop(self) -> None:
        """Close the connection."""
        if self._producer is not None:
            await self._discard(self._producer)
