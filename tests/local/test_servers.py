"""The servers come up, work, and are used where they already run."""

import contextlib
import email
import email.policy
import os
import smtplib
import socket
from concurrent.futures import ProcessPoolExecutor
from email.message import EmailMessage
from multiprocessing import get_context
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError
from pymongo import AsyncMongoClient

from deploy.local import ports
from deploy.local.errors import CannotRun, PortTaken
from deploy.local.servers import Servers, embedded_servers
from deploy.local.settings import LocalSettings


async def test_kafka_keeps_what_it_is_given_and_makes_no_topic_by_itself(servers: Servers, namespace: str) -> None:
    topic = f"{namespace}.words"
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.kafka_bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 2, 1)])
    async with AIOKafkaProducer(bootstrap_servers=servers.kafka_bootstrap, acks="all") as producer:
        await producer.send_and_wait(topic, b"lapor", key=b"k")
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=servers.kafka_bootstrap, group_id=f"{namespace}-x", auto_offset_reset="earliest"
    ) as consumer:
        assert (await consumer.getone()).value == b"lapor"
    described = await admin.describe_topics([f"{namespace}.misspelt"])
    assert described[0]["error_code"] == UnknownTopicOrPartitionError.errno
    await admin.close()


async def test_mongod_is_a_replica_set_with_transactions(servers: Servers, namespace: str) -> None:
    async with AsyncMongoClient[dict[str, object]](servers.mongo_url) as client:
        words = client[f"{namespace}_x"]["words"]
        await words.insert_one({"_id": 1})
        async with client.start_session() as session, await session.start_transaction():
            await words.insert_one({"_id": 2}, session=session)
        assert await words.count_documents({}) == 2


def test_mail_is_kept_with_its_envelope(servers: Servers) -> None:
    assert servers.mail_dir
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = (
        "Laporan diterima – terima kasih",
        "lapor@example.org",
        "ani@example.org",
    )
    mail.set_content("Jalan berlubang di Jl. Ahmad Yani")
    with smtplib.SMTP(servers.smtp_host, servers.smtp_port) as client:
        client.send_message(mail, to_addrs=["ani@example.org", "budi@example.org"])
    newest = max(servers.mail_dir.glob("*.eml"))
    kept = email.message_from_bytes(newest.read_bytes(), policy=email.policy.default)
    assert kept["Subject"] == mail["Subject"]
    assert kept.get_all("X-Envelope-To") == ["ani@example.org", "budi@example.org"]
    assert kept.get_content().strip() == "Jalan berlubang di Jl. Ahmad Yani"


def test_servers_that_run_elsewhere_are_used_and_not_started(servers: Servers, tmp_path: Path) -> None:
    settings = LocalSettings(
        kafka_bootstrap=servers.kafka_bootstrap, mongo_url=servers.mongo_url, smtp_host=servers.smtp_host
    ).model_copy(update={"smtp_port": servers.smtp_port})
    with embedded_servers(tmp_path / "data", settings) as others:
        assert others.kafka_bootstrap == servers.kafka_bootstrap
        assert others.mongo_url == servers.mongo_url
        assert others.mail_dir is None
        assert not list((tmp_path / "data" / "logs").iterdir()), "nothing was started"


def test_addresses_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAPOR_KAFKA_BOOTSTRAP", "kafka.example.org:9092")
    monkeypatch.setenv("LAPOR_MONGO_URL", "mongodb://mongo.example.org")
    settings = LocalSettings().on_free_ports()
    assert (settings.kafka_bootstrap, settings.mongo_url) == ("kafka.example.org:9092", "mongodb://mongo.example.org")
    assert not {"kafka_port", "kafka_controller_port", "mongo_port"} & set(settings.own_ports())


def test_a_taken_port_is_told_with_its_owner_and_the_setting() -> None:
    with socket.create_server((ports.LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"{port}.*Kafka.*process {os.getpid()} (?s:.*)LAPOR_KAFKA_PORT=<port>"):
            ports.require_free(port, "Kafka", "LAPOR_KAFKA_PORT")
    ports.require_free(port, "Kafka", "LAPOR_KAFKA_PORT")


async def test_data_survives_a_restart_on_other_ports(tmp_path: Path) -> None:
    for run in (1, 2):
        with embedded_servers(tmp_path / "data") as own:
            admin = AIOKafkaAdminClient(bootstrap_servers=own.kafka_bootstrap)
            await admin.start()
            async with AsyncMongoClient[dict[str, object]](own.mongo_url) as client:
                if run == 1:
                    await admin.create_topics([NewTopic("kept", 1, 1)])
                    await client["kept"]["words"].insert_one({"_id": "lapor"})
                assert "kept" in await admin.list_topics()
                assert await client["kept"]["words"].find_one() == {"_id": "lapor"}
            await admin.close()


def test_a_port_that_one_process_was_given_no_other_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens on any of them: what counts is who was given them. The end of a process frees its own."""
    monkeypatch.setattr(ports, "UNHURRIED", ports.UNHURRIED[:60])
    ours = ports.free_ports(10)
    assert not set(ours) & set(ports.free_ports(10))
    with ProcessPoolExecutor(1, get_context("spawn")) as other:
        theirs = other.submit(_all_of, ports.UNHURRIED).result()
        with pytest.raises(CannotRun, match="1 ports from 20000 to 20059"):
            ports.free_ports(1)
    assert len(theirs) <= 40
    assert not set(ours) & set(theirs)
    assert ports.free_ports(1)[0] in theirs


def test_as_many_ports_as_there_are_can_be_had_and_none_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    few = sorted(ports.free_ports(3))
    monkeypatch.setattr(ports, "UNHURRIED", few)
    monkeypatch.setattr(ports, "_given", set())
    assert sorted(ports.free_ports(3)) == few
    assert ports.free_ports(0) == []


def _all_of(some: range) -> list[int]:
    """All ports of a range that this process is given."""
    ports.UNHURRIED = some
    found: list[int] = []
    with contextlib.suppress(CannotRun):
        while True:
            found += ports.free_ports(1)
    return found
