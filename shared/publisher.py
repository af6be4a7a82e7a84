"""Brings records to Kafka: the journal's events, and dead letters.

Plain ``acks="all"`` without the idempotent producer, which can stick after an expired batch (aiokafka issue 1017);
consumers take each event once. Every wait is bounded, and after a failed send the producer is made anew.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.producer.message_accumulator import BatchBuilder

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
_BATCH_BYTES = 2**17
"""Records of one partition go together up to here, and a larger one by itself, so that its refusal is not theirs."""
_KEYS = 4096
"""As many keys' partitions are remembered."""
_PARTITIONER = DefaultPartitioner()
_CLOSING_SECONDS = 5.0
_TOPIC_SECONDS = 2.0
"""How long the records of a send may wait, for each topic, until the brokers say that it is there."""


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
                failures = await _deliver(producer, records)
            acknowledged = [number not in failures for number in range(len(records))]
            if failures:
                reasons = sorted({repr(error) for error in failures.values()})
                log.warning("records were not sent", reason=reasons, records=len(failures))
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
                    max_batch_size=_BATCH_BYTES,
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


async def _deliver(producer: AIOKafkaProducer, records: Sequence[Record]) -> dict[int, BaseException]:
    """Send records, those of one partition together: the client's ``send`` keeps a promise for each, which costs more
    than the record. Returns why some were not acknowledged, by their place in ``records``."""
    failures: dict[int, BaseException] = {}
    partitions: dict[str, tuple[int, ...] | Exception] = {}
    places: dict[tuple[str, int], list[int]] = {}
    for number, (topic, key, *_) in enumerate(records):
        if topic not in partitions:
            partitions[topic] = await _partitions(producer, topic)
        found = partitions[topic]
        if isinstance(found, Exception):
            failures[number] = found
        else:
            places.setdefault((topic, _partition(key, found)), []).append(number)
    sent: list[list[int]] = []
    waits: list[asyncio.Future[Any]] = []
    for (topic, partition), numbers in places.items():
        for batch, held in _batches(producer, records, numbers):
            if batch.size() > MAX_RECORD_BYTES:
                failures |= dict.fromkeys(held, MessageSizeTooLargeError())
                continue
            waits.append(await producer.send_batch(batch, topic, partition=partition))
            sent.append(held)
    for held, refusal in zip(sent, await asyncio.gather(*waits, return_exceptions=True), strict=True):
        if isinstance(refusal, BaseException):  # one that was cancelled is not acknowledged either
            failures |= dict.fromkeys(held, refusal)
    return failures


async def _partitions(producer: AIOKafkaProducer, topic: str) -> tuple[int, ...] | Exception:
    """A topic's partitions, or why it takes nothing; the brokers have a moment to say so."""
    try:
        async with asyncio.timeout(_TOPIC_SECONDS):
            numbers: set[int] = await producer.partitions_for(topic)
    except TimeoutError:
        refusal: Exception = UnknownTopicOrPartitionError(topic)
    except (UnknownTopicOrPartitionError, TopicAuthorizationFailedError) as error:
        refusal = error
    else:
        return tuple(sorted(numbers))
    return refusal


@lru_cache(_KEYS)
def _partition(key: bytes | None, partitions: tuple[int, ...]) -> int:
    """Where records with a key go: as all of Kafka's clients in Java decide it. Remembered, since to compute it in
    Python takes as long as the rest, and under load a complaint has several events within moments. Those without a key
    all go where chance sent the first."""
    return int(_PARTITIONER(key, partitions, partitions))


def _batches(
    producer: AIOKafkaProducer, records: Sequence[Record], numbers: Sequence[int]
) -> Iterator[tuple[BatchBuilder, list[int]]]:
    """Full batches and the last one, each with the places of its records. An empty one takes any record."""
    batch: BatchBuilder = producer.create_batch()
    held: list[int] = []
    for number in numbers:
        _, key, value, headers = records[number]
        while batch.append(timestamp=None, key=key, value=value, headers=list(headers)) is None:
            yield batch, held
            batch, held = producer.create_batch(), []
        held.append(number)
    yield batch, held


async def _close(producer: AIOKafkaProducer) -> None:
    try:
        await producer.stop()
    except (KafkaError, OSError) as error:
        log.warning("a producer did not stop", reason=repr(error))
