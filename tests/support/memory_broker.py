"""A broker in memory: topics with partitions and offsets, groups with committed offsets, and the two that use it.

`BrokerPublisher` is the real publisher but for the sending; `MemoryConsumer` feeds the real `shared.receiver` as the
framework does. They pass the same contract suites as those on Kafka (``tests/contract``).
"""

import asyncio
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, KafkaError
from aiokafka.structs import OffsetAndMetadata

from shared.agency_feed import no_copies
from shared.events import now
from shared.publisher import MAX_RECORD_BYTES, Copies, Publisher, Record
from shared.receiver import Handle, Receiver, RecordSender
from shared.settings import ServiceSettings
from shared.topics import agency_spec, specs

Order = Callable[[list[TopicPartition]], list[TopicPartition]]
"""In which order a fetch goes through partitions that have something: Kafka promises none."""


class MemoryBroker:
    """``logs`` is what each partition holds; ``committed`` the groups' offsets."""

    def __init__(self) -> None:
        self.logs: dict[TopicPartition, list[ConsumerRecord]] = {}
        self.partitions: dict[str, int] = {}
        self.committed: dict[tuple[str, TopicPartition], int] = {}
        self._members: dict[str, list[Member]] = {}

    def create(self, settings: ServiceSettings, agencies: Iterable[str] = ()) -> None:
        """Make the topics of an installation, those of agencies too."""
        for spec in (*specs(settings), *(agency_spec(settings, code) for code in agencies)):
            self.partitions[spec.name] = spec.partitions
            self.logs |= {TopicPartition(spec.name, number): [] for number in range(spec.partitions)}

    def append(self, record: Record) -> bool:
        """Add a record at the end of the partition that its key decides; False if there is no such topic or it is too
        large."""
        topic, key, value, _ = record
        partitions = self.partitions.get(topic)
        if partitions is None or len(key or b"") + len(value or b"") > MAX_RECORD_BYTES:
            return False
        partition = TopicPartition(topic, zlib.crc32(key or b"") % partitions)
        log = self.logs[partition]
        log.append(_stored(partition, len(log), record))
        for members in self._members.values():
            for member in members:
                member.news.set()
        return True

    async def send(self, records: Sequence[Record]) -> list[bool]:
        """Append records; per record whether it was taken."""
        await asyncio.sleep(0)
        return [self.append(record) for record in records]

    async def join(self, group: str, topics: Sequence[str]) -> "Member":
        """Take part in a group; its partitions are shared out anew."""
        await asyncio.sleep(0)
        member = Member(self, group, topics)
        self._members.setdefault(group, []).append(member)
        self.rebalance(group)
        return member

    def leave(self, member: "Member") -> None:
        """Take no part any more, or be found dead; its partitions go to the others."""
        members = self._members[member.group]
        if member in members:
            members.remove(member)
            member.assigned = []
            self.rebalance(member.group)

    def rebalance(self, group: str) -> None:
        """Share out a group's partitions anew; each member goes back to what is committed."""
        members = self._members.get(group, [])
        for index, member in enumerate(members):
            every = [p for p in self.logs if p.topic in member.topics]
            member.assigned = [p for number, p in enumerate(every) if number % len(members) == index]
            member.rewind()
            member.news.set()

    def lag(self, group: str, topics: Iterable[str]) -> int:
        """How many records of topics the group has not committed."""
        wanted = set(topics)
        return sum(
            len(log) - self.committed.get((group, partition), 0)
            for partition, log in self.logs.items()
            if partition.topic in wanted
        )


class Member:
    """One process's part in a group."""

    def __init__(self, broker: MemoryBroker, group: str, topics: Sequence[str]) -> None:
        self._broker = broker
        self.group = group
        self.topics = frozenset(topics)
        self.assigned: list[TopicPartition] = []
        self._positions: dict[TopicPartition, int] = {}
        self._fetched: set[TopicPartition] = set()
        self.news = asyncio.Event()

    def rewind(self) -> None:
        """Go back to what is committed: all since then comes again."""
        committed = self._broker.committed
        self._fetched = set()
        self._positions = {p: committed.get((self.group, p), 0) for p in self.assigned}

    def waiting(self) -> list[TopicPartition]:
        """The partitions that hold something not yet fetched."""
        logs = self._broker.logs
        return [p for p, position in self._positions.items() if position < len(logs[p])]

    async def fetch(self, limit: int, order: Order = list) -> list[ConsumerRecord]:
        """Wait until there is something, and take at most ``limit`` records."""
        while not self.waiting():
            self.news.clear()
            await self.news.wait()
        found: list[ConsumerRecord] = []
        for partition in order(self.waiting()):
            position = self._positions[partition]
            part = self._broker.logs[partition][position : position + limit - len(found)]
            self._positions[partition] = position + len(part)
            self._fetched.add(partition)
            found += part
        return found

    async def commit(self, records: Sequence[ConsumerRecord]) -> None:
        """These are done. Raises `CommitFailedError` if one was fetched before the partitions were shared out anew:
        even of a partition that is here again another member may have done more."""
        await asyncio.sleep(0)
        ends = {TopicPartition(record.topic, record.partition): record.offset + 1 for record in records}
        if not ends.keys() <= self._fetched:
            raise CommitFailedError
        self._broker.committed |= {(self.group, partition): end for partition, end in ends.items()}


class Connection(Protocol):
    """A process's way to the broker: `MemoryBroker` itself, or one that fails and waits."""

    async def send(self, records: Sequence[Record]) -> list[bool]: ...

    async def join(self, group: str, topics: Sequence[str]) -> Any: ...

    def leave(self, member: Any) -> None: ...


class BrokerPublisher(Publisher):
    """The real publisher, whose records go to a broker in memory."""

    def __init__(self, broker: Connection, topic_prefix: str, source: str, *, copies: Copies = no_copies) -> None:
        super().__init__("memory", topic_prefix, source, copies=copies)
        self._broker = broker

    async def send(self, records: Sequence[Record]) -> list[bool]:
        return await self._broker.send(records)


class MemoryConsumer:
    """What `shared.consumer.EventConsumer` is on Kafka: the offsets are committed after the receiver is done, and a
    batch that it gives back comes again."""

    def __init__(
        self,
        broker: Connection,
        settings: ServiceSettings,
        service: str,
        topics: Sequence[str],
        handle: Handle,
        sender: RecordSender,
        *,
        order: Order = list,
    ) -> None:
        self._broker = broker
        self._group = settings.group(service)
        self._topics = [settings.topic_prefix + topic for topic in topics]
        self._limit = settings.consumer_batch
        self._order = order
        self._receiver = Receiver(self._group, settings.topic_prefix, handle, sender, lambda _: None)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Join the group and begin."""
        self._task = asyncio.create_task(self.run())

    async def stop(self) -> None:
        """Leave the group. A batch under way is not committed."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def run(self) -> None:
        """Take batches until cancelled."""
        member = await self._broker.join(self._group, self._topics)
        try:
            while True:
                try:
                    await self.turn(member)
                except (KafkaError, TimeoutError):
                    member.rewind()
                    await asyncio.sleep(0.1)
        finally:
            self._broker.leave(member)

    async def turn(self, member: Any) -> None:
        """One batch."""
        records = await member.fetch(self._limit, self._order)
        await self._receiver.take(records)
        await member.commit(records)


class MemoryAdmin:
    """What `services.sla.level` asks a consumer and an admin client of Kafka."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    async def describe_topics(self, topics: Sequence[str]) -> list[dict[str, Any]]:
        await asyncio.sleep(0)
        found = {topic: self._broker.partitions[topic] for topic in topics}
        return [{"topic": t, "partitions": [{"partition": n} for n in range(count)]} for t, count in found.items()]

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        await asyncio.sleep(0)
        return {partition: len(self._broker.logs[partition]) for partition in partitions}

    async def list_consumer_group_offsets(self, group: str) -> Mapping[TopicPartition, OffsetAndMetadata]:
        await asyncio.sleep(0)
        committed = self._broker.committed.items()
        return {partition: OffsetAndMetadata(offset, "") for (name, partition), offset in committed if name == group}

    async def stop(self) -> None:
        """There is nothing to close."""

    close = stop


def _stored(partition: TopicPartition, offset: int, record: Record) -> ConsumerRecord:
    _, key, value, headers = record
    return ConsumerRecord(
        topic=partition.topic,
        partition=partition.partition,
        offset=offset,
        timestamp=int(now().timestamp() * 1000),
        timestamp_type=0,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=len(key or b""),
        serialized_value_size=len(value or b""),
        headers=tuple(headers),
    )
