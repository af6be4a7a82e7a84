"""Consuming, on a real broker and in memory: nothing lost, nothing held up by a bad record, nothing committed before it
is applied."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import structlog
from aiokafka import AIOKafkaConsumer
from faststream import AckPolicy

from deploy.local.servers import Servers
from shared import consumer as consuming
from shared import topics
from shared.consumer import EventConsumer
from shared.deadletters import DeadLetter, letters, replay
from shared.events import Event
from shared.journal import Overloaded
from shared.projection import Projection
from shared.publisher import Publisher, Record
from shared.receiver import ATTEMPTS
from shared.records import headers_of
from shared.settings import ServiceSettings
from shared.sop import Transition
from shared.storage import TRANSIENT
from tests.contract.brokers import Consumer, KafkaSite, MemorySite, Reader, Site
from tests.support.events import STRAIGHT, TRACE, Chain
from tests.support.memory import MemoryDocuments
from tests.support.running import until

SERVICE = "sla"
TOPICS = tuple(transition.topic for transition in STRAIGHT)
BATCH = 50


@pytest.fixture
async def settings(servers: Servers, namespace: str) -> ServiceSettings:
    made = ServiceSettings(
        namespace=namespace,
        kafka_bootstrap=servers.kafka_bootstrap,
        mongo_url=servers.mongo_url,
        topic_partitions=2,
        consumer_batch=BATCH,
    )
    await topics.create(made)
    return made


@pytest.fixture(params=["memory", "kafka"])
def site(request: pytest.FixtureRequest) -> Site:
    if request.param == "memory":
        return MemorySite(ServiceSettings(namespace="memory", topic_partitions=2, consumer_batch=BATCH))
    return KafkaSite(request.getfixturevalue("settings"))


@pytest.fixture
async def publisher(site: Site) -> AsyncIterator[Publisher]:
    made = site.publisher("tests")
    yield made
    await made.stop()


@asynccontextmanager
async def consuming_with(site: Site, handle: Reader, publisher: Publisher) -> AsyncIterator[Consumer]:
    consumer = site.consumer(SERVICE, TOPICS, handle, publisher)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def put_aside(site: Site, number: int) -> list[DeadLetter]:
    async def found() -> list[DeadLetter] | None:
        aside = await site.letters(SERVICE)
        return aside if len(aside) >= number else None

    return list(await until(found, within=30) or ())


def record(settings: ServiceSettings, event: Event, **changes: object) -> Record:
    """An event's record as its desk would send it, with changes."""
    good: dict[str, object] = {
        "key": event.key.encode(),
        "value": event.model_dump_json().encode(),
        "headers": headers_of(event, "tests"),
    }
    given = good | changes
    return (settings.topic_prefix + event.topic, given["key"], given["value"], given["headers"])  # type: ignore[return-value] # as named


def with_header(event: Event, name: str, value: bytes | None) -> list[tuple[str, bytes | None]]:
    return [*((n, v) for n, v in headers_of(event, "tests") if n != name), (name, value)]


async def test_every_event_arrives_in_batches(site: Site, publisher: Publisher) -> None:
    events = [event for _ in range(40) for event in Chain().through(*STRAIGHT[1:]).events]
    await publisher.publish(events)
    reader = Reader()
    async with consuming_with(site, reader, publisher) as consumer:
        await reader.has(*events)
        assert sorted(reader.taken) == sorted(event.id for event in events)
        assert reader.calls < len(events) / 5
        assert reader.most <= BATCH

        async def level() -> bool:
            return await site.committed(SERVICE, TOPICS) == len(events) and getattr(consumer, "lag", 0) == 0

        await until(level)
        assert not getattr(consumer, "stalled", False)
    assert await site.letters(SERVICE) == []


async def test_bad_records_are_put_aside_with_their_reason_and_hold_up_nobody(site: Site, publisher: Publisher) -> None:
    good = [Chain().last for _ in range(10)]
    e = Chain().last
    other = Chain().last
    bad: dict[str, Record] = {
        "Invalid JSON": record(site.settings, e, value=b"{not json"),
        "EOF while parsing": record(site.settings, e, value=b""),
        "expected value": record(site.settings, e, value=b"\xff\xfe"),
        "report.title: Field required": record(
            site.settings, e, value=e.model_dump_json().replace('"title"', '"x"').encode()
        ),
        "out of range": record(
            site.settings,
            e,
            value=e.model_dump_json().replace("2026-03-02T02:00:00Z", "0001-01-01T00:00:00+14:00").encode(),
        ),
        "recursion limit": record(site.settings, e, value=b"[" * 100_000),
        "ce_type is b'lapor.complaint.closed.v1'": record(
            site.settings, e, headers=with_header(e, "ce_type", b"lapor.complaint.closed.v1")
        ),
        "ce_type is None": record(site.settings, e, headers=()),
        "header ce_id is b'other'": record(site.settings, e, headers=with_header(e, "ce_id", b"other")),
        "header ce_id is None": record(site.settings, e, headers=with_header(e, "ce_id", None)),
        "the record's key is b'other'": record(site.settings, e, key=b"other"),
        "the record's key is None": record(site.settings, e, key=None),
        "is not complaint_id:seq": record(
            site.settings,
            other.model_copy(update={"id": "made-up"}),
            headers=headers_of(other.model_copy(update={"id": "made-up"}), "tests"),
        ),
        "seq: Input should be greater than or equal to 1": record(
            site.settings, e, value=e.model_dump_json().replace('"seq":1', '"seq":0').encode()
        ),
    }
    largest = record(site.settings, e, value=b"x" * (2**20 - 5000))
    records = [record(site.settings, event) for event in good]
    for position, poison in enumerate([*bad.values(), largest]):
        records.insert(position, poison)
    await site.send_nothing(site.settings.topic_prefix + e.topic)
    assert all(await publisher.send(records))
    reader = Reader()
    async with consuming_with(site, reader, publisher):
        await reader.has(*good)
        aside = await put_aside(site, len(bad) + 2)

        async def all_committed() -> bool:
            return await site.committed(SERVICE, TOPICS) == len(records) + 1

        await until(all_committed)
    assert sorted(reader.taken) == sorted(event.id for event in good)
    assert len(aside) == len(bad) + 2, "each once"
    reasons = [letter.reason for letter in aside]
    for expected in bad:
        assert any(expected in reason for reason in reasons), (expected, reasons)
    assert {letter.topic for letter in aside} == {site.settings.topic_prefix + e.topic}


async def test_what_becomes_of_a_record_is_logged_with_the_trace_of_its_request(
    site: Site, publisher: Publisher
) -> None:
    event, reader = Chain().last, Reader()

    def defect(_: Event) -> None:
        raise ValueError

    reader.fails = defect
    with structlog.testing.capture_logs() as logs:
        await publisher.publish([event], {event.id: TRACE})
        async with consuming_with(site, reader, publisher):
            await put_aside(site, 1)
    told = [(entry["event"], entry["trace_id"]) for entry in logs if "trace_id" in entry]
    assert told == [("an event failed", TRACE[3:35])] * ATTEMPTS + [("dead letter", TRACE[3:35])]


async def test_a_repaired_letter_is_replayed_as_it_was(settings: ServiceSettings, kafka: Publisher) -> None:
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
    await kafka.send([record(settings, event, headers=strange), record(settings, plain, key=plain.key.encode())])
    async with consuming_with(KafkaSite(settings), reader, kafka):
        aside = await put_aside(KafkaSite(settings), 2)
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
    settings: ServiceSettings, kafka: Publisher
) -> None:
    first, second = Chain().last, Chain().through(Transition.FORWARDED).last
    reader = Reader()
    async with consuming_with(KafkaSite(settings), reader, kafka):
        await kafka.send([record(settings, first, key=None)])
        await put_aside(KafkaSite(settings), 1)
        await kafka.send([record(settings, second, value=b"{")])
        newest, oldest = await put_aside(KafkaSite(settings), 2)
    assert (newest.value, newest.topic) == (b"{", settings.topic_prefix + "complaint.forwarded")
    assert await letters(settings, reason="key is None") == [oldest]
    assert await letters(settings, topic="forwarded") == [newest]
    assert await letters(settings, ["opd"]) == []
    assert oldest.id == f"{SERVICE}:0"
    assert await replay(settings, [oldest]) == 1, "without a key as well"


@pytest.mark.parametrize("error", [TRANSIENT[0]("the database is away"), TimeoutError("too slow"), Overloaded()])
async def test_what_is_transient_is_waited_for_and_never_a_dead_letter(
    site: Site, publisher: Publisher, error: Exception
) -> None:
    events = [Chain().last for _ in range(20)]
    reader, away = Reader(), True

    def while_away(_: Event) -> None:
        if away:
            raise error

    reader.fails = while_away
    await publisher.publish(events)
    async with consuming_with(site, reader, publisher):

        async def tried() -> bool:
            return reader.calls > ATTEMPTS

        await until(tried, within=20)
        assert await site.committed(SERVICE, TOPICS) == 0, "nothing is committed that was not applied"
        away = False
        await reader.has(*events)
    assert sorted(reader.taken) == sorted(event.id for event in events)
    assert await site.letters(SERVICE) == []


async def test_if_dead_letters_cannot_be_written_the_batch_comes_again(
    site: Site, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = 2
    willing = publisher.send

    async def send(records: Sequence[Record]) -> list[bool]:
        nonlocal refusals
        refusals -= 1
        return [False] * len(records) if refusals >= 0 else await willing(records)

    good = Chain().last
    await publisher.send([record(site.settings, Chain().last, value=b"{"), record(site.settings, good)])
    monkeypatch.setattr(publisher, "send", send)
    reader = Reader()
    async with consuming_with(site, reader, publisher):
        assert len(await put_aside(site, 1)) == 1
        await reader.has(good)
    assert refusals < 0


async def test_a_consumer_that_dies_before_the_commit_leaves_its_batch_to_the_next(
    site: Site, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
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
    dying = site.consumer(SERVICE, TOPICS, Dying(), publisher)
    await dying.start()

    async def projected() -> bool:
        return len(store.documents.get(chain.complaint_id, {}).get("history", ())) == len(chain.events)

    await until(projected, within=30)
    before = store.documents[chain.complaint_id]
    await dying.stop()
    assert await site.committed(SERVICE, TOPICS) < len(chain.events)

    class Second(Reader):
        async def __call__(self, events: Sequence[Event]) -> None:
            await projection.apply(events)
            await super().__call__(events)

    second = Second()
    async with consuming_with(site, second, publisher):

        async def level() -> bool:
            return await site.committed(SERVICE, TOPICS) == len(chain.events)

        await until(level, within=30)
    assert second.taken, "some came again"
    assert store.documents == {chain.complaint_id: before}


async def test_what_is_done_after_its_partition_has_left_sets_the_group_not_back(
    site: Site, publisher: Publisher
) -> None:
    """One process holds a batch while another takes over, goes on and leaves again."""
    first, then = [Chain().last for _ in range(8)], [Chain().last for _ in range(8)]
    hold, every = asyncio.Event(), site.settings.topic_partitions * len(TOPICS)

    class Slow(Reader):
        async def __call__(self, events: Sequence[Event]) -> None:
            await super().__call__(events)
            await hold.wait()

    slow, quick = Slow(), Reader()
    await publisher.publish(first)
    async with consuming_with(site, slow, publisher) as consumer:

        async def under_way() -> bool:
            return bool(slow.taken)

        await until(under_way, within=30)
        other = site.consumer(SERVICE, TOPICS, quick, publisher)
        await other.start()

        async def taken_over() -> bool:
            return bool(quick.taken)

        await until(taken_over, within=60)
        await publisher.publish(then)

        async def gone_on() -> bool:
            return bool(set(quick.taken) & {event.id for event in then})

        await until(gone_on, within=30)
        await other.stop()

        async def back() -> bool:
            if not isinstance(consumer, EventConsumer):
                return True  # in memory at once
            kafka = consumer.subscriber.consumer
            return kafka is not None and len(kafka.assignment()) == every

        await until(back, within=30)
        hold.set()
        await slow.has(*(event for event in (*first, *then) if event.id not in quick.taken))

        async def level() -> bool:
            return await site.committed(SERVICE, TOPICS) == len(first) + len(then)

        await until(level, within=30)
        await asyncio.sleep(1)
        assert await level(), "nor later"


@asynccontextmanager
async def commits_held(consumer: Consumer) -> AsyncIterator[tuple[asyncio.Event, asyncio.Semaphore]]:
    """Commits hang. Gives what tells that one was begun, and what lets one go on; the end lets all."""
    assert isinstance(consumer, EventConsumer)
    client = consumer.subscriber.consumer
    assert client is not None
    commit, begun, go_on = client.commit, asyncio.Event(), asyncio.Semaphore(0)

    async def held(offsets: object) -> None:
        begun.set()
        await go_on.acquire()
        await commit(offsets)

    client.commit = held
    try:
        yield begun, go_on
    finally:
        client.commit = commit
        go_on.release()


async def test_what_is_done_during_a_commit_is_committed_by_the_next(
    settings: ServiceSettings, kafka: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a commit that failed is waited after: who follows the offsets would see everything later."""
    monkeypatch.setattr(consuming, "_AGAIN_SECONDS", 3600)
    site, reader, events = KafkaSite(settings), Reader(), [Chain().last for _ in range(2)]
    async with consuming_with(site, reader, kafka) as consumer, commits_held(consumer) as (begun, go_on):
        await kafka.publish(events[:1])
        await begun.wait()
        await kafka.publish(events[1:])
        await reader.has(*events)
        go_on.release()
        go_on.release()

        async def level() -> bool:
            return await site.committed(SERVICE, TOPICS) == len(events)

        await until(level, within=30)


async def test_stalled_is_taking_without_committing_but_not_what_comes_after_a_pause(
    settings: ServiceSettings, kafka: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that hangs; after a pause the broker may have been away, and is given time to take it."""
    monkeypatch.setattr(consuming, "_STALLED", timedelta(seconds=1))
    site, reader = KafkaSite(settings), Reader()

    async def another() -> None:
        event = Chain().last
        await kafka.publish([event])
        await reader.has(event)

    async with consuming_with(site, reader, kafka) as consumer, commits_held(consumer) as (_, go_on):
        assert isinstance(consumer, EventConsumer)
        await another()
        await asyncio.sleep(2.5)
        await another()
        stalled = consumer.stalled
        assert not stalled, "what has just come is not committed late"

        async def stalls() -> bool:
            await another()
            return consumer.stalled

        await until(stalls, within=30)
        go_on.release()

        async def over() -> bool:
            return not consumer.stalled

        await until(over, within=30)  # while what was taken meanwhile is not committed yet


def test_no_subscriber_acknowledges_before_its_work_is_done(settings: ServiceSettings, kafka: Publisher) -> None:
    """FastStream's own default is at most once."""
    consumer = EventConsumer(settings, SERVICE, TOPICS, Reader(), kafka)
    (subscriber,) = consumer.broker.subscribers
    assert subscriber is consumer.subscriber
    assert subscriber.ack_policy is AckPolicy.MANUAL, "acknowledged by us, after the work: the tests above"
    assert subscriber._connection_args["enable_auto_commit"] is False
    assert subscriber._connection_args["auto_offset_reset"] == "earliest"


async def test_stalled_is_lag_without_progress_but_not_waiting_for_what_is_away(
    settings: ServiceSettings, kafka: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "_STALLED", timedelta(seconds=0.5))
    reader = Reader()
    consumer = EventConsumer(settings, SERVICE, TOPICS, reader, kafka)
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
