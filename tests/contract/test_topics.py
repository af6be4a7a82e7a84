"""The topics as a real broker has them."""

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import InvalidReplicationFactorError, KafkaError

from deploy.local.servers import Servers
from shared import topics
from shared.events import CHAIN_TOPICS, EVENTS
from shared.settings import ServiceSettings
from tests.support.running import until

FIVE_YEARS = 157_680_000_000
THREE_MONTHS = 7_948_800_000
"""Milliseconds."""


@pytest.fixture
def settings(servers: Servers, namespace: str) -> ServiceSettings:
    return ServiceSettings(
        namespace=namespace,
        kafka_bootstrap=servers.kafka_bootstrap,
        mongo_url=servers.mongo_url,
        topic_partitions=3,
    )


async def described(settings: ServiceSettings, name: str) -> tuple[int, dict[str, str]]:
    """A topic's number of partitions, and the broker's configuration of it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    await admin.start()
    try:

        async def known() -> dict[str, Any] | None:
            (topic,) = await admin.describe_topics([name])
            return topic if topic["error_code"] == 0 else None

        topic = await until(known)  # a broker hears of a new topic a moment after its creation
        assert topic is not None
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
        ((_, _, _, _, entries),) = answer.resources
        return len(topic["partitions"]), {entry[0]: entry[1] for entry in entries}
    finally:
        await admin.close()


async def test_every_event_and_every_group_has_its_topic_and_creation_can_be_repeated(
    settings: ServiceSettings,
) -> None:
    prefix = settings.namespace
    made = await topics.create(settings)
    letters = {f"{prefix}-{service}.dlq" for service in ("intake", "routing", "opd", "notify", "sla")}
    assert set(made) == {f"{prefix}.{name}" for name in EVENTS} | letters
    assert len(CHAIN_TOPICS) == 13
    assert await topics.create(settings) == []


async def test_topics_are_kept_as_long_as_said(settings: ServiceSettings) -> None:
    await topics.create(settings)
    expected = {
        f"{settings.namespace}.complaint.submitted": (3, "delete", FIVE_YEARS),
        f"{settings.namespace}.audit.anchored": (3, "delete", FIVE_YEARS),
        f"{settings.namespace}.sla.breached": (3, "delete", THREE_MONTHS),
        f"{settings.namespace}.citizen.code": (3, "delete", 3600 * 1000),
        f"{settings.namespace}-opd.dlq": (1, "delete", THREE_MONTHS),
    }
    for name, (partitions, policy, retention) in expected.items():
        count, config = await described(settings, name)
        assert (count, config["cleanup.policy"], int(config["retention.ms"])) == (partitions, policy, retention), name
        assert config["min.insync.replicas"] == "1"
    count, config = await described(settings, f"{settings.namespace}.citizen.contact")
    assert (count, config["cleanup.policy"]) == (3, "compact")
    assert int(config["max.compaction.lag.ms"]) == 24 * 3600 * 1000, "what a citizen has changed is gone within a day"


async def test_a_dead_letter_topic_takes_the_largest_record_and_its_reason(settings: ServiceSettings) -> None:
    await topics.create(settings)
    _, events = await described(settings, f"{settings.namespace}.complaint.submitted")
    _, letters = await described(settings, f"{settings.namespace}-opd.dlq")
    assert int(letters["max.message.bytes"]) >= int(events["max.message.bytes"]) + 2000


async def test_a_topic_that_cannot_be_made_is_told(settings: ServiceSettings) -> None:
    """Here: two replicas, on one broker."""
    with pytest.raises(InvalidReplicationFactorError, match="could not be created"):
        await topics.create(settings.model_copy(update={"topic_replication": 2}))


async def test_the_broker_makes_no_topic_by_itself(settings: ServiceSettings) -> None:
    name = f"{settings.namespace}.misspelt"
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap, request_timeout_ms=1000)
    await producer.start()
    try:
        with pytest.raises((KafkaError, TimeoutError)):
            async with asyncio.timeout(2):
                await producer.send_and_wait(name, b"v")
        await producer.client.force_metadata_update()
        assert name not in producer.client.cluster.topics()
    finally:
        await producer.stop()
