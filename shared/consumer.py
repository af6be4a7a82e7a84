"""Taking events from the topics: at least once, in batches.

One FastStream batch subscriber per service, whose offsets are committed after `shared.receiver` is done with a batch;
and whether it keeps up: its lag, and whether it has stalled.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import chain

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.kafka.subscriber.usecase import BatchSubscriber

from shared import telemetry
from shared.connections import kafka_security
from shared.publisher import Publisher
from shared.receiver import Handle, Receiver
from shared.settings import ServiceSettings

log = structlog.get_logger()

Parse = Callable[[tuple[ConsumerRecord, ...]], Awaitable[KafkaMessage]]

_STALLED = timedelta(seconds=60)
_GRACE_SECONDS = 30.0
_STEP = 100
"""Records of one partition that are taken together where more than that wait."""
_COMMIT_SECONDS = 0.2
"""Offsets are committed so long after a batch: each commit is a record that the broker writes down, and what a crash
makes come again is taken once all the same."""
_AGAIN_SECONDS = 2.0
"""A commit that failed is tried again after so long."""
_FETCH_WAIT_MS = 100
"""A fetch waits so long for records to come, or until they are ``consumer_fetch_bytes`` together. It asks for those
partitions only of which nothing waits to be taken, and there is one at a time: what came of the others meanwhile, and a
backlog that is left in a few of them, wait for it."""
_LOOK_MS = 1000
"""Records are taken when they come to the process; if none do, it is looked again after so long."""
_BEHIND, _CAUGHT_UP = 2000, 300
"""A service with more records left to take than the first takes no breath until there are fewer than the second."""


class EventConsumer:
    """The subscriber of one service: ``handle`` gets the valid events of a batch and may get any of them again."""

    def __init__(
        self, settings: ServiceSettings, service: str, topics: Sequence[str], handle: Handle, publisher: Publisher
    ) -> None:
        group = settings.group(service)
        self._prefix = settings.topic_prefix
        self._topics = [self._prefix + topic for topic in topics]
        self._receiver = Receiver(group, self._prefix, handle, publisher, self._moved)
        self._progress_at = time.monotonic()
        self._taken_at = self._uncommitted_since = self._progress_at
        self._watch: list[asyncio.Task[None]] = []
        self._breath, self._busy = settings.consumer_breath_seconds, settings.consumer_busy_per_second
        self._rate = 0.0  # records a second, of which each second forgets two thirds
        self._rate_at = time.monotonic()
        self._behind = False
        self._uncommitted: dict[TopicPartition, int] = {}
        self._reached: dict[TopicPartition, int] = {}
        """When the last record that was taken of a partition was sent, in milliseconds of the epoch."""
        self._assignments = 0
        self._to_commit = asyncio.Event()
        self._stopping = False
        self.lag = 0
        self.broker = KafkaBroker(
            settings.kafka_bootstrap.split(","),  # FastStream takes a text for one address
            security=kafka_security(settings),
            client_id=group,
            allow_auto_create_topics=False,
            consumer_only=True,
            apply_types=False,  # nothing is injected into the handler, which would cost more than the rest of the way
            graceful_timeout=_GRACE_SECONDS,
            logger=None,
        )
        self.subscriber: BatchSubscriber = self.broker.subscriber(
            *self._topics,
            group_id=group,
            batch=True,
            fetch_min_bytes=settings.consumer_fetch_bytes,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.MANUAL,  # the framework commits every partition that it has, at each batch
            listener=_Partitions(self._left),
            parser=_unread,
            decoder=_itself,
        )
        self.subscriber(self._receive)
        self._batch = settings.consumer_batch
        # FastStream's own waits for records, then rests as long without looking: what comes meanwhile waits at each
        # desk that an event goes to, or the process is busy with looking where nothing happens.
        self.subscriber.get_msg = self._next  # type: ignore[method-assign]

    async def start(self) -> None:
        """Join the group and begin. Raises `KafkaError` if the broker cannot be reached."""
        try:
            await self.broker.start()
        except BaseException:
            await self.broker.stop()  # or each attempt would leave its half-made clients behind
            raise
        self._watch = [asyncio.create_task(loop()) for loop in (self._observe, self._commit_now_and_then)]

    async def rejoin(self) -> None:
        """Leave the group and join it anew, so that nothing that was refused before is waited out: the client hands its
        refusals over one by one, and the framework rests after each. Raises `KafkaError`; then do it again."""
        await self._left()
        await self.subscriber.stop()
        self._uncommitted.clear()  # of what came meanwhile; it comes again
        await self.subscriber.start()

    async def stop(self) -> None:
        """Finish the batch under way, commit, leave the group."""
        for task in self._watch:
            task.cancel()
        await asyncio.gather(*self._watch, return_exceptions=True)
        self._stopping = True
        await self._commit()
        await self.broker.stop()

    @property
    def stalled(self) -> bool:
        """There is something to take, and nothing has been taken for a minute, or records are taken and for two minutes
        none could be committed: the process should be restarted."""
        limit = _STALLED.total_seconds()
        taking = self.lag == 0 or time.monotonic() - self._progress_at <= limit
        committing = not self._uncommitted or self._taken_at - self._uncommitted_since <= 2 * limit
        return not (taking and committing)

    async def _next(self, consumer: AIOKafkaConsumer) -> tuple[ConsumerRecord, ...]:
        """The next batch as soon as there is something, or nothing after a while.

        Where much waits it is filled up with what came first, whichever partition it is in: what happened to a
        complaint is in several topics, and taken together it is folded and written once. What the client brings by
        itself is a piece of each partition, so that topics of short or rare events run far ahead in a backlog.

        An error must not lose what was taken before it. If the partitions are shared out anew, what was taken of them
        comes again, here or elsewhere, and is dropped: it is not ours to commit or to go back to."""
        step = min(_STEP, self._batch)
        records = self._taken(await consumer.getmany(timeout_ms=_LOOK_MS, max_records=step))
        if len(records) < step:
            return tuple(records)
        assignment = self._assignments
        try:
            left = await self._left_to_take()
            while left and len(records) < self._batch:
                first = min(left, key=lambda partition: self._reached.get(partition, 0))
                most = min(_STEP, self._batch - len(records))
                found = await consumer.getmany(first, timeout_ms=0, max_records=most)
                if assignment != self._assignments:
                    return tuple(self._taken(found))
                records += self._taken(found)
                left[first] -= len(found.get(first, ()))
                if left[first] <= 0 or not found:  # what is on its way comes while this batch is worked on
                    del left[first]
                await asyncio.sleep(0)  # a backlog must not keep the service from answering
        except Exception as error:  # noqa: BLE001 - if it lasts, the next call raises it with nothing in hand
            log.info("a batch was cut short", reason=repr(error), records=len(records))
        return tuple(records) if assignment == self._assignments else ()

    def _taken(self, found: Mapping[TopicPartition, list[ConsumerRecord]]) -> list[ConsumerRecord]:
        for partition, records in found.items():
            self._reached[partition] = records[-1].timestamp
        return list(chain.from_iterable(found.values()))

    async def _receive(self, message: KafkaMessage) -> None:
        records: tuple[ConsumerRecord, ...] = message.raw_message
        assignment = self._assignments
        try:
            await self._receiver.take(records)
        except Exception:
            await message.nack()  # the records come again
            raise
        finally:
            message.clear_cache()  # it holds itself there: its records would lie about until garbage is collected
        if assignment == self._assignments:
            self._count_uncommitted()
            self._uncommitted |= {TopicPartition(r.topic, r.partition): r.offset + 1 for r in records}
            self._to_commit.set()
        if self._stopping:
            await self._commit()
        await self._take_breath(len(records))

    def _count_uncommitted(self) -> None:
        """Keep since when nothing was committed. After a pause it counts anew: the broker may have been away, and then
        no restart would help."""
        moment = time.monotonic()
        if not self._uncommitted or moment - self._taken_at > _STALLED.total_seconds():
            self._uncommitted_since = moment
        self._taken_at = moment

    async def _take_breath(self, taken: int) -> None:
        """Let more come after a batch, where many come: fetching costs the same for one record as for hundreds, and a
        document that several events of a batch are about is written once. What comes now and then is taken at once, and
        so is a backlog."""
        moment = time.monotonic()
        self._rate = self._rate * math.exp(self._rate_at - moment) + taken
        self._rate_at = moment
        if self._rate < self._busy:
            return
        try:
            left = sum((await self._left_to_take()).values())
        except KafkaError:  # a partition has just gone to another process
            left = 0
        self._behind = left > (_CAUGHT_UP if self._behind else _BEHIND)
        if not self._behind:
            await asyncio.sleep(self._breath)

    async def _left(self) -> None:
        """The partitions are shared out anew. What was taken is committed first, and nothing of it later: another
        process may be further by then, and an offset committed late would set the group back."""
        self._assignments += 1
        self._reached.clear()
        await self._commit()
        self._uncommitted.clear()

    async def _commit_now_and_then(self) -> None:
        while True:
            await self._to_commit.wait()
            await asyncio.sleep(_COMMIT_SECONDS)
            self._to_commit.clear()
            if not await self._commit():
                await asyncio.sleep(_AGAIN_SECONDS)
                self._to_commit.set()

    async def _commit(self) -> bool:
        """Commit how far the partitions were taken that have moved. False if that failed: until it is done, their
        records may come again."""
        consumer: AIOKafkaConsumer | None = self.subscriber.consumer
        if consumer is None:
            return True
        ours = consumer.assignment()
        moved = {partition: offset for partition, offset in self._uncommitted.items() if partition in ours}
        try:
            if moved:
                await consumer.commit(moved)
        except KafkaError as error:
            log.warning("offsets were not committed; records may come again", reason=repr(error))
            return False
        self._uncommitted = {p: o for p, o in self._uncommitted.items() if p in ours and moved.get(p) != o}
        self._uncommitted_since = time.monotonic()
        return True

    def _moved(self, done: bool) -> None:
        if done:
            self._progress()
        else:  # to wait for what is away is no stall: no restart would help
            self._progress_at = time.monotonic()

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
        if self.subscriber.consumer is None:
            return
        lags = dict.fromkeys(self._topics, 0)
        for partition, records in (await self._left_to_take()).items():
            lags[partition.topic] += records
        for topic, records in lags.items():
            telemetry.CONSUMER_LAG.labels(topic.removeprefix(self._prefix)).set(records)
        self.lag = sum(lags.values())
        if self.lag == 0:
            self._progress()

    async def _left_to_take(self) -> dict[TopicPartition, int]:
        """The partitions of which records are still to be taken, as far as is known, and how many. Raises `KafkaError`
        if one goes to another process meanwhile."""
        consumer: AIOKafkaConsumer | None = self.subscriber.consumer
        left: dict[TopicPartition, int] = {}
        if consumer is None:
            return left
        for partition in consumer.assignment():
            end = consumer.highwater(partition)
            if end is not None and (records := end - await consumer.position(partition)) > 0:
                left[partition] = records
        return left


class _Partitions(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """Says when the partitions go."""

    def __init__(self, left: Callable[[], Awaitable[None]]) -> None:
        self._left = left

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._left()

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Nothing to do: reading begins at what is committed."""


async def _unread(records: tuple[ConsumerRecord, ...], parse: Parse) -> KafkaMessage:
    """A batch of which the framework is shown its first record, without headers.

    It takes them for text, and drops a whole batch without a word where one is not; and it would publish an answer to
    the topic that a ``reply_to`` names, whoever wrote it. The rest would only be copied.
    """
    message = await parse((replace(records[0], headers=()),))
    message.raw_message = records
    return message


async def _itself(message: KafkaMessage) -> KafkaMessage:
    """What the handler is given: the message, whose records `shared.receiver` decodes."""
    return message
