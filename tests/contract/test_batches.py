"""How a consumer puts a batch together where much waits, on a real broker."""

import asyncio
import gc
import time
from collections.abc import Mapping, Sequence

from aiokafka import ConsumerRecord, TopicPartition

from shared.consumer import EventConsumer
from shared.events import Event
from shared.pieces import pieces
from shared.publisher import Publisher
from shared.settings import FollowerSettings, ServiceSettings
from shared.sop import Transition
from tests.contract.brokers import Reader
from tests.support.events import Chain, report
from tests.support.running import until

SERVICE = "sla"


async def test_a_backlog_comes_evenly_from_all_topics(settings: ServiceSettings, kafka: Publisher) -> None:
    """Or topics whose events are short run ahead of the others, and each complaint is folded and written many times."""
    long = report(description="Lubang besar di tengah jalan. " * 100)
    chains = [Chain(report=long) for _ in range(1500)]
    for chain in chains:
        chain.through(Transition.FORWARDED, Transition.ASSIGNED, Transition.STARTED)
    events = [event for chain in chains for event in chain.events]
    for piece in pieces(events, 500):
        assert len(await kafka.publish(piece)) == 500
    batches: list[set[str]] = []
    taken: set[str] = set()

    async def handle(some: Sequence[Event]) -> None:
        batches.append({event.key for event in some})
        taken.update(event.id for event in some)

    at_once = settings.model_copy(update={"consumer_batch": 2000})
    topics = sorted({event.topic for event in events}, reverse=True)
    consumer = EventConsumer(at_once, SERVICE, topics, handle, kafka)
    await consumer.start()
    try:

        async def all_taken() -> bool:
            return len(taken) == len(events)

        await until(all_taken, within=60)
    finally:
        await consumer.stop()
    assert sum(map(len, batches)) < 2 * len(chains), [len(batch) for batch in batches]


class Interrupted(EventConsumer):
    """Another process joins its group while it puts its first batch together."""

    other: EventConsumer | None = None
    in_a_batch = False

    def _taken(self, found: Mapping[TopicPartition, list[ConsumerRecord]]) -> list[ConsumerRecord]:
        self.in_a_batch = bool(found)
        return super()._taken(found)

    async def _left_to_take(self) -> dict[TopicPartition, int]:
        if self.other and self.in_a_batch:
            other, self.other, before = self.other, None, self._assignments
            await other.start()

            async def shared_out() -> bool:
                return self._assignments > before

            await until(shared_out, within=30)
        return await super()._left_to_take()


async def test_what_was_taken_before_the_partitions_were_shared_out_anew_comes_again_and_is_not_done_twice(
    settings: ServiceSettings, kafka: Publisher
) -> None:
    events = [Chain().last for _ in range(800)]
    assert len(await kafka.publish(events)) == len(events)
    at_once = settings.model_copy(update={"consumer_batch": 2000})
    topics = [events[0].topic]
    here, elsewhere = Reader(), Reader()
    consumer = Interrupted(at_once, SERVICE, topics, here, kafka)
    other = consumer.other = EventConsumer(at_once, SERVICE, topics, elsewhere, kafka)
    await consumer.start()
    try:

        async def all_taken() -> bool:
            return {*here.taken, *elsewhere.taken} == {event.id for event in events}

        await until(all_taken, within=60)
        await asyncio.sleep(1)
    finally:
        await consumer.stop()
        await other.stop()
    assert here.taken
    assert elsewhere.taken
    assert len(here.taken) + len(elsewhere.taken) == len(events)


async def test_a_batch_is_gone_when_it_is_done_without_any_collection(
    settings: ServiceSettings, kafka: Publisher
) -> None:
    """Or thousands of records pile up until garbage is collected, while everybody waits for that."""
    events = [Chain().last for _ in range(100)]
    assert len(await kafka.publish(events)) == len(events)
    reader = Reader()
    consumer = EventConsumer(settings, SERVICE, [events[0].topic], reader, kafka)
    gc.collect()
    gc.disable()
    try:
        await consumer.start()
        try:
            await reader.has(*events)
        finally:
            await consumer.stop()
        topic = settings.topic_prefix + events[0].topic
        assert not [o for o in gc.get_objects() if isinstance(o, ConsumerRecord) and o.topic == topic]
    finally:
        gc.enable()


async def test_who_is_not_waited_for_lets_the_broker_collect_what_comes(
    settings: ServiceSettings, kafka: Publisher
) -> None:
    """And a record that nothing follows comes all the same."""
    wants_more = settings.model_copy(update={"consumer_fetch_bytes": FollowerSettings().consumer_fetch_bytes})
    events = [Chain().last for _ in range(60)]
    reader = Reader()
    consumer = EventConsumer(wants_more, SERVICE, [events[0].topic], reader, kafka)
    await consumer.start()
    try:
        assert await kafka.publish([events[0]])
        await reader.has(events[0])
        began = time.monotonic()
        for event in events[1:]:
            assert await kafka.publish([event])
        fetches = (time.monotonic() - began) / 0.1
        await reader.has(*events)
    finally:
        await consumer.stop()
    assert reader.calls - 1 <= fetches + 2
