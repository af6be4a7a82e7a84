"""What every service does while its servers are away: it says so, and takes what can be taken."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import APIRouter

from deploy.local import ports
from deploy.local.servers import Servers
from shared import service as service_module
from shared import topics
from shared.contract import Contract
from shared.events import CHAIN_TOPICS, AuditAnchored, ComplaintEvent
from shared.http import Once
from shared.projection import Document, Projection
from shared.service import Service, Step
from shared.settings import ServiceSettings
from shared.sop import Role, Transition
from shared.storage import MongoDocuments, MongoJournal
from tests.chaos.proxy import Proxy
from tests.support import tokens
from tests.support.events import Chain
from tests.support.running import read_topics, until

NOWHERE = "127.0.0.1:1"


def derive(events: Sequence[ComplaintEvent]) -> Document:
    """The least that a projection derives."""
    return {"events": len(events)}


@asynccontextmanager
async def at_work(settings: ServiceSettings, *periodic: Step) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    """A service with one move and ``periodic`` work once an hour, started but not waited for."""
    service = Service("opd", settings, Contract(CHAIN_TOPICS[1:], CHAIN_TOPICS[:1]))
    for step in periodic:
        service.every(timedelta(hours=1), step)
    projection = Projection(MongoDocuments(service.database["cases"]), derive, CHAIN_TOPICS)
    journal = service.journal([projection])
    service.consume(projection.apply)
    router = APIRouter()

    @router.post("/moves", status_code=201)
    async def move(once: Once) -> dict[str, str]:
        return {"id": (await journal.append(Chain().last, once)).id}

    app = service.app("a service", "of the tests", [router])
    tokens.trust(service.verifier)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        yield service, client


@pytest.fixture
def settings(servers: Servers, namespace: str) -> ServiceSettings:
    return ServiceSettings(
        namespace=namespace,
        kafka_bootstrap=servers.kafka_bootstrap,
        mongo_url=servers.mongo_url,
        relay_after_seconds=0.2,
    )


async def missing(client: httpx.AsyncClient) -> list[str]:
    answer = await client.get("/health/ready")
    absent: list[str] = answer.json()["missing"]
    assert answer.status_code == (503 if absent else 200)
    return absent


def asked(by: str) -> dict[str, str]:
    return tokens.bearer(Role.CITIZEN, by) | {"Idempotency-Key": "the-same-key"}


async def test_without_brokers_moves_are_taken_and_published_later(settings: ServiceSettings) -> None:
    """A service that starts while Kafka is away: the journal is the outbox."""
    away = settings.model_copy(update={"kafka_bootstrap": NOWHERE})
    async with at_work(away) as (service, client):

        async def kafka_is_named() -> bool:
            return await missing(client) == ["kafka"]

        await until(kafka_is_named)
        assert (await client.get("/health/live")).status_code == 200
        answer = await client.post("/moves", headers=asked("siti"))
        assert answer.status_code == 201
        assert (await client.post("/moves", headers=asked("siti"))).json() == answer.json()
        assert await MongoJournal(service.database).count_unpublished() == 1
    await topics.create(settings)
    async with at_work(settings) as (service, client):

        async def published() -> bool:
            return await MongoJournal(service.database).count_unpublished() == 0

        await until(published)

        async def ready() -> bool:
            return await missing(client) == []

        await until(ready)
    (event,) = await read_topics(settings, Transition.SUBMITTED.topic)
    assert event.id == answer.json()["id"]


async def test_without_a_database_requests_are_refused_and_not_kept_waiting(settings: ServiceSettings) -> None:
    url = f"mongodb://{NOWHERE}/?serverSelectionTimeoutMS=500&connectTimeoutMS=500"
    async with at_work(settings.model_copy(update={"mongo_url": url})) as (_, client):

        async def mongodb_is_named() -> bool:
            return await missing(client) == ["mongodb"]

        await until(mongodb_is_named)
        answer = await client.post("/moves", headers=asked("siti"), timeout=5)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert (await client.get("/health/live")).status_code == 200


async def test_when_the_database_goes_nobody_waits_in_line_for_it(settings: ServiceSettings) -> None:
    await topics.create(settings)
    address = urlsplit(settings.mongo_url)
    way = Proxy(ports.free_ports(1)[0], address.port or 27017)
    await way.start()
    url = f"mongodb://{ports.LOOPBACK}:{way.port}/?directConnection=true"
    try:
        async with at_work(settings.model_copy(update={"mongo_url": url})) as (_, client):

            async def ready() -> bool:
                return await missing(client) in ([], ["kafka"])

            await until(ready)
            assert (await client.post("/moves", headers=asked("siti"))).status_code == 201
            way.cut()
            answers = []
            for number in range(100):
                asking = tokens.bearer(Role.CITIZEN, "siti") | {"Idempotency-Key": f"another-key-{number}"}
                async with asyncio.timeout(5):
                    answers.append(await client.post("/moves", headers=asking))
            assert {answer.status_code for answer in answers} == {503}
            assert {answer.headers["retry-after"] for answer in answers} == {"2"}
            assert (await client.get("/health/live")).status_code == 200
            way.clear()

            async def taken_again() -> bool:
                return (await client.post("/moves", headers=asked("siti"))).status_code == 201

            await until(taken_again, within=20)
    finally:
        await way.stop()


@pytest.mark.parametrize("docs", [True, False])
async def test_documents_and_metrics(settings: ServiceSettings, docs: bool) -> None:
    await topics.create(settings)
    async with at_work(settings.model_copy(update={"docs": docs})) as (_, client):

        async def ready() -> bool:
            return await missing(client) == []

        await until(ready)
        expected = 200 if docs else 404
        for path in ("/docs", "/openapi.json", "/asyncapi.json"):
            assert (await client.get(path)).status_code == expected, path
        metrics = (await client.get("/metrics")).text
        for name in (
            "lapor_http_request_duration_seconds_bucket",
            "lapor_journal_unpublished_entries",
            "lapor_consumer",
        ):
            assert name in metrics
        if docs:
            document: dict[str, Any] = (await client.get("/asyncapi.json")).json()
            addresses = {channel["address"] for channel in document["channels"].values()}
            assert addresses == {settings.topic_prefix + topic for topic in (*CHAIN_TOPICS, AuditAnchored.topic)}


async def test_it_stops_although_its_work_swallows_a_cancellation(settings: ServiceSettings) -> None:
    begun = asyncio.Event()

    async def swallows() -> None:
        """As `asyncio.wait_for` before Python 3.12 where what it waits for comes at the same moment."""
        begun.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    await topics.create(settings)
    async with asyncio.timeout(20):
        async with at_work(settings, swallows):
            await begun.wait()


async def fails() -> None:
    raise ConnectionError("its server is away")


async def hangs() -> None:
    await asyncio.Event().wait()


async def is_cancelled() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("step", [fails, hangs, is_cancelled])
async def test_what_cannot_be_ended_keeps_nothing_else_from_its_end(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    monkeypatch.setattr(service_module, "_STOP_SECONDS", 2.0)
    ended = asyncio.Event()

    async def ends() -> None:
        ended.set()

    async with asyncio.timeout(20):
        async with at_work(settings) as (service, _):
            service.after_stop(step)
            service.after_stop(ends)
    assert ended.is_set()
