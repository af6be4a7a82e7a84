"""The servers that tests run against, and a name space of each test's own on them.

Kafka and MongoDB are always real. Which ones: those that LAPOR_KAFKA_BOOTSTRAP and LAPOR_MONGO_URL name; containers if
LAPOR_TEST_BACKEND=containers; otherwise the embedded ones, started once for the session on free ports.
"""

import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Iterator

import hypothesis
import pytest
import structlog
from aiokafka.admin import AIOKafkaAdminClient
from pymongo import AsyncMongoClient

from deploy.local.servers import Servers, embedded_servers
from deploy.local.settings import LocalSettings

hypothesis.settings.register_profile("untimed", deadline=None)  # how long an example takes is the machine's affair
hypothesis.settings.load_profile("untimed")

# Plain, as the services' own logs are: to draw an exception with its variables takes seconds, while all stands still.
_PLAIN = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
structlog.configure(processors=[*structlog.get_config()["processors"][:-1], _PLAIN])


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Kafka, MongoDB and an SMTP server, running."""
    with contextlib.ExitStack() as stack:
        addresses: dict[str, str] = {}
        if os.environ.get("LAPOR_TEST_BACKEND") == "containers":
            from tests import containers

            addresses = stack.enter_context(containers.servers())
        settings = LocalSettings().model_copy(update=addresses).on_free_ports()
        yield stack.enter_context(embedded_servers(tmp_path_factory.mktemp("servers"), settings))


@contextlib.asynccontextmanager
async def fresh_namespace(servers: Servers) -> AsyncIterator[str]:
    """A name for LAPOR_NAMESPACE that nobody else uses; its databases, topics and groups are removed afterwards."""
    name = f"t{secrets.token_hex(6)}"
    yield name
    async with AsyncMongoClient[dict[str, object]](servers.mongo_url) as client:
        for database in await client.list_database_names():
            if database.startswith(f"{name}_"):
                await client.drop_database(database)
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.kafka_bootstrap)
    await admin.start()
    try:
        if topics := [topic for topic in await admin.list_topics() if topic.startswith((f"{name}.", f"{name}-"))]:
            await admin.delete_topics(topics)
    finally:
        await admin.close()


@pytest.fixture
async def namespace(servers: Servers) -> AsyncIterator[str]:
    """A name space of one test's own."""
    async with fresh_namespace(servers) as name:
        yield name
