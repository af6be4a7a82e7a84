"""A service running in the test's own process, and the topics seen by an independent consumer."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

import httpx
from aiokafka import AIOKafkaConsumer
from fastapi import FastAPI

from shared.events import Event
from shared.publisher import Publisher
from shared.rates import RATES, LimitSettings
from shared.records import from_record
from shared.settings import ServiceSettings
from tests.support import tokens

T = TypeVar("T")
UNHURRIED = LimitSettings(rates={f"{kind}/{who}": "100000/60" for kind, who in RATES})
"""For a service whose tests are all at one address, and do in a minute as much as the machine can."""


@asynccontextmanager
async def running(app: FastAPI, within: float = 30) -> AsyncIterator[httpx.AsyncClient]:
    """The application between start-up and shutdown, ready, and a client of it. It accepts the tests' tokens."""
    tokens.trust(app.state.verifier)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client,
    ):

        async def ready() -> bool:
            return (await client.get("/health/ready")).status_code == 200

        await until(ready, within=within)
        yield client


async def until(look: Callable[[], Awaitable[T]], within: float = 15) -> T:
    """What ``look`` returns once that is true. Raises TimeoutError with the last answer."""
    deadline = time.monotonic() + within
    while True:
        found = await look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {within} s still {found!r}")
        await asyncio.sleep(0.05)


async def publish(settings: ServiceSettings, events: Iterable[Event]) -> None:
    """Publish events as their desks would; raises AssertionError if one was not acknowledged."""
    publisher = Publisher(settings.kafka_bootstrap, settings.topic_prefix, "tests")
    wanted = list(events)
    try:
        assert await publisher.publish(wanted) == [event.id for event in wanted]
    finally:
        await publisher.stop()


async def read_topics(settings: ServiceSettings, *topics: str, quiet: float = 1.5) -> list[Event]:
    """All that topics (without the namespace) hold, decoded; ends when nothing more comes for ``quiet`` seconds."""
    names = [settings.topic_prefix + topic for topic in topics]
    consumer = AIOKafkaConsumer(
        *names, bootstrap_servers=settings.kafka_bootstrap, auto_offset_reset="earliest", group_id=None
    )
    await consumer.start()
    found: list[Event] = []
    try:
        while batch := await consumer.getmany(timeout_ms=int(quiet * 1000)):
            for records in batch.values():
                found += [
                    from_record(r.topic.removeprefix(settings.topic_prefix), r.key, r.value, r.headers) for r in records
                ]
    finally:
        await consumer.stop()
    return found
