"""The topics: which there are, how each is kept, and their creation. Brokers do not create topics by themselves
here."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from shared.agency_feed import AGENCY_TOPICS, agency_topic
from shared.connections import kafka_options
from shared.events import CHAIN_TOPICS, EVENTS, AuditAnchored, CitizenCode, CitizenContact
from shared.publisher import MAX_RECORD_BYTES
from shared.settings import ServiceSettings

SERVICES = ("intake", "routing", "opd", "notify", "sla")

_YEARS = 5 * 365 * 24 * 3600 * 1000
_MONTHS = 92 * 24 * 3600 * 1000
_HOUR = 3600 * 1000
_DAY = 24 * _HOUR


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic: full name, partitions, and the broker's settings for it (Kafka's names; times in ms)."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


def dead_letters(group: str) -> str:
    """The topic that takes what a consumer group could not use."""
    return f"{group}.dlq"


def agency_spec(settings: ServiceSettings, code: str) -> TopicSpec:
    """The topic of one agency's assignments, kept as long as what it copies; there are few, so it has one partition."""
    config = {"retention.ms": str(_YEARS), "cleanup.policy": "delete"}
    return TopicSpec(settings.topic_prefix + agency_topic(code), 1, config)


def specs(settings: ServiceSettings) -> list[TopicSpec]:
    """The topics of an installation but for its agencies' own: events of the chain and anchors of the audit logs are
    kept five years, side events and dead letters three months, where codes are to be sent an hour."""
    topics: list[TopicSpec] = []
    for name in EVENTS:
        long = name in (*CHAIN_TOPICS, AuditAnchored.topic)
        config = {"retention.ms": str(_YEARS if long else _MONTHS), "cleanup.policy": "delete"}
        if name == CitizenContact.topic:
            config = {
                "cleanup.policy": "compact",
                "min.cleanable.dirty.ratio": "0.1",
                "max.compaction.lag.ms": str(_DAY),
                "delete.retention.ms": str(30 * _DAY),  # a tombstone stays for whoever was away
            }
        if name == CitizenCode.topic:
            config = {"retention.ms": str(_HOUR), "segment.ms": str(_HOUR // 4), "cleanup.policy": "delete"}
        topics.append(TopicSpec(settings.topic_prefix + name, settings.topic_partitions, config))
    for service in SERVICES:
        name = dead_letters(settings.group(service))
        config = {
            "retention.ms": str(_MONTHS),
            "cleanup.policy": "delete",
            "max.message.bytes": str(MAX_RECORD_BYTES),
        }
        topics.append(TopicSpec(name, 1, config))
    return topics


async def create(settings: ServiceSettings, agencies: Iterable[str] = ()) -> list[str]:
    """Create the topics that are missing, those of agencies (by code) too; returns their names. Raises `KafkaError`
    with the broker's reason."""
    return await _create(settings, [*specs(settings), *(agency_spec(settings, code) for code in agencies)])


async def create_of_agencies(settings: ServiceSettings, agencies: Iterable[str]) -> list[str]:
    """The same for the agencies' own topics alone."""
    return await _create(settings, [agency_spec(settings, code) for code in agencies])


def agency_of(settings: ServiceSettings, name: str) -> str | None:
    """The code of the agency whose own topic this is (full name); None if it is no agency's."""
    short = name.removeprefix(settings.topic_prefix)
    code = short.removeprefix(AGENCY_TOPICS).partition(".")[0]
    return code if short == agency_topic(code) else None


async def _create(settings: ServiceSettings, topics: Iterable[TopicSpec]) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap, **kafka_options(settings))
    await admin.start()
    try:
        replication = settings.topic_replication
        wanted = [
            NewTopic(
                t.name,
                t.partitions,
                replication,
                topic_configs=t.config | {"min.insync.replicas": str(min(2, replication))},
            )
            for t in topics
        ]
        answer = await admin.create_topics(wanted)
        made: list[str] = []
        for name, code, *reason in answer.topic_errors:
            error = for_code(code)
            if code == 0:
                made.append(name)
            elif error is not TopicAlreadyExistsError:
                raise error(f"topic {name} could not be created: {reason}")
        return made
    finally:
        await admin.close()
