"""Consuming on a real broker: nothing lost, nothing held up by a bad record, nothing committed before it is applied."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from faststream import AckPolicy

from deploy.local.servers import Servers
from shared import consumer as consuming
from shared import topics
from shared.consumer import EventConsumer
from shared.deadletters import DeadLetter, letters, replay
from shared.events import Event, headers_of
from shared.projection import Projection
from shared.publisher import Publisher, Record
from shared.receiver import ATTEMPTS
from shared.settings import ServiceSettings
from shared.sop import Transition
from shared.storage import TRANSIENT
from tests.support.events import STRAIGHT, Chain
from tests.support.memory import MemoryDocuments
from tests.support.running import until

SERVICE = "sla"
TOPICS = tuple(transition.topic for transition in STRAIGHT)


@pytest.fixture
async def settings(servers: Servers, namespace: str) -> ServiceSettings:
    made = ServiceSettings(
        namespace=namespace,
        kafka_bootstrap=servers.kafka_bootstrap,
        mongo_url=servers.mongo_url,
        topic_partitions=2,
        consumer_batch=50,
    )
    await topics.create(made)
    return made


@pytest.fixture
async def publisher(settings: ServiceSettings) -> AsyncIterator[Publisher]:
    made = Publisher(settings.kafka_bootstrap, settings.topic_prefix, "tests")
    yield made
    await made.stop()


class Reader:
    """A handler that keeps what it is given; ``fails`` may raise before an event is taken."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.calls = 0
        self.fails: Callable[[Event], object] = lambda _: None

    async def __call__(self, events: Sequence[Event]) -> None:
        self.calls += 1
        for event in events:
            self.fails(event)
        self.taken += [event.id for event in events]

    async def has(self, *events: Event) -> None:
        wanted = {event.id for event in events}

        async def all_of_them() -> bool:
            return wanted <= set(self.taken)

        await until(all_of_them, within=30)


@asynccontextmanager
async def consuming_with(
    settings: ServiceSettings, handle: Reader, publisher: Publisher
) -> AsyncIterator[EventConsumer]:
    consumer = EventConsumer(settings, SERVICE, TOPICS, handle, publisher)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def put_aside(settings: ServiceSettings, number: int) -> list[DeadLetter]:
    async def found() -> list[DeadLetter] | None:
        aside = await letters(settings, [SERVICE])
        return aside if len(aside) >= number else None

    return list(await until(found, within=30) or ())


async def committed(settings: ServiceSettings) -> int:
    """The sum of the group's committed offsets: how many records it will not get again."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap, group_id=settings.group(SERVICE), enable_auto_commit=False
    )
    await consumer.start()
    try:
        names = [settings.topic_prefix + topic for topic in TOPICS]
        partitions = [TopicPartition(name, number) for name in names for number in range(settings.topic_partitions)]
        return sum([await consumer.committed(partition) or 0 for partition in partitions])
    finally:
        await consumer.stop()


def record(settings: ServiceSettings, event: Event, **changes: object) -> Record:
    """An event's record as its desk would send it, with changes."""
    good: dict[str, object] = {
        "key": event.key.encode(),
        "value": event.model_dump_json().encode(),
        "headers": headers_of(event, "tests"),
    }
    given = good | changes
    return (settings.topic_prefix + event.topic, given["key"], given["value"], given["headers"])  # type: ignore[return-value] # as named


async def send_nothing(settings: ServiceSettings, topic: str) -> None:
    """Send a record without key and value, which Kafka takes and aiokafka's ``send`` does not."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap, acks="all")
    await producer.start()
    try:
        batch = producer.create_batch()
        batch.append(key=None, value=None, timestamp=None)
        await (await producer.send_batch(batch, topic, partition=0))
    finally:
        await producer.stop()


def with_header(event: Event, name: str, value: bytes | None) -> list[tuple[str, bytes | None]]:
    return [*((n, v) for n, v in headers_of(event, "tests") if n != name), (name, value)]


async def test_every_event_arrives_in_batches(settings: ServiceSettings, publisher: Publisher) -> None:
    events = [event for _ in range(40) for event in Chain().through(*STRAIGHT[1:]).events]
    await publisher.publish(events)
    reader = Reader()
    async with consuming_with(settings, reader, publisher) as consumer:
        await reader.has(*events)
        assert sorted(reader.taken) == sorted(event.id for event in events)
        assert reader.calls < len(events) / 5

        async def level() -> bool:
            return await committed(settings) == len(events) and consumer.lag == 0

        await until(level)
        assert not consumer.stalled
    assert await letters(settings, [SERVICE]) == []


async def test_bad_records_are_put_aside_with_their_reason_and_hold_up_nobody(
    settings: ServiceSettings, publisher: Publisher
) -> None:
    good = [Chain().last for _ in range(10)]
    e = Chain().last
    other = Chain().last
    bad: dict[str, Record] = {
        "Invalid JSON": record(settings, e, value=b"{not json"),
        "EOF while parsing": record(settings, e, value=b""),
        "expected value": record(settings, e, value=b"\xff\xfe"),
        "report.title: Field required": record(
            settings, e, value=e.model_dump_json().replace('"title"', '"x"').encode()
        ),
        "out of range": record(
            settings, e, value=e.model_dump_json().replace("2026-03-02T02:00:00Z", "0001-01-01T00:00:00+14:00").encode()
        ),
        "recursion limit": record(settings, e, value=b"[" * 100_000),
        "ce_type is b'lapor.complaint.closed.v1'": record(
            settings, e, headers=with_header(e, "ce_type", b"lapor.complaint.closed.v1")
        ),
        "ce_type is None": record(settings, e, headers=()),
        "header ce_id is b'other'": record(settings, e, headers=with_header(e, "ce_id", b"other")),
        "header ce_id is None": record(settings, e, headers=with_header(e, "ce_id", None)),
        "the record's key is b'other'": record(settings, e, key=b"other"),
        "the record's key is None": record(settings, e, key=None),
        "is not complaint_id:seq": record(
            settings,
            other.model_copy(update={"id": "made-up"}),
            headers=headers_of(other.model_copy(update={"id": "made-up"}), "tests"),
        ),
        "seq: Input should be greater than or equal to 1": record(
            settings, e, value=e.model_dump_json().replace('"seq":1', '"seq":0').encode()
        ),
    }
    largest = record(settings, e, value=b"x" * (2**20 - 5000))
    records = [record(settings, event) for event in good]
    for position, poison in enumerate([*bad.values(), largest]):
        records.insert(position, poison)
    await send_nothing(settings, settings.topic_prefix + e.topic)
    assert all(await publisher.send(records))
    reader = Reader()
    async with consuming_with(settings, reader, publisher):
        await reader.has(*good)
        aside = await put_aside(settings, len(bad) + 2)

        async def all_committed() -> bool:
            return await committed(settings) == len(records) + 1

        await until(all_committed)
    assert sorted(reader.taken) == sorted(event.id for event in good)
    assert len(aside) == len(bad) + 2, "each once"
    reasons = [letter.reason for letter in aside]
    for expected in bad:
        assert any(expected in reason for reason in reasons), (expected, reasons)
    assert {letter.topic for letter in aside} == {settings.topic_prefix + e.topic}


async def test_a_repaired_letter_is_replayed_as_it_was(settings: ServiceSettings, publisher: Publisher) -> None:
    """Byte for byte, whatever its headers hold."""
    event, plain = Chain().last, Chain().last
    strange = [
        *headers_of(event, "tests"),
        ("binary", b"\xff\x00"),
        ("nothing", None),
        ("twice", b"1"),
        ("twice", b"2"),
        ("reply_to", b"made.up"),
    ]
    reader = Reader()
    broken = {event.id, plain.id}

    def not_yet(one: Event) -> None:
        if one.id in broken:
            raise ValueError("a defect of ours")

    reader.fails = not_yet
    await publisher.send([record(settings, event, headers=strange), record(settings, plain, key=plain.key.encode())])
    async with consuming_with(settings, reader, publisher):
        aside = await put_aside(settings, 2)
        assert {letter.reason for letter in aside} == {"ValueError: a defect of ours"}
        assert reader.calls >= 2 * ATTEMPTS
        broken.clear()
        assert await replay(settings, aside) == 2
        await reader.has(event, plain)
    assert [letter.replayed for letter in await letters(settings, [SERVICE])] == [True, True]
    name = settings.topic_prefix + event.topic
    raw = AIOKafkaConsumer(name, bootstrap_servers=settings.kafka_bootstrap, auto_offset_reset="earliest")
    await raw.start()
    try:
        twice = [r for r in [await raw.getone() for _ in range(4)] if r.key == event.key.encode()]
    finally:
        await raw.stop()
    assert [list(r.headers) for r in twice] == [strange, strange]
    assert twice[0].value == twice[1].value


async def test_letters_are_listed_newest_first_and_by_topic_and_reason(
    settings: ServiceSettings, publisher: Publisher
) -> None:
    first, second = Chain().last, Chain().through(Transition.FORWARDED).last
    reader = Reader()
    async with consuming_with(settings, reader, publisher):
        await publisher.send([record(settings, first, key=None)])
        await put_aside(settings, 1)
        await publisher.send([record(settings, second, value=b"{")])
        newest, oldest = await put_aside(settings, 2)
    assert (newest.value, newest.topic) == (b"{", settings.topic_prefix + "complaint.forwarded")
    assert await letters(settings, reason="key is None") == [oldest]
    assert await letters(settings, topic="forwarded") == [newest]
    assert await letters(settings, ["opd"]) == []
    assert oldest.id == f"{SERVICE}:0"
    assert await replay(settings, [oldest]) == 1, "without a key as well"


@pytest.mark.parametrize("error", [TRANSIENT[0]("the database is away"), TimeoutError("too slow")])
async def test_what_is_transient_is_waited_for_and_never_a_dead_letter(
    settings: ServiceSettings, publisher: Publisher, error: Exception
) -> None:
    events = [Chain().last for _ in range(20)]
    reader, away = Reader(), True

    def while_away(_: Event) -> None:
        if away:
            raise error

    reader.fails = while_away
    await publisher.publish(events)
    async with consuming_with(settings, reader, publisher):

        async def tried() -> bool:
            return reader.calls > ATTEMPTS

        await until(tried, within=20)
        assert await committed(settings) == 0, "nothing is committed that was not applied"
        away = False
        await reader.has(*events)
    assert sorted(reader.taken) == sorted(event.id for event in events)
    assert await letters(settings, [SERVICE]) == []


async def test_if_dead_letters_cannot_be_written_the_batch_comes_again(
    settings: ServiceSettings, publisher: Publisher
) -> None:
    class Unwilling(Publisher):
        refusals = 2

        async def send(self, records: Sequence[Record]) -> list[bool]:
            self.refusals -= 1
            return [False] * len(records) if self.refusals >= 0 else await super().send(records)

    good = Chain().last
    await publisher.send([record(settings, Chain().last, value=b"{"), record(settings, good)])
    unwilling = Unwilling(settings.kafka_bootstrap, settings.topic_prefix, "tests")
    reader = Reader()
    try:
        async with consuming_with(settings, reader, unwilling):
            assert len(await put_aside(settings, 1)) == 1
            await reader.has(good)
    finally:
        await unwilling.stop()


async def test_a_consumer_that_dies_before_the_commit_leaves_its_batch_to_the_next(
    settings: ServiceSettings, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least once: what was not committed comes again, and projecting it again changes nothing."""
    chain = Chain().through(*STRAIGHT[1:])
    await publisher.publish(chain.events)
    store = MemoryDocuments()
    projection = Projection(store, lambda events: {"order": [e.id for e in events]}, TOPICS)

    class Dying(Reader):
        async def __call__(self, events: Sequence[Event]) -> None:
            await projection.apply(events)
            await super().__call__(events)
            if len(self.taken) == len(chain.events):
                await asyncio.Event().wait()

    monkeypatch.setattr(consuming, "_GRACE_SECONDS", 0.1)
    dying = EventConsumer(settings, SERVICE, TOPICS, Dying(), publisher)
    await dying.start()

    async def projected() -> bool:
        return store.documents.get(chain.complaint_id, {}).get("revision") == len(chain.events)

    await until(projected, within=30)
    before = store.documents[chain.complaint_id]
    await dying.stop()
    assert await committed(settings) < len(chain.events)

    class Second(Reader):
        async def __call__(self, events: Sequence[Event]) -> None:
            await projection.apply(events)
            await super().__call__(events)

    second = Second()
    async with consuming_with(settings, second, publisher):

        async def level() -> bool:
            return await committed(settings) == len(chain.events)

        await until(level, within=30)
    assert second.taken, "some came again"
    assert store.documents == {chain.complaint_id: before}


def test_no_subscriber_acknowledges_before_its_work_is_done(settings: ServiceSettings, publisher: Publisher) -> None:
    """FastStream's own default is at most once."""
    consumer = EventConsumer(settings, SERVICE, TOPICS, Reader(), publisher)
    (subscriber,) = consumer.broker.subscribers
    assert subscriber is consumer.subscriber
    assert subscriber.ack_policy is AckPolicy.NACK_ON_ERROR
    assert subscriber._connection_args["enable_auto_commit"] is False
    assert subscriber._connection_args["auto_offset_reset"] == "earliest"


async def test_stalled_is_lag_without_progress_but_not_waiting_for_what_is_away(
    settings: ServiceSettings, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "_STALLED", timedelta(seconds=0.5))
    reader = Reader()
    consumer = EventConsumer(settings, SERVICE, TOPICS, reader, publisher)
    consumer.lag = 3
    await asyncio.sleep(0.6)
    stalled = consumer.stalled
    assert stalled, "there is something to take, and nothing was taken"

    def away(_: Event) -> None:
        raise TRANSIENT[0]("the database is away")

    reader.fails = away
    waiting = asyncio.create_task(consumer._receiver._patiently([Chain().last]))
    await asyncio.sleep(0.3)
    stalled = consumer.stalled
    assert not stalled, "a restart would bring back no database"
    waiting.cancel()
