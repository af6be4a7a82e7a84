"""Kafka and MongoDB in containers, for machines with a Docker engine (LAPOR_TEST_BACKEND=containers).

The images and the broker's settings are those of deploy/compose: what the tests saw is what runs.
"""

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

from pymongo import MongoClient
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from deploy.local import ports

COMPOSE = Path(__file__).parents[1] / "deploy" / "compose"


@contextlib.contextmanager
def servers() -> Iterator[dict[str, str]]:
    """The addresses of both, named as LocalSettings names them."""
    [port] = ports.free_ports(1)  # chosen before the start: the broker has to know by what port it is reached
    kafka = DockerContainer(_image("apache/kafka")).with_bind_ports(19092, port)
    outside = f"localhost:{port}"
    kafka.with_volume_mapping(COMPOSE / "kafka", "/mnt/shared/config", "ro")
    kafka.with_env("KAFKA_ADVERTISED_LISTENERS", f"INSIDE://localhost:9092,OUTSIDE://{outside}")
    kafka.with_env("KAFKA_HEAP_OPTS", "-Xmx512m")
    kafka.waiting_for(LogMessageWaitStrategy("Kafka Server started").with_startup_timeout(90))
    mongo = DockerContainer(_image("mongo")).with_command("--replSet lapor --bind_ip_all").with_exposed_ports(27017)
    mongo.waiting_for(LogMessageWaitStrategy("Waiting for connections"))
    with kafka, mongo:
        # The member calls itself by its port inside the container, of no use outside: clients connect directly.
        url = f"mongodb://{mongo.get_container_host_ip()}:{mongo.get_exposed_port(27017)}/?directConnection=true"
        with MongoClient[dict[str, object]](url) as client:
            members = [{"_id": 0, "host": "127.0.0.1:27017"}]
            client.admin.command("replSetInitiate", {"_id": "lapor", "members": members})
            while not client.admin.command("hello")["isWritablePrimary"]:
                time.sleep(0.1)
        yield {"kafka_bootstrap": outside, "mongo_url": url}


def _image(name: str) -> str:
    """The image of that name with the tag that compose.yaml pins."""
    found = re.search(rf"image: ({re.escape(name)}:\S+)", (COMPOSE / "compose.yaml").read_text())
    assert found, name
    return found[1]
