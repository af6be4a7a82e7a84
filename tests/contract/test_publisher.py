"""Events as Kafka records: the contract that agency systems read, on a real broker and on the one in memory."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from shared.events import CHAIN_TOPICS, Event
from shared.publisher import MAX_RECORD_BYTES, Publisher
from shared.records import from_record, trace_of
from shared.settings import ServiceSettings
from shared.topics import dead_letters
from tests.contract.brokers import KafkaSite, MemorySite, Site
from tests.support.events import STRAIGHT, TRACE, Chain


@pytest.fixture(params=["memory", "kafka"])
def site(request: pytest.FixtureRequest) -> Site:
    if request.param == "memory":
        return MemorySite(ServiceSettings(namespace="memory"))
    return KafkaSite(request.getfixturevalue("settings"))


@pytest.fixture
async def publisher(site: Site) -> AsyncIterator[Publisher]:
    made = site.publisher("routing", wait_seconds=3)
    yield made
    await made.stop()


async def test_a_record_is_a_cloudevent_in_binary_mode(site: Site, publisher: Publisher) -> None:
    """CloudEvents Kafka binding, section 3.2; the value is plain JSON and the key is the complaint's id."""
    chain = Chain().through(*STRAIGHT[1:3])
    event = chain.last
    assert await publisher.publish([event]) == [event.id]
    (record,) = await site.read(1, f"{site.settings.namespace}.complaint.assigned")
    assert record.key == chain.complaint_id.encode()
    assert dict(record.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": f"{chain.complaint_id}:3".encode(),
        "ce_type": b"lapor.complaint.assigned.v1",
        "ce_source": b"/lapor/routing",
        "ce_subject": chain.complaint_id.encode(),
        "ce_time": b"2026-03-02T02:02:00+00:00",
        "content-type": b"application/json",
    }
    value = json.loads(record.value)
    assert (value["id"], value["seq"], value["agency"]["code"]) == (event.id, 3, "DPUPR")
    assert value["occurred_at"] == "2026-03-02T02:02:00Z"
    assert from_record("complaint.assigned", record.key, record.value, record.headers) == event


async def test_each_transition_goes_to_its_own_topic_and_each_complaint_to_one_partition(
    site: Site, publisher: Publisher
) -> None:
    chains = [Chain().through(*STRAIGHT[1:]) for _ in range(12)]
    events = [event for chain in chains for event in chain.events]
    assert await publisher.publish(events) == [event.id for event in events]
    records = await site.read(len(events), *(site.settings.topic_prefix + topic for topic in CHAIN_TOPICS))
    found = {(r.topic.removeprefix(site.settings.topic_prefix), dict(r.headers)["ce_id"].decode()) for r in records}
    assert found == {(event.topic, event.id) for event in events}
    partitions: dict[bytes, set[int]] = {}
    for record in records:
        partitions.setdefault(record.key, set()).add(record.partition)
    assert all(len(used) == 1 for used in partitions.values()), "the same partition number in each topic"
    assert len({number for used in partitions.values() for number in used}) > 1


async def test_the_trace_context_travels_with_the_record_and_no_other(site: Site, publisher: Publisher) -> None:
    traced, untraced = Chain().last, Chain().last
    await publisher.publish([traced, untraced], {traced.id: TRACE})
    records = await site.read(2, site.settings.topic_prefix + traced.topic)
    found = {dict(record.headers)["ce_id"].decode(): trace_of(record.headers) for record in records}
    assert found == {traced.id: TRACE[3:35], untraced.id: None}


async def test_a_record_that_is_too_large_fails_alone(site: Site, publisher: Publisher) -> None:
    topic = dead_letters(site.settings.group("opd"))
    small = (topic, b"k", b"small", ())
    for size in (MAX_RECORD_BYTES + 1, 2**20):
        outcome = await publisher.send([small, (topic, b"k", b"x" * size, ()), small])
        assert outcome == [True, size == 2**20, True]
    assert len(await site.read(5, topic)) == 5


async def test_what_does_not_fit_into_one_batch_goes_in_several_in_its_order(site: Site, publisher: Publisher) -> None:
    topic = dead_letters(site.settings.group("opd"))
    values = [b"%03d" % number + b"x" * 4000 for number in range(100)]
    assert await publisher.send([(topic, b"k", value, ()) for value in values]) == [True] * len(values)
    assert [record.value for record in await site.read(len(values), topic)] == values


async def test_a_topic_that_is_not_there_is_told_in_time_and_the_next_send_works(
    site: Site, publisher: Publisher
) -> None:
    """Brokers do not create topics by themselves."""
    absent = (f"{site.settings.namespace}.no-such-topic", b"k", b"v", ())
    present = (dead_letters(site.settings.group("opd")), b"k", b"v", ())
    async with asyncio.timeout(10):
        assert await publisher.send([absent, present, absent]) == [False, True, False]
    event: Event = Chain().last
    assert await publisher.publish([event]) == [event.id]


async def test_without_a_broker_nothing_is_acknowledged_nor_raised() -> None:
    publisher = Publisher("127.0.0.1:1", "none.", "tests", wait_seconds=1)
    async with asyncio.timeout(8):
        assert await publisher.publish([Chain().last, Chain().last]) == []
        await publisher.stop()


async def test_stop_closes_every_connection(settings: ServiceSettings) -> None:
    before = asyncio.all_tasks()
    publisher = Publisher(settings.kafka_bootstrap, settings.topic_prefix, "tests", wait_seconds=2)
    await publisher.publish([Chain().last])
    await publisher.send([(f"{settings.namespace}.no-such-topic", b"k", b"v", ())])
    await publisher.publish([Chain().last])
    await publisher.stop()
    await asyncio.sleep(0.1)
    assert asyncio.all_tasks() - before == set()


async def test_an_acknowledgement_is_that_of_all_replicas_in_sync(settings: ServiceSettings) -> None:
    """aiokafka's own default is the leader's alone."""
    publisher = Publisher(settings.kafka_bootstrap, settings.topic_prefix, "routing", wait_seconds=3)
    await publisher.publish([Chain().last])
    producer = publisher._producer
    assert producer is not None
    assert producer._sender._acks == -1, "Kafka's number for all"
    await publisher.stop()


async def test_what_is_cancelled_on_its_way_is_not_acknowledged(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = Publisher(settings.kafka_bootstrap, settings.topic_prefix, "routing", wait_seconds=3)
    event = Chain().last
    await publisher.publish([event])

    async def cancelled(*_: object, **__: object) -> asyncio.Future[None]:
        acknowledgement: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        acknowledgement.cancel()
        return acknowledgement

    with monkeypatch.context() as patch:
        patch.setattr(publisher._producer, "send_batch", cancelled)
        assert await publisher.publish([event]) == []
    assert await publisher.publish([event]) == [event.id], "with a producer of its own"
    await publisher.stop()
