"""Locked servers with the principals of an installation on them, and what a principal can really do there.

The attempts on topics are made by librdkafka, which tells what was refused at once.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import trustme
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as From
from cryptography.hazmat.primitives import serialization
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from deploy.access.install import install
from deploy.access.kafka import client_options
from deploy.access.secrets_folder import Secret, SecretsFolder
from deploy.local.locks import FOLDER
from deploy.local.servers import Servers, embedded_servers
from deploy.local.settings import LocalSettings
from shared.connections import kafka_options, mongo_options
from shared.settings import ServiceSettings
from tests.support.audit import audit_key

REFUSED = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED)
NOT_ALLOWED, NOT_SIGNED_IN = 13, 18
"""MongoDB's codes."""


@dataclass(frozen=True)
class Locked:
    """``open`` are the settings of nobody; ``secrets`` those of each principal by short name."""

    servers: Servers
    open: ServiceSettings
    secrets: dict[str, Secret]
    folder: Path

    @property
    def admin(self) -> ServiceSettings:
        assert self.servers.locks
        return self.signed_in(self.servers.locks.admin)

    def signed_in(self, secret: Secret) -> ServiceSettings:
        """The settings of who has a secret."""
        return ServiceSettings.model_validate({**self.open.model_dump(), **secret.settings()})

    def of(self, name: str) -> ServiceSettings:
        """The settings of a principal."""
        return self.signed_in(self.secrets[name])

    def install(self) -> None:
        """Put the table in force again."""
        install(self.admin, SecretsFolder(self.folder / FOLDER))


@contextlib.contextmanager
def locked_servers(folder: Path, **changes: Any) -> Iterator[Locked]:
    """Servers of their own, locked, with the principals of one installation."""
    chosen = LocalSettings(secure=True, **changes).on_free_ports()
    with embedded_servers(folder, chosen) as servers:
        assert servers.locks
        tls = servers.locks.tls.settings() if servers.locks.tls else {}
        nobody = ServiceSettings.model_validate(
            {
                "namespace": f"t{secrets.token_hex(6)}",
                "kafka_bootstrap": servers.kafka_bootstrap,
                "mongo_url": servers.mongo_url,
                "topic_replication": servers.replicas,
                "audit_key_file": audit_key(),
                **tls,
            }
        )
        made = Locked(servers, nobody, {}, folder)
        yield replace(made, secrets=install(made.admin, SecretsFolder(folder / FOLDER)))


def may_write(settings: ServiceSettings, topic: str) -> bool:
    """Whether a record is taken. Raises KafkaException for anything but a refusal."""
    outcome: list[KafkaError | None] = []
    producer = Producer({**client_options(settings), "message.timeout.ms": 10_000})
    producer.produce(topic, b"v", b"k", on_delivery=lambda error, _: outcome.append(error))
    producer.flush(15)
    return not _refused(outcome[0])


def may_read(settings: ServiceSettings, topic: str) -> bool:
    """Whether a topic, which must hold something, can be read, in no group."""
    consumer = Consumer({**client_options(settings), "group.id": "none", "enable.auto.commit": False})
    try:
        described = consumer.list_topics(topic, timeout=15).topics[topic]
        if _refused(described.error):
            return False
        consumer.assign([From(topic, number, 0) for number in described.partitions])
        while True:
            message = consumer.poll(15)
            assert message is not None, f"nothing came of {topic}"
            error = message.error()
            if (
                error is None or error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED
            ):  # it looks for its group all along
                return not _refused(error)
    finally:
        consumer.close()


def may_use_group(settings: ServiceSettings, group: str, topic: str) -> bool:
    """Whether offsets of a topic, which the principal may read, can be committed in a group."""

    async def commit() -> bool:
        partition = TopicPartition(topic, 0)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka_bootstrap,
            group_id=group,
            enable_auto_commit=False,
            **kafka_options(settings),
        )
        consumer.assign([partition])
        try:
            async with asyncio.timeout(15):
                await consumer.start()
                await consumer.commit({partition: 0})
        except GroupAuthorizationFailedError:
            return False
        finally:
            await consumer.stop()
        return True

    return asyncio.run(commit())


def _refused(error: KafkaError | None) -> bool:
    if error is None:
        return False
    if error.code() in REFUSED:
        return True
    raise KafkaException(error)


def may(settings: ServiceSettings, database: str, command: str, *arguments: Any, **options: Any) -> bool:
    """Whether MongoDB carries out a command in a database."""
    with MongoClient[dict[str, Any]](settings.mongo_url, **mongo_options(settings)) as client:
        try:
            client[database].command(command, *arguments, **options)
        except OperationFailure as failure:
            if failure.code == NOT_ALLOWED:
                return False
            raise
        return True


@dataclass(frozen=True)
class Authority:
    """A certificate authority of a test, and a certificate for an address in PEM files."""

    ca_file: Path
    cert_file: Path


def authority(folder: Path, name: str, host: str = "127.0.0.1") -> Authority:
    """A new authority and a certificate (with its key, PKCS #8) for one host."""
    ca = trustme.CA()
    issued = ca.issue_cert(host)
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    own_key = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    made = Authority(folder / f"{name}-ca.pem", folder / f"{name}.pem")
    ca.cert_pem.write_to_path(made.ca_file)
    made.cert_file.write_bytes(own_key + b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    return made
