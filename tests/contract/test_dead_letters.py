"""Dead letters on real Kafka: a bad record is put aside with its reason, listed, shown, and put back as it was."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from deploy.local.servers import Servers
from shared import deadletters, topics
from shared.consumer import EventConsumer
from shared.deadletters import DeadLetter, ReplayFailed, letters, replay
from shared.events import CitizenContact, Event, now
from shared.publisher import Publisher
from shared.records import headers_of
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

        await until(both, within=60)
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

        await until(arrived, within=60)
        assert {one.id: one.replayed for one in await letters(settings)} == {
            found[True].id: False,
            found[False].id: True,
        }
    finally:
        await consumer.stop()
        await publisher.stop()


async def test_nothing_of_a_record_with_personal_data_is_put_aside_and_it_can_be_replayed(
    servers: Servers, namespace: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whether it cannot be read or whatever takes it has a defect."""
    settings = ServiceSettings(
        namespace=namespace, kafka_bootstrap=servers.kafka_bootstrap, mongo_url=servers.mongo_url
    )
    await topics.create(settings)
    publisher = Publisher(settings.kafka_bootstrap, settings.topic_prefix, "tests")
    contact = CitizenContact(
        id="contact:1", occurred_at=now(), citizen_id="citizen-1", version=1,
        name="Canary Binti Kenari", email="canary@warga.example", phone=None, language="id",
    )  # fmt: skip
    taken: list[Event] = []
    repaired = asyncio.Event()

    async def handle(events: Sequence[Event]) -> None:
        if not repaired.is_set():
            raise ValueError(f"cannot take {events}")
        taken.extend(events)

    consumer = EventConsumer(settings, "notify", [contact.topic], handle, publisher)
    await consumer.start()
    try:
        broken = b'{"name": "Canary Binti Kenari", "email": "canary@warga.example"}'
        topic = settings.topic_prefix + contact.topic
        assert await publisher.send([(topic, b"canary-key", broken, [("canary", b"canary@warga.example")])]) == [True]
        assert await publisher.publish([contact]) == [contact.id]

        async def both() -> bool:
            return len(await letters(settings)) == 2

        await until(both, within=60)
        found = sorted(await letters(settings), key=lambda one: one.offset)
        assert "canary" not in repr(found).lower()
        logged = "".join(capfd.readouterr())
        assert "an event failed" in logged
        assert "canary" not in logged.lower()
        assert {(one.topic, one.value, one.key) for one in found} == {(topic, b"", None)}

        repaired.set()
        (its,) = [one for one in found if await _is(settings, one, contact)]
        assert await replay(settings, [its]) == 1

        async def arrived() -> bool:
            return contact in taken

        await until(arrived, within=60)
        with pytest.raises(ReplayFailed, match="no longer has it"):
            await replay(settings, [replace(its, offset=1000)])
    finally:
        await consumer.stop()
        await publisher.stop()


async def _is(settings: ServiceSettings, letter: DeadLetter, event: Event) -> bool:
    _, key, _, _ = await deadletters._origin(settings, letter)
    return key == event.key.encode()
