"""The two brokers that the suites of publisher and consumer run over, Kafka and the one in memory; and a handler."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from shared import deadletters
from shared.consumer import EventConsumer
from shared.deadletters import DeadLetter
from shared.events import Event
from shared.publisher import Publisher
from shared.receiver import Handle
from shared.settings import ServiceSettings
from shared.topics import dead_letters
from tests.support.memory_broker import BrokerPublisher, MemoryBroker, MemoryConsumer
from tests.support.running import until


class Consumer(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Site(Protocol):
    """A broker with the topics of an installation."""

    settings: ServiceSettings

    def publisher(self, source: str, wait_seconds: float = 10.0) -> Publisher: ...

    def consumer(self, service: str, topics: Sequence[str], handle: Handle, publisher: Publisher) -> Consumer: ...

    async def send_nothing(self, topic: str) -> None:
        """Put a record without key and value on partition 0 of a topic (full name)."""

    async def read(self, expected: int, *names: str) -> list[ConsumerRecord]:
        """The first ``expected`` records of topics (full names), as an independent subscriber gets them."""

    async def committed(self, service: str, topics: Sequence[str]) -> int:
        """The sum of a group's committed offsets: how many records it will not get again."""

    async def letters(self, service: str) -> list[DeadLetter]:
        """A group's dead letters."""


class KafkaSite:
    """`Site` on real Kafka."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings

    def publisher(self, source: str, wait_seconds: float = 10.0) -> Publisher:
        return Publisher(self.settings.kafka_bootstrap, self.settings.topic_prefix, source, wait_seconds=wait_seconds)

    def consumer(self, service: str, topics: Sequence[str], handle: Handle, publisher: Publisher) -> EventConsumer:
        return EventConsumer(self.settings, service, topics, handle, publisher)

    async def send_nothing(self, topic: str) -> None:
        """Kafka takes it, though aiokafka's ``send`` does not."""
        producer = AIOKafkaProducer(bootstrap_servers=self.settings.kafka_bootstrap, acks="all")
        await producer.start()
        try:
            batch = producer.create_batch()
            batch.append(key=None, value=None, timestamp=None)
            await (await producer.send_batch(batch, topic, partition=0))
        finally:
            await producer.stop()

    async def read(self, expected: int, *names: str) -> list[ConsumerRecord]:
        bootstrap = self.settings.kafka_bootstrap
        consumer = AIOKafkaConsumer(*names, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        try:
            async with asyncio.timeout(20):
                return [await consumer.getone() for _ in range(expected)]
        finally:
            await consumer.stop()

    async def committed(self, service: str, topics: Sequence[str]) -> int:
        settings = self.settings
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka_bootstrap, group_id=settings.group(service), enable_auto_commit=False
        )
        await consumer.start()
        try:
            names = [settings.topic_prefix + topic for topic in topics]
            partitions = [TopicPartition(name, number) for name in names for number in range(settings.topic_partitions)]
            return sum([await consumer.committed(partition) or 0 for partition in partitions])
        finally:
            await consumer.stop()

    async def letters(self, service: str) -> list[DeadLetter]:
        return await deadletters.letters(self.settings, [service])


class MemorySite:
    """`Site` in memory."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.broker = MemoryBroker()
        self.broker.create(settings)

    def publisher(self, source: str, wait_seconds: float = 10.0) -> Publisher:
        return BrokerPublisher(self.broker, self.settings.topic_prefix, source)

    def consumer(self, service: str, topics: Sequence[str], handle: Handle, publisher: Publisher) -> MemoryConsumer:
        return MemoryConsumer(self.broker, self.settings, service, topics, handle, publisher)

    async def send_nothing(self, topic: str) -> None:
        assert self.broker.append((topic, None, None, ()))

    async def read(self, expected: int, *names: str) -> list[ConsumerRecord]:
        found = [record for partition, log in self.broker.logs.items() if partition.topic in names for record in log]
        assert len(found) >= expected
        return found[:expected]

    async def committed(self, service: str, topics: Sequence[str]) -> int:
        names = {self.settings.topic_prefix + topic for topic in topics}
        group = self.settings.group(service)
        return sum(end for (who, p), end in self.broker.committed.items() if who == group and p.topic in names)

    async def letters(self, service: str) -> list[DeadLetter]:
        topic: Any = TopicPartition(dead_letters(self.settings.group(service)), 0)
        found = [deadletters._letter(service, record, False) for record in self.broker.logs[topic]]
        return found[::-1]


class Reader:
    """A handler that keeps what it is given; ``fails`` may raise before an event is taken."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.calls = 0
        self.most = 0
        self.fails: Callable[[Event], object] = lambda _: None

    async def __call__(self, events: Sequence[Event]) -> None:
        self.calls += 1
        self.most = max(self.most, len(events))
        for event in events:
            self.fails(event)
        self.taken += [event.id for event in events]

    async def has(self, *events: Event) -> None:
        wanted = {event.id for event in events}

        async def all_of_them() -> bool:
            return wanted <= set(self.taken)

        await until(all_of_them, within=30)
