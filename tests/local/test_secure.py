"""Locks on, on real servers: each principal does what the services' declarations say it needs, and nothing else."""

import asyncio
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)
from pydantic import SecretStr
from pymongo.errors import OperationFailure

import shared.service
from deploy.access.install import connect_agency, disconnect_agency
from deploy.access.kafka import KafkaAccess, client_options
from deploy.access.rights import WITNESS, of_agency, of_service
from deploy.access.secrets_folder import Secret
from deploy.local.errors import CannotRun
from deploy.local.locks import FOLDER, locks_of
from deploy.local.servers import embedded_servers
from deploy.local.settings import LocalSettings
from services.intake import projection as intake
from services.notify import projection as notify
from services.opd import projection as opd
from services.routing import projection as routing
from services.routing.agencies import import_agencies
from services.sla import projection as sla
from shared import receiver, topics
from shared.agency_feed import agency_topic, copies
from shared.connections import kafka_options
from shared.contract import Contract
from shared.events import EVENTS, Agency, AuditAnchored, Event
from shared.publisher import Publisher, Record
from shared.receiver import Denied, Receiver
from shared.service import Service
from shared.settings import ServiceSettings
from shared.sop import Transition
from shared.storage import connect
from shared.topics import SERVICES, dead_letters
from tests.support.audit import audit_key
from tests.support.events import Chain
from tests.support.locked import (
    NOT_SIGNED_IN,
    REFUSED,
    Locked,
    locked_servers,
    may,
    may_read,
    may_use_group,
    may_write,
)
from tests.support.running import until

CONSUMES = {"intake": intake.CONSUMES, "routing": routing.CONSUMES, "opd": opd.CONSUMES, "notify": notify.CONSUMES}
CONSUMES |= {"sla": sla.CONSUMES}
ISSUES = {"intake": intake.ISSUES, "routing": routing.ISSUES, "opd": opd.ISSUES, "notify": notify.ISSUES}
ISSUES |= {"sla": sla.ISSUES}
AGENCIES = ("DLH", "DLH-2")
"""One code begins like the other."""
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "agency_subscriber.py"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    with locked_servers(tmp_path_factory.mktemp("locked") / "data") as made:
        asyncio.run(topics.create(made.admin, AGENCIES))
        for topic in every_topic(made):  # so that each has something to read
            assert may_write(made.admin, topic)
        yield made


@pytest.fixture(scope="module")
def agency(locked: Locked) -> ServiceSettings:
    return locked.signed_in(connect_agency(locked.admin, "DLH", "kata-sandi-sistem-dlh"))


def every_topic(locked: Locked) -> list[str]:
    agencies = [locked.open.topic_prefix + agency_topic(code) for code in AGENCIES]
    return [spec.name for spec in topics.specs(locked.open)] + agencies


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_reads_what_it_consumes_and_no_other_topic(locked: Locked, service: str) -> None:
    can = {topic for topic in every_topic(locked) if may_read(locked.of(service), topic)}
    assert can == {locked.open.topic_prefix + topic for topic in CONSUMES[service]}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_writes_what_it_issues_and_its_dead_letters_and_no_other_topic(locked: Locked, service: str) -> None:
    can = {topic for topic in every_topic(locked) if may_write(locked.of(service), topic)}
    wanted = {locked.open.topic_prefix + topic for topic in ISSUES[service]}
    wanted |= {dead_letters(locked.open.group(service)), locked.open.topic_prefix + AuditAnchored.topic}
    if service == "routing":
        wanted |= {locked.open.topic_prefix + agency_topic(code) for code in AGENCIES}
    assert can == wanted


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_uses_its_own_group_only(locked: Locked, service: str) -> None:
    topic = locked.open.topic_prefix + CONSUMES[service][0]
    groups = [locked.open.group(other) for other in SERVICES] + [f"{locked.open.group(service)}-2"]
    can = [group for group in groups if may_use_group(locked.of(service), group, topic)]
    assert can == [locked.open.group(service)]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_reaches_its_own_database_only(locked: Locked, service: str) -> None:
    mine, settings = locked.open.database(service), locked.of(service)
    databases = [*(locked.open.database(other) for other in SERVICES), "admin", "config", "local"]
    index = {"key": {"a": 1}, "name": "a"}
    attempts: dict[str, tuple[Any, dict[str, Any]]] = {
        "find": ("words", {}),
        "insert": ("words", {"documents": [{"a": 1}]}),
        "createIndexes": ("words", {"indexes": [index]}),
        "dropDatabase": (1, {}),
    }
    for command, (argument, options) in attempts.items():
        can = [database for database in databases if may(settings, database, command, argument, **options)]
        assert can == ([mine] if command != "dropDatabase" else []), command
    assert not may(settings, "admin", "createUser", "another", pwd="x", roles=["root"])


def test_the_witness_reads_all_and_changes_nothing(locked: Locked) -> None:
    settings = locked.of(WITNESS)
    events = {locked.open.topic_prefix + topic for topic in EVENTS}
    assert {topic for topic in every_topic(locked) if may_read(settings, topic)} == events
    assert not [topic for topic in every_topic(locked) if may_write(settings, topic)]
    for service in SERVICES:
        assert may(settings, locked.open.database(service), "find", "words")
        assert not may(settings, locked.open.database(service), "insert", "words", documents=[{"a": 1}])


def test_an_agencys_system_reads_its_own_topic_only(locked: Locked, agency: ServiceSettings) -> None:
    mine = locked.open.topic_prefix + agency_topic("DLH")
    assert [topic for topic in every_topic(locked) if may_read(agency, topic)] == [mine]
    assert not [topic for topic in every_topic(locked) if may_write(agency, topic)]
    own = of_agency(locked.open, "DLH").name
    groups = [own, f"{own}.arsip", f"{own}-2", f"{own}2", *(locked.open.group(service) for service in SERVICES)]
    assert [group for group in groups if may_use_group(agency, group, mine)] == [own, f"{own}.arsip"]
    with pytest.raises(OperationFailure) as refusal:
        may(agency, locked.open.database("opd"), "find", "work")
    assert refusal.value.code == NOT_SIGNED_IN


def test_an_agencys_system_is_let_in_no_more(locked: Locked) -> None:
    settings = locked.signed_in(connect_agency(locked.admin, "DLH-2", "kata-sandi-lain"))
    topic = locked.open.topic_prefix + agency_topic("DLH-2")
    assert may_read(settings, topic)
    disconnect_agency(locked.admin, "DLH-2")
    assert not signs_in(settings)


def test_only_who_feeds_the_agencies_makes_their_topics(locked: Locked) -> None:
    prefix = locked.open.topic_prefix
    for service in SERVICES:
        name = prefix + agency_topic(f"N-{service.upper()}")
        assert creates(locked.of(service), name) == (service == "routing")
        assert not creates(locked.of(service), f"{prefix}complaint.invented")


def test_a_right_too_many_is_seen_and_taken_away(locked: Locked) -> None:
    """The control of the tests above: they see what is really allowed."""
    topic = locked.open.topic_prefix + "citizen.contact"
    assert not may_read(locked.of("opd"), topic)
    surplus = AclBinding(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        f"User:{of_service(locked.open, 'opd').name}",
        "*",
        AclOperation.READ,
        AclPermissionType.ALLOW,
    )
    client = AdminClient(client_options(locked.admin))
    for future in client.create_acls([surplus]).values():
        future.result(10)
    assert may_read(locked.of("opd"), topic)
    locked.install()
    assert not may_read(locked.of("opd"), topic)


def test_nobody_and_a_wrong_password_are_refused(locked: Locked) -> None:
    right = locked.secrets["intake"]
    wrong = locked.signed_in(Secret(right.username, right.password[:-1]))
    stranger = locked.signed_in(Secret("stranger", right.password))
    assert signs_in(locked.of("intake"))
    for settings in (wrong, stranger, locked.open):
        assert not signs_in(settings)
    for settings in (wrong, stranger):
        with pytest.raises(OperationFailure) as refusal:
            may(settings, locked.open.database("intake"), "find", "words")
        assert refusal.value.code == NOT_SIGNED_IN
    assert not may(locked.open, locked.open.database("intake"), "find", "words")


def signs_in(settings: ServiceSettings) -> bool:
    """Whether the brokers tell a client anything."""

    async def start() -> bool:
        client = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap, **kafka_options(settings))
        try:
            await client.start()
        except KafkaConnectionError:
            return False
        finally:
            await client.close()
        return True

    return asyncio.run(start())


def creates(settings: ServiceSettings, topic: str) -> bool:
    client = AdminClient(client_options(settings))
    (future,) = client.create_topics([NewTopic(topic, 1, 1)]).values()
    try:
        future.result(10)
    except KafkaException as failure:
        if failure.args[0].code() not in REFUSED:
            raise
        return False
    return True


def test_secrets_are_for_their_owner_only(locked: Locked) -> None:
    password = locked.secrets["intake"].password.encode()
    broker = locked.servers.locks and locked.servers.locks.broker.password.encode()
    assert broker
    for path in locked.folder.rglob("*"):
        if not path.is_file() or path.stat().st_size > 2**20:
            continue
        content = path.read_bytes()
        if password in content or broker in content:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
            assert path.suffix != ".log", path
    assert stat.S_IMODE((locked.folder / FOLDER).stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("who", "missing"),
    [
        ("nobody", "mongodb: MongoDB does not allow this user"),
        ("nobody-kafka", "kafka: Kafka closes the connection of who does not sign in"),
        ("wrong-kafka", "kafka: Kafka refuses this principal"),
        ("wrong-mongo", "mongodb: MongoDB refuses this user"),
        ("another", "mongodb: MongoDB does not allow this user"),
        ("another-kafka", "kafka: Kafka refuses this principal"),
        ("right", ""),
    ],
)
async def test_readiness_says_who_is_refused(locked: Locked, who: str, missing: str) -> None:
    mine, other = locked.secrets["opd"], locked.secrets["sla"]
    wrong = {"kafka": {"kafka_password": SecretStr("x")}, "mongo": {"mongo_password": SecretStr("x")}}
    settings = {
        "nobody": locked.open,
        "nobody-kafka": locked.of("opd").model_copy(update={"kafka_username": None, "kafka_password": None}),
        "wrong-kafka": locked.of("opd").model_copy(update=wrong["kafka"]),
        "wrong-mongo": locked.of("opd").model_copy(update=wrong["mongo"]),
        "another": locked.of("sla"),
        "another-kafka": locked.of("opd").model_copy(
            update={"kafka_username": other.username, "kafka_password": SecretStr(other.password)}
        ),
        "right": locked.of("opd"),
    }[who]
    service = Service("opd", settings, Contract(consumes=opd.CONSUMES, issues=opd.ISSUES))
    service.journal([])
    service.consume(_nothing)
    app = service.app("x", "x", [])
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client,
    ):

        async def told() -> bool:
            answer = await client.get("/health/ready")
            absent: list[str] = answer.json()["missing"]
            return absent[0].startswith(missing) if missing and absent else absent == []

        await until(told, within=20)
        answer = await client.get("/health/ready")
        assert mine.password not in answer.text
        if who == "another-kafka":
            named = answer.json()["missing"][0]
            assert dead_letters(locked.open.group("opd")) in named
            assert f"the group {locked.open.group('opd')}" in named


async def _nothing(_: Any) -> None:
    """Takes events."""


async def test_rights_that_are_taken_from_a_service_at_work_are_missed_and_it_goes_on_with_them(
    locked: Locked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared.service, "REFUSALS_EVERY", timedelta(seconds=0.5))
    settings, taken = locked.of("notify"), list[str]()

    async def take(events: Sequence[Event]) -> None:
        taken.extend(event.id for event in events)

    service = Service("notify", settings, Contract(consumes=notify.CONSUMES, issues=notify.ISSUES))
    service.consume(take)
    app = service.app("x", "x", [])
    routing = locked.of("routing")
    issuing = Publisher(
        routing.kafka_bootstrap, routing.topic_prefix, "routing", security=kafka_options(routing), copies=copies
    )
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client,
    ):

        async def missing() -> str:
            return ", ".join((await client.get("/health/ready")).json()["missing"])

        async def ready() -> bool:
            return await missing() == ""

        async def comes() -> bool:
            event = Chain().through(Transition.FORWARDED).last
            assert await issuing.publish([event]) == [event.id]
            return await until(partial(_holds, taken, event.id), within=20)

        try:
            await until(ready, within=20)
            assert await comes()
            principal = of_service(locked.open, "notify")
            access = KafkaAccess(locked.admin)
            await asyncio.to_thread(access.put, {replace(principal, kafka=frozenset()): locked.secrets["notify"]})

            async def refused() -> bool:
                told = await missing()
                return "Kafka refuses this principal" in told and settings.group("notify") in told

            await until(refused, within=20)
            await asyncio.to_thread(locked.install)
            await until(ready, within=20)
            assert await comes()
        finally:
            await issuing.stop()


async def _holds(found: list[str], wanted: str) -> bool:
    return wanted in found


async def test_what_the_database_denies_waits_and_is_no_dead_letter(
    locked: Locked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator must see to it; until then the records wait."""
    monkeypatch.setattr(receiver, "_PATIENCE", timedelta(seconds=0.5))
    sent: list[Record] = []

    class Sender:
        async def send(self, records: Any) -> list[bool]:
            sent.extend(records)
            return [True] * len(records)

    client = connect(locked.of("opd"))

    async def handle(_: Any) -> None:
        await client[locked.open.database("sla")]["clocks"].insert_one({})

    event = Chain().last
    publisher = Publisher("nowhere:1", locked.open.topic_prefix, "tests")
    topic, key, value, headers = publisher._record(event.topic, event)
    record = ConsumerRecord(topic, 0, 0, 0, 0, key, value, None, 0, 0, tuple(headers))
    taking = Receiver("g", locked.open.topic_prefix, handle, Sender(), lambda _: None)
    try:
        for records in ([record], [record, record]):
            with pytest.raises(Denied, match="MongoDB does not allow this user"):
                await taking.take(records)
    finally:
        client.close()
    assert sent == []


async def test_a_topic_that_is_refused_holds_up_no_other(locked: Locked) -> None:
    settings = locked.of("intake")
    publisher = Publisher(
        settings.kafka_bootstrap, settings.topic_prefix, "intake", wait_seconds=5, security=kafka_options(settings)
    )
    mine, other = f"{settings.topic_prefix}complaint.submitted", f"{settings.topic_prefix}complaint.forwarded"
    try:
        records: list[Record] = [(name, b"k", b"v", ()) for name in (other, mine, other)]
        assert await publisher.send(records) == [False, True, False]
    finally:
        await publisher.stop()


def test_locks_and_data_belong_together(tmp_path: Path) -> None:
    (tmp_path / "mongod").mkdir()
    secure, plain = LocalSettings(secure=True), LocalSettings()
    assert locks_of(tmp_path, plain) is None
    with pytest.raises(CannotRun, match=r"made without locks(?s:.*)without --secure(?s:.*)--fresh"):
        locks_of(tmp_path, secure)
    (tmp_path / "mongod").rmdir()
    assert locks_of(tmp_path, secure) == locks_of(tmp_path, secure)
    (tmp_path / "kafka").mkdir()
    with pytest.raises(CannotRun, match=r"made with locks(?s:.*)make run SECURE=1"):
        locks_of(tmp_path, plain)


def test_servers_that_are_not_ours_are_not_locked() -> None:
    with pytest.raises(CannotRun, match="lapor principals make"):
        LocalSettings(secure=True, kafka_bootstrap="kafka:9092").require_supported()


async def test_locked_data_survive_a_restart_on_other_ports(tmp_path: Path) -> None:
    for run in (1, 2):
        with embedded_servers(tmp_path / "data", LocalSettings(secure=True).on_free_ports()) as own:
            assert own.locks
            admin = ServiceSettings.model_validate(
                {"kafka_bootstrap": own.kafka_bootstrap, "mongo_url": own.mongo_url, **own.locks.admin.settings()}
            )
            made = await topics.create(admin)
            assert bool(made) == (run == 1)
            client = connect(admin)
            if run == 1:
                await client["lapor_x"]["words"].insert_one({"_id": "lapor"})
            assert await client["lapor_x"]["words"].find_one() == {"_id": "lapor"}
            client.close()


def test_commands_and_the_example_by_secrets_of_their_own(locked: Locked) -> None:
    """As an operator and an agency use them: `LAPOR_SECRETS_DIR`, and what `lapor agencies connect` prints."""
    asyncio.run(import_agencies(locked.of("routing")))
    where = {
        "LAPOR_NAMESPACE": locked.open.namespace,
        "LAPOR_KAFKA_BOOTSTRAP": locked.open.kafka_bootstrap,
        "LAPOR_MONGO_URL": locked.open.mongo_url,
        "LAPOR_AUDIT_KEY_FILE": str(audit_key()),
    }

    def lapor(who: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        own = {"LAPOR_SECRETS_DIR": str(locked.folder / FOLDER / who)} if who else {}
        command = [sys.executable, "-m", "deploy.cli", *arguments]
        environment = {**os.environ, **where, **own}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert "missing" not in lapor("admin", "topics", "list").stdout
    refused = lapor("", "topics", "list")
    assert (refused.returncode, "LAPOR_SECRETS_DIR" in refused.stdout) == (1, True)
    refused = lapor("", "agencies", "list")
    assert (refused.returncode, "MongoDB does not allow this user" in refused.stdout) == (1, True)
    assert lapor("intake", "agencies", "connect", "DLH").returncode == 1
    told = lapor("admin", "agencies", "connect", "DLH")
    assert told.returncode == 0, told.stdout
    recorded = lapor("witness", "audit", "show", "--action", "agency_connected")
    assert re.search(r"routing +\d+ .* agency_connected +cli:\S+ +DLH", recorded.stdout), recorded.stdout
    verified = lapor("witness", "audit", "verify", "--service", "routing")
    assert (verified.returncode, "is no anchor" in verified.stdout) == (1, True), "the test put such records there"
    password = re.search(r"^password +(\S+)", told.stdout, re.MULTILINE)
    assert password
    event = Chain().through(Transition.FORWARDED).then(Transition.ASSIGNED, agency=Agency(code="DLH", name="DLH")).last

    async def issue() -> list[str]:
        settings = locked.of("routing")
        publisher = Publisher(
            settings.kafka_bootstrap, settings.topic_prefix, "routing", security=kafka_options(settings), copies=copies
        )
        try:
            return await publisher.publish([event])
        finally:
            await publisher.stop()

    client = AdminClient(client_options(locked.admin))  # the topic as it was before the other tests wrote to it
    topic = locked.open.topic_prefix + agency_topic("DLH")
    for future in client.delete_records([TopicPartition(topic, 0, -1)]).values():
        future.result(10)
    assert asyncio.run(issue()) == [event.id]
    command = [sys.executable, str(EXAMPLE), locked.open.kafka_bootstrap, "DLH", locked.open.namespace]
    with subprocess.Popen(
        command, env={**os.environ, "KAFKA_PASSWORD": password[1]}, stdout=subprocess.PIPE, text=True
    ) as subscriber:
        try:
            assert subscriber.stdout
            assert subscriber.stdout.readline().startswith(event.id)
        finally:
            subscriber.kill()
