"""Taking events from the topics: at least once, in batches, a bad record put aside without holding up the rest.

One FastStream batch subscriber per service. What is transient (database or broker away) waits and is tried again, and
is never a dead letter; what cannot be used goes to ``<group>.dlq`` with its reason; the offsets are committed after
both.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.kafka.subscriber.usecase import BatchSubscriber

from shared import telemetry
from shared.events import Event, Malformed, from_record, now
from shared.publisher import Publisher, Record
from shared.settings import ServiceSettings
from shared.storage import TRANSIENT
from shared.topics import dead_letters

log = structlog.get_logger()

Parse = Callable[[tuple[ConsumerRecord, ...]], Awaitable[KafkaMessage]]
Handle = Callable[[Sequence[Event]], Awaitable[None]]

ATTEMPTS = 5
"""How often an event may fail before it is a dead letter."""
_PATIENCE = timedelta(seconds=60)
"""How long one batch may wait for what is away, before the consumer takes it anew: well below the poll interval."""
_HANDLER = timedelta(seconds=20)
_STALLED = timedelta(seconds=60)
_GRACE_SECONDS = 30.0


class DeadLettersUnavailable(TimeoutError):
    """A dead letter was not acknowledged, so the batch must come again."""


class EventConsumer:
    """The subscriber of one service: ``handle`` gets the valid events of a batch and may get any of them again."""

    def __init__(
        self, settings: ServiceSettings, service: str, topics: Sequence[str], handle: Handle, publisher: Publisher
    ) -> None:
        self._settings = settings
        self._group = settings.group(service)
        self._topics = [settings.topic_prefix + topic for topic in topics]
        self._handle = handle
        self._publisher = publisher
        self._progress_at = time.monotonic()
        self._watch: asyncio.Task[None] | None = None
        self.lag = 0
        self.broker = KafkaBroker(
            settings.kafka_bootstrap.split(","),  # FastStream takes a text for one address
            client_id=self._group,
            allow_auto_create_topics=False,
            consumer_only=True,
            graceful_timeout=_GRACE_SECONDS,
            logger=None,
        )
        self.subscriber: BatchSubscriber = self.broker.subscriber(
            *self._topics,
            group_id=self._group,
            batch=True,
            max_records=settings.consumer_batch,
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.NACK_ON_ERROR,
            parser=_unread,
            decoder=_raw,
        )
        self.subscriber(self._receive)

    async def start(self) -> None:
        """Join the group and begin. Raises `KafkaError` if the broker cannot be reached."""
        try:
            await self.broker.start()
        except BaseException:
            await self.broker.stop()  # or each attempt would leave its half-made clients behind
            raise
        self._watch = asyncio.create_task(self._observe())

    async def stop(self) -> None:
        """Finish the batch under way, commit, leave the group."""
        if self._watch:
            self._watch.cancel()
        await self.broker.stop()

    @property
    def stalled(self) -> bool:
        """There is something to take, and nothing has been taken for a minute: the process should be restarted."""
        return self.lag > 0 and time.monotonic() - self._progress_at > _STALLED.total_seconds()

    async def _receive(self, values: list[bytes], message: KafkaMessage) -> None:
        records: tuple[ConsumerRecord, ...] = message.raw_message
        started = time.perf_counter()
        events: list[tuple[Event, ConsumerRecord]] = []
        bad: list[tuple[ConsumerRecord, str]] = []
        for record in records:
            try:
                event = from_record(self._short(record.topic), record.key, record.value, record.headers)
            except Malformed as reason:
                bad.append((record, str(reason)))
            except Exception as error:  # whatever a record does to the decoder, it must not hold up the rest
                log.exception("a record broke the decoder", topic=record.topic, offset=record.offset)
                bad.append((record, repr(error)))
            else:
                events.append((event, record))
        bad += await self._apply(events)
        await self._put_aside(bad)
        for record in records:
            telemetry.CONSUMED.labels(self._short(record.topic)).inc()
        telemetry.CONSUMER_BATCH.observe(time.perf_counter() - started)
        self._progress()

    def _short(self, topic: str) -> str:
        return topic.removeprefix(self._settings.topic_prefix)

    async def _apply(self, events: Sequence[tuple[Event, ConsumerRecord]]) -> list[tuple[ConsumerRecord, str]]:
        """Hand over the batch, or, if that fails for good, each event by itself; returns those that cannot be
        applied."""
        if not events:
            return []
        try:
            await self._patiently([event for event, _ in events])
        except (*TRANSIENT, TimeoutError, KafkaError):
            raise
        except Exception:
            log.exception("a batch failed; its events are tried one by one", events=len(events))
        else:
            return []
        bad = []
        for event, record in events:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    await self._patiently([event])
                    break
                except (*TRANSIENT, TimeoutError, KafkaError):
                    raise
                except Exception as error:
                    log.exception("an event failed", event_id=event.id, attempt=attempt)
                    if attempt == ATTEMPTS:
                        bad.append((record, f"{type(error).__name__}: {error}"))
        return bad

    async def _patiently(self, events: Sequence[Event]) -> None:
        """Hand over, waiting for what is away. Raises it after a minute: then the records come again."""
        deadline = time.monotonic() + _PATIENCE.total_seconds()
        pause = 0.1
        while True:
            try:
                async with asyncio.timeout(_HANDLER.total_seconds()):
                    await self._handle(events)
                return
            except (*TRANSIENT, TimeoutError, KafkaError) as error:
                log.warning("waiting to apply events", reason=repr(error), events=len(events))
                self._progress_at = time.monotonic()  # to wait for what is away is no stall: no restart would help
                if time.monotonic() + pause > deadline:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5)

    async def _put_aside(self, bad: Sequence[tuple[ConsumerRecord, str]]) -> None:
        if not bad:
            return
        topic = dead_letters(self._group)
        letters: list[Record] = [(topic, r.key, _sendable(r), dead_letter_headers(r, reason)) for r, reason in bad]
        if not all(await self._publisher.send(letters)):
            raise DeadLettersUnavailable
        for record, reason in bad:
            log.error(
                "dead letter", topic=record.topic, partition=record.partition, offset=record.offset, reason=reason
            )
            telemetry.DEAD_LETTERS.labels(self._short(record.topic)).inc()

    def _progress(self) -> None:
        self._progress_at = time.monotonic()
        telemetry.CONSUMER_PROGRESS.set_to_current_time()

    async def _observe(self) -> None:
        """Measure the lag every few seconds, from what the consumer knows of its partitions' ends."""
        while True:
            await asyncio.sleep(2)
            try:
                await self._measure()
            except KafkaError as error:  # a partition went to another process while it was asked about
                log.info("lag not measured this time", reason=repr(error))

    async def _measure(self) -> None:
        consumer: AIOKafkaConsumer | None = self.subscriber.consumer
        if consumer is None:
            return
        lags: dict[str, int] = dict.fromkeys(self._topics, 0)
        for partition in consumer.assignment():
            end = consumer.highwater(partition)
            if end is not None and partition.topic in lags:
                taken = await consumer.position(partition)
                lags[partition.topic] += max(0, end - taken)
        for topic, records in lags.items():
            telemetry.CONSUMER_LAG.labels(self._short(topic)).set(records)
        self.lag = sum(lags.values())
        if self.lag == 0:
            self._progress()


async def _unread(records: tuple[ConsumerRecord, ...], parse: Parse) -> KafkaMessage:
    """A batch without the framework's reading of headers.

    It takes them for text, and drops a whole batch without a word where one is not; and it would publish an answer to
    the topic that a ``reply_to`` names, whoever wrote it.
    """
    message = await parse(tuple(replace(record, headers=()) for record in records))
    message.raw_message = records
    return message


async def _raw(message: KafkaMessage) -> list[bytes]:
    return message.body  # type: ignore[return-value] # a batch's body is the list of values


def _sendable(record: ConsumerRecord) -> bytes | None:
    """The record's value; the producer takes no record that has neither a key nor a value."""
    value: bytes | None = record.value
    return b"" if record.key is None and value is None else value


def dead_letter_headers(record: ConsumerRecord, reason: str) -> list[tuple[str, bytes]]:
    """The record's own headers, and where it came from and why it was put aside (``dlq_*``)."""
    origin = {
        "dlq_topic": record.topic,
        "dlq_partition": str(record.partition),
        "dlq_offset": str(record.offset),
        "dlq_reason": reason[:1000],
        "dlq_at": now().isoformat(),
    }
    own = [(name, value) for name, value in record.headers if not name.startswith("dlq_")]
    return [*own, *((name, value.encode()) for name, value in origin.items())]
