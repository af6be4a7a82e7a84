"""Kafka and MongoDB in containers, for machines with a Docker engine (LAPOR_TEST_BACKEND=containers)."""

import contextlib
import time
from collections.abc import Iterator

from pymongo import MongoClient
from testcontainers.community.kafka import KafkaContainer
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

KAFKA_IMAGE = "confluentinc/cp-kafka:7.6.0"
MONGO_IMAGE = "mongo:6.0"


@contextlib.contextmanager
def servers() -> Iterator[dict[str, str]]:
    """The addresses of both, named as LocalSettings names them."""
    kafka = KafkaContainer(KAFKA_IMAGE).with_kraft().with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
    mongo = DockerContainer(MONGO_IMAGE).with_command("--replSet lapor --bind_ip_all").with_exposed_ports(27017)
    mongo.waiting_for(LogMessageWaitStrategy("Waiting for connections"))
    with kafka, mongo:
        host, port = mongo.get_container_host_ip(), mongo.get_exposed_port(27017)
        # The member calls itself by its port inside the container, of no use outside: clients connect directly.
        url = f"mongodb://{host}:{port}/?directConnection=true"
        with MongoClient[dict[str, object]](url) as client:
            members = [{"_id": 0, "host": "127.0.0.1:27017"}]
            client.admin.command("replSetInitiate", {"_id": "lapor", "members": members})
            while not client.admin.command("hello")["isWritablePrimary"]:
                time.sleep(0.1)
        yield {"kafka_bootstrap": kafka.get_bootstrap_server(), "mongo_url": url}
