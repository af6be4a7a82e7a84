"""Dead letters on real Kafka: a bad record is put aside with its reason, listed, shown, and put back as it was."""

import asyncio
from collections.abc import Sequence

from deploy.local.servers import Servers
from shared import topics
from shared.consumer import EventConsumer
from shared.deadletters import letters, replay
from shared.events import Event, headers_of
from shared.publisher import Publisher
from shared.settings import ServiceSettings
from tests.support.events import Chain
from tests.support.running import until


async def test_a_bad_record_is_put_aside_and_can_be_put_back(servers: Servers, namespace: str) -> None:
    settings = ServiceSettings(
        namespace=namespace, kafka_bootstrap=servers.kafka_bootstrap, mongo_url=servers.mongo_url
    )
    await topics.create(settings)
    publisher = Publisher(settings.kafka_bootstrap, settings.topic_prefix, "tests")
    taken: list[Event] = []
    repaired = asyncio.Event()

    async def handle(events: Sequence[Event]) -> None:
        if not repaired.is_set() and any(event.id == stubborn.id for event in events):
            raise ValueError("not today")
        taken.extend(events)

    good, stubborn = Chain().last, Chain().last
    topic = settings.topic_prefix + good.topic
    consumer = EventConsumer(settings, "sla", [good.topic], handle, publisher)
    await consumer.start()
    try:
        bad = (topic, b"key", b"{not json", headers_of(good, "tests"))
        assert await publisher.send([bad]) == [True]
        assert len(await publisher.publish([good, stubborn])) == 2

        async def both() -> bool:
            return len(await letters(settings)) == 2

        await until(both, within=30)
        found = {one.value == b"{not json": one for one in await letters(settings)}
        assert found[True].topic == topic
        assert "JSON" in found[True].reason
        assert found[False].reason == "ValueError: not today"
        assert found[False].headers["ce_id"] == stubborn.id
        assert [event.id for event in taken] == [good.id], "the good one was not held up and came once"
        assert [one.id for one in await letters(settings, reason="not today")] == [found[False].id]

        repaired.set()
        assert await replay(settings, [found[False]]) == 1

        async def arrived() -> bool:
            return stubborn.id in {event.id for event in taken}

        await until(arrived, within=30)
        assert {one.id: one.replayed for one in await letters(settings)} == {
            found[True].id: False,
            found[False].id: True,
        }
    finally:
        await consumer.stop()
        await publisher.stop()
