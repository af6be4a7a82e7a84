"""Up to which moment everything that was published has been taken in, by whichever processes of the group.

A clock must not be called overdue because the event that stopped it still waits in a topic. Every look notes where the
topics end; once the group has committed that far, all that was published before the look is known. So this works with
several processes, with one that has just died, and under a load that never lets the lag be nought.

What is noted stays until it is reached, so a group that gets on reaches it, however far behind it was when the service
came back; only one that does not get on is not waited for beyond a patience.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from shared.connections import kafka_options
from shared.events import now
from shared.settings import ServiceSettings

log = structlog.get_logger()

_WAIT_SECONDS = 5.0

Offsets = Mapping[TopicPartition, int]


class Level:
    """What one consumer group knows of its topics (names without the namespace)."""

    def __init__(self, settings: ServiceSettings, service: str, topics: Sequence[str]) -> None:
        self._server = {"bootstrap_servers": settings.kafka_bootstrap, **kafka_options(settings)}
        self._group = settings.group(service)
        self._topics = [settings.topic_prefix + topic for topic in topics]
        self._consumer: AIOKafkaConsumer | None = None
        self._admin: AIOKafkaAdminClient | None = None
        self._mark: tuple[datetime, Offsets] | None = None
        self._left = 0  # of the mark, at the last look
        self._got_on_at: datetime | None = None
        self.at: datetime | None = None
        """Everything that was published before is known; None while nothing can be said."""

    def until(self, patience: timedelta) -> datetime | None:
        """Up to which moment what is known is to be acted upon: `at`, or, if the group has not got on for as long as
        the patience, up to that time ago. None: not at all yet."""
        moment = now()
        if self._got_on_at is None or moment - self._got_on_at < patience:
            return self.at
        return moment - patience  # which is later than `at`: to reach that was to get on

    async def look(self) -> None:
        """Move `at` on as far as can be told now. Does not raise: while the brokers are away, it stays."""
        self._got_on_at = self._got_on_at or now()
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                consumer, admin = await self._connected()
                if self._mark is None:
                    self._mark = (now(), await self._ends(consumer))
                looked_at, ends = self._mark
                committed = await admin.list_consumer_group_offsets(self._group)
                left = sum(max(0, end - (committed[p].offset if p in committed else 0)) for p, end in ends.items())
                if left == 0:
                    self.at, self._mark = looked_at, None
                if left == 0 or left < self._left:
                    self._got_on_at = now()
                self._left = left
        except (KafkaError, TimeoutError, OSError) as error:
            log.warning("how far the events are known cannot be told now", reason=repr(error))
            await self.stop()

    async def _connected(self) -> tuple[AIOKafkaConsumer, AIOKafkaAdminClient]:
        if self._consumer is None:
            self._consumer = AIOKafkaConsumer(**self._server)
            await self._consumer.start()
        if self._admin is None:
            self._admin = AIOKafkaAdminClient(**self._server)
            await self._admin.start()
        return self._consumer, self._admin

    async def _ends(self, consumer: AIOKafkaConsumer) -> Offsets:
        """Where each partition ends; those that hold nothing need not be committed."""
        described = await self._admin.describe_topics(self._topics) if self._admin else []
        partitions = [TopicPartition(t["topic"], p["partition"]) for t in described for p in t["partitions"]]
        starts = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        return {partition: end for partition, end in ends.items() if end > starts[partition]}

    async def stop(self) -> None:
        """Close the connections; the next look opens them again."""
        consumer, admin = self._consumer, self._admin
        self._consumer = self._admin = None
        with suppress(KafkaError, OSError):
            if consumer:
                await consumer.stop()
            if admin:
                await admin.close()
