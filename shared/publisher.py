"""Brings records to Kafka: the journal's events, and dead letters.

Plain ``acks="all"`` without the idempotent producer, which can stick after an expired batch (aiokafka issue 1017);
consumers take each event once. Every wait is bounded, and after a failed send the producer is made anew.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from shared.agency_feed import no_copies
from shared.events import Event
from shared.journal import NO_TRACES
from shared.records import Headers, headers_of, value_of

log = structlog.get_logger()

Record = tuple[str, bytes | None, bytes | None, Headers]
"""Topic (full name), key, value, headers."""

Copies = Callable[[Event], Sequence[tuple[str, Event]]]
"""What an event is published as besides itself, each with its topic: `shared.agency_feed.copies`."""

MAX_RECORD_BYTES = 2**21
"""More than the brokers' limit for events (1 MiB), so that the dead letter of the largest, with its reason, fits."""
_CLOSING_SECONDS = 5.0
_TOPIC_SECONDS = 2.0
"""How long the records of one topic may wait until the brokers say that it is there."""


class Publisher:
    """Sends to one cluster on behalf of one service (``source`` in the CloudEvents attributes).

    ``security`` are the client's options for sign-in and TLS (`shared.connections.kafka_options`).
    """

    def __init__(
        self,
        bootstrap: str,
        topic_prefix: str,
        source: str,
        wait_seconds: float = 10.0,
        *,
        security: Mapping[str, Any] | None = None,
        copies: Copies = no_copies,
    ) -> None:
        self._bootstrap = bootstrap
        self._security = dict(security or {})
        self._copies = copies
        self._prefix = topic_prefix
        self._source = source
        self._wait = wait_seconds
        self._producer: AIOKafkaProducer | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()
        self._known: set[str] = set()

    async def publish(self, events: Sequence[Event], traces: Mapping[str, str] = NO_TRACES, /) -> list[str]:
        """Send events to their topics, with the trace contexts that ``traces`` has for their ids; returns the ids that
        the brokers have acknowledged, those with copies only when every copy is. Does not raise."""
        copies = [copy for event in events for copy in self._copies(event)]  # after the events: a copy delays none
        issued = (*((event.topic, event) for event in events), *copies)
        outcome = await self.send([self._record(topic, event, traces.get(event.id)) for topic, event in issued])
        unsent = {copy.id for (_, copy), sent in zip(copies, outcome[len(events) :], strict=True) if not sent}
        return [e.id for e, sent in zip(events, outcome, strict=False) if sent and e.id not in unsent]

    def _record(self, topic: str, event: Event, trace: str | None = None) -> Record:
        return (self._prefix + topic, event.key.encode(), value_of(event), headers_of(event, self._source, trace))

    async def send(self, records: Sequence[Record]) -> list[bool]:
        """Send records; per record whether it was acknowledged within the wait. Does not raise."""
        acknowledged: list[bool] = [False] * len(records)
        producer: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(self._wait):
                producer = await self._ready()
                absent: dict[str, KafkaError] = {}
                waits = [await self._begin(producer, record, absent) for record in records]
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

    async def _begin(
        self, producer: AIOKafkaProducer, record: Record, absent: dict[str, KafkaError]
    ) -> asyncio.Future[Any]:
        """Hand one record to the producer; the future is its acknowledgement. One that is too large, or whose topic is
        not there or refused to us, fails by itself. ``absent`` are the topics of which that is known."""
        topic, key, value, headers = record
        try:
            if topic not in self._known:
                await self._find(producer, topic, absent)
            acknowledgement: asyncio.Future[Any] = await producer.send(topic, value, key, headers=list(headers))
        except (MessageSizeTooLargeError, UnknownTopicOrPartitionError, TopicAuthorizationFailedError) as error:
            acknowledgement = asyncio.get_running_loop().create_future()
            acknowledgement.set_exception(error)
        return acknowledgement

    async def _find(self, producer: AIOKafkaProducer, topic: str, absent: dict[str, KafkaError]) -> None:
        """Wait a moment until the brokers say that a topic is there."""
        if topic not in absent:
            try:
                async with asyncio.timeout(_TOPIC_SECONDS):
                    await producer.partitions_for(topic)
                self._known.add(topic)
                return
            except TimeoutError:
                absent[topic] = UnknownTopicOrPartitionError(topic)
            except TopicAuthorizationFailedError as error:
                absent[topic] = error
        raise absent[topic]

    async def _ready(self) -> AIOKafkaProducer:
        async with self._lock:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap,
                    acks="all",
                    request_timeout_ms=int(self._wait * 1000),
                    max_request_size=MAX_RECORD_BYTES,
                    **self._security,
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
            self._known.clear()
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


async def _close(producer: AIOKafkaProducer) -> None:
    try:
        await producer.stop()
    except (KafkaError, OSError) as error:
        log.warning("a producer did not stop", reason=repr(error))
