"""Encryption by configuration, on real servers with certificates of an authority made for the test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from pymongo import MongoClient
from pymongo.errors import ServerSelectionTimeoutError

from deploy.local.errors import CannotRun
from deploy.local.settings import LocalSettings
from services.opd.projection import CONSUMES, ISSUES
from shared import topics
from shared.connections import kafka_options, mongo_options
from shared.consumer import EventConsumer
from shared.contract import Contract
from shared.events import Event
from shared.publisher import Publisher
from shared.refusals import kafka_refusal
from shared.service import Service
from shared.settings import ServiceSettings
from shared.sop import Transition
from tests.support.events import Chain
from tests.support.locked import Authority, Locked, authority, locked_servers
from tests.support.running import until

LOOPBACK = "127.0.0.1"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("pki"), "ours")


@pytest.fixture(scope="module", params=[False, True], ids=["clients-without", "clients-with-certificate"])
def locked(
    request: pytest.FixtureRequest, ours: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Locked]:
    folder = tmp_path_factory.mktemp("tls") / "data"
    files: dict[str, Any] = {"tls_cert_file": ours.cert_file, "tls_ca_file": ours.ca_file}
    with locked_servers(folder, **files, tls_ask_clients=request.param) as made:
        yield made


async def sent(settings: ServiceSettings) -> bool:
    """Whether an event of the routing service is taken."""
    publisher = Publisher(
        settings.kafka_bootstrap, settings.topic_prefix, "routing", wait_seconds=4, security=kafka_options(settings)
    )
    event = Chain().through(Transition.FORWARDED).last
    try:
        return await publisher.publish([event]) == [event.id]
    finally:
        await publisher.stop()


def answers(settings: ServiceSettings) -> str:
    """Empty if the database answers; otherwise why it cannot be spoken to."""
    options = {**mongo_options(settings), "serverSelectionTimeoutMS": 2000}
    with MongoClient[dict[str, object]](settings.mongo_url, **options) as client:
        try:
            client[settings.database("routing")]["words"].find_one()
        except ServerSelectionTimeoutError as error:
            return str(error)
    return ""


async def test_events_travel_encrypted(locked: Locked) -> None:
    await topics.create(locked.admin)
    assert await sent(locked.of("routing"))
    assert answers(locked.of("routing")) == ""
    settings, taken = locked.of("opd"), list[Event]()

    async def take(events: object) -> None:
        taken.extend(events)  # type: ignore[arg-type]

    publisher = Publisher(settings.kafka_bootstrap, settings.topic_prefix, "opd", security=kafka_options(settings))
    consumer = EventConsumer(settings, "opd", CONSUMES, take, publisher)
    assigned = Chain().through(Transition.FORWARDED, Transition.ASSIGNED).last
    routing = locked.of("routing")
    issuing = Publisher(routing.kafka_bootstrap, routing.topic_prefix, "routing", security=kafka_options(routing))
    await consumer.start()
    try:
        assert await issuing.publish([assigned]) == [assigned.id]

        async def came() -> bool:
            return [event.id for event in taken] == [assigned.id]

        await until(came)
    finally:
        await consumer.stop()
        await publisher.stop()
        await issuing.stop()


async def test_another_authority_is_refused(locked: Locked, tmp_path: Path) -> None:
    other = authority(tmp_path, "other")
    update = {"kafka_ca_file": other.ca_file, "mongo_ca_file": other.ca_file}
    settings = locked.of("routing").model_copy(update=update)
    assert not await sent(settings)
    assert "certificate" in await kafka_refusal(settings, [], "g")
    assert "certificate verify failed" in answers(settings)


async def test_a_server_of_another_name_is_refused(locked: Locked) -> None:
    """The certificate is for 127.0.0.1."""
    secure = locked.of("routing")
    update = {name: getattr(secure, name).replace(LOOPBACK, "localhost") for name in ("kafka_bootstrap", "mongo_url")}
    update["mongo_url"] = update["mongo_url"].replace("?replicaSet=lapor", "?directConnection=true")
    settings = secure.model_copy(update=update)
    assert "Hostname mismatch" in await kafka_refusal(settings, [], "g")
    assert not await sent(settings)
    assert "Hostname mismatch" in answers(settings)


async def test_who_does_not_encrypt_is_refused(locked: Locked) -> None:
    settings = locked.of("routing").model_copy(update={"kafka_tls": False, "mongo_tls": False})
    assert not await sent(settings)
    assert answers(settings) != ""


async def test_a_client_shows_its_own_certificate_where_it_is_asked_to(locked: Locked, tmp_path: Path) -> None:
    asked = bool(locked.servers.locks and locked.servers.locks.tls and locked.servers.locks.tls.ask_clients)
    without = locked.of("routing").model_copy(update={"kafka_cert_file": None, "mongo_cert_file": None})
    assert await sent(without) != asked
    assert (answers(without) == "") != asked
    stranger = authority(tmp_path, "stranger").cert_file
    strange = without.model_copy(update={"kafka_cert_file": stranger, "mongo_cert_file": stranger})
    assert await sent(strange) != asked
    assert await sent(locked.of("routing"))


async def test_readiness_names_the_certificate(locked: Locked, tmp_path: Path) -> None:
    other = authority(tmp_path, "other").ca_file
    for update, missing in (
        ({"mongo_ca_file": other}, "mongodb: MongoDB's certificate is not accepted"),
        ({"kafka_ca_file": other}, "kafka: Kafka's certificate is not accepted"),
    ):
        settings = locked.of("opd").model_copy(update=update)
        service = Service("opd", settings, Contract(consumes=CONSUMES, issues=ISSUES))
        app = service.app("x", "x", [])
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client,
        ):

            async def told(client: httpx.AsyncClient = client, missing: str = missing) -> bool:
                absent: list[str] = (await client.get("/health/ready")).json()["missing"]
                return bool(absent) and absent[0].startswith(missing)

            await until(told, within=20)


@pytest.mark.parametrize(
    "given",
    [
        {"kafka_username": "lapor-intake"},
        {"mongo_password": "x"},
        {"kafka_ca_file": __file__},
        {"mongo_cert_file": __file__},
        {"kafka_tls": True, "kafka_ca_file": "/no/such/file"},
        {"kafka_mechanism": "GSSAPI"},
    ],
)
def test_settings_that_would_leave_a_door_open_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ServiceSettings.model_validate(given)


def test_encryption_is_for_locked_servers_and_needs_both_files(ours: Authority) -> None:
    both: dict[str, Any] = {"tls_cert_file": ours.cert_file, "tls_ca_file": ours.ca_file}
    LocalSettings(secure=True, **both).require_supported()
    for given in (
        both,
        {"secure": True, "tls_cert_file": ours.cert_file},
        {"secure": True, "tls_ca_file": ours.ca_file},
    ):
        with pytest.raises(CannotRun, match="LAPOR_TLS_CERT_FILE"):
            LocalSettings.model_validate(given).require_supported()
