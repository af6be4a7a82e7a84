"""Dead letters: what a consumer group could not use, and putting it back once the cause is mended.

A letter is the original record with its headers, and ``dlq_*`` headers that say where it came from and why
(`shared.receiver`). Replaying sends the original to the topic it came from: every group takes it again, which does no
harm, since each event has effect once. That a letter was replayed is remembered by a record of its own in the same
topic, so that nothing besides Kafka has to be kept.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from shared.connections import kafka_options
from shared.events import now
from shared.publisher import Publisher, Record
from shared.receiver import WITHHELD
from shared.settings import ServiceSettings
from shared.topics import SERVICES, dead_letters

_REPLAYED = "dlq_replayed"


class ReplayFailed(Exception):
    """A letter was not put back; the text says why, and whether it can be replayed again."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record that was put aside. ``id`` is ``<service>:<offset>``; ``topic`` is where it came from."""

    id: str
    topic: str
    partition: int
    offset: int
    reason: str
    at: datetime
    replayed: bool
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, str]
    own_headers: tuple[tuple[str, bytes], ...]
    """Those that the record came with, byte for byte."""


async def letters(
    settings: ServiceSettings, services: Sequence[str] = SERVICES, *, reason: str = "", topic: str = ""
) -> list[DeadLetter]:
    """The dead letters of services, newest first; ``reason`` and ``topic`` are texts that theirs must contain."""
    found: list[DeadLetter] = []
    for service in services:
        records = await _read(settings, dead_letters(settings.group(service)))
        replayed = {header(r, _REPLAYED) for r in records}
        found += [
            _letter(service, record, str(record.offset) in replayed)
            for record in records
            if not header(record, _REPLAYED)
        ]
    matching = [one for one in found if reason in one.reason and topic in one.topic]
    return sorted(matching, key=lambda one: one.at, reverse=True)


async def replay(settings: ServiceSettings, chosen: Sequence[DeadLetter]) -> int:
    """Send letters back to the topics they came from, each as it was; returns how many. Of a restricted topic the
    letter holds nothing, and the record is read there once more. Raises ReplayFailed."""
    publisher = Publisher(
        settings.kafka_bootstrap, settings.topic_prefix, "deadletters", security=kafka_options(settings)
    )
    try:
        for letter in chosen:
            service, _, offset = letter.id.partition(":")
            original = await _origin(settings, letter) if letter.reason == WITHHELD else _as_kept(letter)
            mark: Record = (
                dead_letters(settings.group(service)),
                letter.key,
                b"",
                [(_REPLAYED, offset.encode()), ("dlq_at", now().isoformat().encode())],
            )
            for record in (original, mark):
                if not all(await publisher.send([record])):
                    raise ReplayFailed(f"dead letter {letter.id} was not acknowledged; replay it again")
    finally:
        await publisher.stop()
    return len(chosen)


def _as_kept(letter: DeadLetter) -> Record:
    return (letter.topic, letter.key, letter.value, letter.own_headers)


async def _origin(settings: ServiceSettings, letter: DeadLetter) -> Record:
    """The record that a letter is about, where it came from. Raises ReplayFailed if it has been compacted away."""
    at = TopicPartition(letter.topic, letter.partition)
    async with _reader(settings) as consumer:
        consumer.assign([at])
        consumer.seek(at, letter.offset)
        found = [record for records in (await consumer.getmany(at, timeout_ms=5000)).values() for record in records]
    if not found or found[0].offset != letter.offset:
        raise ReplayFailed(
            f"dead letter {letter.id}: {letter.topic} no longer has it, since a later one has replaced it"
        )
    record = found[0]
    return (letter.topic, record.key, record.value, record.headers)


async def _read(settings: ServiceSettings, topic: str) -> list[ConsumerRecord]:
    """All that a topic of dead letters holds now (it has one partition, `shared.topics.specs`); nothing where there is
    no such topic."""
    async with _reader(settings) as consumer:
        if topic not in await consumer.topics():
            return []
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        records: list[ConsumerRecord] = []
        while await consumer.position(partition) < end:
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                records += batch
        return records


@asynccontextmanager
async def _reader(settings: ServiceSettings) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap, enable_auto_commit=False, **kafka_options(settings)
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


def header(record: ConsumerRecord, name: str) -> str:
    """A header of a record as text; empty where it has none."""
    return next((_text(value) for key, value in record.headers if key == name), "")


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")


def _letter(service: str, record: ConsumerRecord, replayed: bool) -> DeadLetter:
    return DeadLetter(
        id=f"{service}:{record.offset}",
        topic=header(record, "dlq_topic"),
        partition=int(header(record, "dlq_partition") or -1),
        offset=int(header(record, "dlq_offset") or -1),
        reason=header(record, "dlq_reason"),
        at=datetime.fromtimestamp(record.timestamp / 1000, UTC),
        replayed=replayed,
        key=record.key,
        value=record.value,
        headers={name: _text(value) for name, value in record.headers},
        own_headers=tuple((name, value) for name, value in record.headers if not name.startswith("dlq_")),
    )
