"""An installation's topics, and the publisher, on real Kafka."""

from collections.abc import AsyncIterator

import pytest

from deploy.local.servers import Servers
from shared import topics
from shared.publisher import Publisher
from shared.settings import ServiceSettings


@pytest.fixture
async def settings(servers: Servers, namespace: str) -> ServiceSettings:
    made = ServiceSettings(namespace=namespace, kafka_bootstrap=servers.kafka_bootstrap, mongo_url=servers.mongo_url)
    await topics.create(made)
    return made


@pytest.fixture
async def kafka(settings: ServiceSettings) -> AsyncIterator[Publisher]:
    """The real publisher, for what concerns Kafka alone."""
    made = Publisher(settings.kafka_bootstrap, settings.topic_prefix, "tests")
    yield made
    await made.stop()
