"""An agency's own topic: what was assigned to it, all of it, and no more, on a real broker."""

import json
from collections.abc import AsyncIterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from deploy.local.servers import Servers
from services.routing.agencies import import_agencies, list_agencies
from services.routing.agency_store import AgencyStore
from services.routing.agency_topics import AgencyTopics
from shared import topics
from shared.agency_feed import WITHHELD, agency_topic, copies
from shared.audit_store import audit_log
from shared.events import Assigned
from shared.publisher import Publisher
from shared.records import from_record
from shared.settings import ServiceSettings
from shared.sop import Transition
from shared.storage import connect
from shared.topics import agency_of
from tests.contract.brokers import KafkaSite
from tests.support.audit import audit_key
from tests.support.events import PERKIM, PUPR, TRACE, Chain
from tests.support.running import until


@pytest.fixture
def settings(servers: Servers, namespace: str) -> ServiceSettings:
    return ServiceSettings(
        namespace=namespace,
        kafka_bootstrap=servers.kafka_bootstrap,
        mongo_url=servers.mongo_url,
        audit_key_file=audit_key(),
    )


@pytest.fixture
async def publisher(settings: ServiceSettings) -> AsyncIterator[Publisher]:
    made = Publisher(settings.kafka_bootstrap, settings.topic_prefix, "routing", copies=copies)
    yield made
    await made.stop()


def assigned(agency: object = PUPR) -> Assigned:
    event = Chain().through(Transition.FORWARDED).then(Transition.ASSIGNED, agency=agency).last
    assert isinstance(event, Assigned)
    return event


async def test_an_assignment_goes_to_its_agency_too_without_the_people_in_it(
    settings: ServiceSettings, publisher: Publisher
) -> None:
    await topics.create(settings, [PUPR.code, PERKIM.code])
    mine, theirs = assigned(), assigned(PERKIM)
    other = Chain().last
    assert await publisher.publish([mine, theirs, other], {mine.id: TRACE}) == [mine.id, theirs.id, other.id]
    site = KafkaSite(settings)
    (record,) = await site.read(1, settings.topic_prefix + agency_topic("DPUPR"))
    assert dict(record.headers)["ce_id"] == mine.id.encode()
    assert dict(record.headers)["traceparent"] == TRACE.encode()
    assert mine.reporter_id.encode() not in record.value
    assert mine.actor.id.encode() not in record.value
    event = from_record(Assigned.topic, record.key, record.value, record.headers)
    assert isinstance(event, Assigned)
    assert event.reporter_id == event.actor.id == WITHHELD
    same = {"reporter_id", "actor"}
    assert event.model_dump(exclude=same) == mine.model_dump(exclude=same)
    (record,) = await site.read(1, settings.topic_prefix + agency_topic("DPRKP"))
    assert json.loads(record.value)["id"] == theirs.id
    originals = await site.read(2, settings.topic_prefix + Assigned.topic)
    assert {json.loads(r.value)["reporter_id"] for r in originals} == {mine.reporter_id, theirs.reporter_id}


async def test_an_assignment_counts_as_sent_only_when_its_agency_has_it(
    settings: ServiceSettings, publisher: Publisher
) -> None:
    """The journal's relay then sends it again, to both; nothing else of the batch waits for it."""
    await topics.create(settings, [PERKIM.code])
    without, other, theirs = assigned(), Chain().last, assigned(PERKIM)
    assert await publisher.publish([without, other, theirs]) == [other.id, theirs.id]
    await topics.create_of_agencies(settings, [PUPR.code])
    assert await publisher.publish([without]) == [without.id]
    (record,) = await KafkaSite(settings).read(1, settings.topic_prefix + agency_topic("DPUPR"))
    assert json.loads(record.value)["id"] == without.id


async def test_topics_follow_the_directory(settings: ServiceSettings) -> None:
    await import_agencies(settings)
    client = connect(settings)
    directory = AgencyStore(client[settings.database("routing")])
    following = AgencyTopics(settings, directory)
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    await admin.start()
    try:
        await following.follow()
        wanted = {agency["_id"] for agency in await list_agencies(settings)}

        async def all_are_there() -> bool:
            return {agency_of(settings, name) for name in await admin.list_topics()} - {None} == wanted

        await until(all_are_there)
        new = {"_id": "BARU-2", "name": "Dinas Baru", "categories": ["roads"], "units": []}
        await directory.put(new, audit_log(client[settings.database("routing")], "routing", audit_key()), "cli:tests")
        await following.follow()
        wanted.add("BARU-2")
        await until(all_are_there)
        away = AgencyTopics(settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:1"}), directory)
        await away.follow()
    finally:
        await admin.close()
        client.close()
