"""The sla service alone on real Kafka and MongoDB: alarms on their topics, and what each role may see."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from deploy.local.servers import Servers
from services.sla.app import build
from services.sla.desk import Rules
from services.sla.level import Level
from services.sla.metrics import ClockMetrics
from services.sla.projection import CONSUMES
from services.sla.settings import Settings
from services.sla.store import ClockStore
from services.sla.ticker import Ticker
from shared import topics
from shared.calendar import Deadlines
from shared.events import CLOCK, ClockEvent, SlaBreached, SlaWarned, SlaWithdrawn, now
from shared.journal import Journal
from shared.publisher import Publisher
from shared.sop import Role, Transition
from shared.storage import MongoJournal, connect
from tests.support.events import PERKIM, PUPR, Chain
from tests.support.profile import profiled
from tests.support.running import publish, read_topics, running, until
from tests.support.tokens import bearer

T = Transition
DAY, MINUTE, SECOND = timedelta(days=1), timedelta(minutes=1), timedelta(seconds=1)
COORDINATOR = bearer(Role.COORDINATOR)
ALARM_TOPICS = (SlaWarned.topic, SlaBreached.topic, SlaWithdrawn.topic)


@pytest.fixture
async def settings(servers: Servers, namespace: str) -> Settings:
    made = Settings(
        namespace=namespace,
        kafka_bootstrap=servers.kafka_bootstrap,
        mongo_url=servers.mongo_url,
        topic_partitions=2,
        alarm_tick_seconds=0.2,
        alarm_grace_seconds=0.5,
        relay_after_seconds=1,
    )
    await topics.create(made)
    return made


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with profiled(settings, "sla"), running(build(settings)) as client:
        yield client


async def get(client: httpx.AsyncClient, path: str, headers: dict[str, str], **query: Any) -> Any:
    answer = await client.get(path, headers=headers, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def known(client: httpx.AsyncClient, chain: Chain, clocks: int) -> None:
    """Wait until the service knows that many clocks of a complaint."""

    async def look() -> bool:
        answer = await client.get(f"/v1/complaints/{chain.complaint_id}/clocks", headers=COORDINATOR)
        return answer.status_code == 200 and len(answer.json()["clocks"]) == clocks

    await until(look)


async def alarms(settings: Settings) -> list[str]:
    """The alarms on their topics, as an independent subscriber reads them."""
    found = [event for event in await read_topics(settings, *ALARM_TOPICS) if isinstance(event, ClockEvent)]
    return sorted(event.id.split(":", 1)[1] for event in found)


async def metric(client: httpx.AsyncClient, series: str) -> float:
    text = (await client.get("/metrics")).text
    return float(next(line for line in text.splitlines() if line.startswith(series)).rsplit(" ", 1)[1])


async def overdue(client: httpx.AsyncClient, headers: dict[str, str], **query: Any) -> list[str]:
    return [row["complaint_id"] for row in (await get(client, "/v1/overdue", headers, **query))["items"]]


async def test_warned_then_breached_each_once_whoever_looks_how_often(settings: Settings) -> None:
    quick = settings.model_copy(update={"deadlines": Deadlines.model_validate({"forward": "6s", "receipt": "1h"})})
    settled = Chain(at=now() - MINUTE).through(T.FORWARDED, T.RETURNED, T.CLOSED, after=SECOND)
    async with running(build(quick)) as one, running(build(quick)) as other:
        await publish(quick, settled.events)
        await known(one, settled, 4)  # the two have shared out the partitions
        chain = Chain(at=now())
        await publish(quick, chain.events)
        await known(one, chain, 2)
        (soon,) = (await get(one, "/v1/due-soon", COORDINATOR, step=2))["items"]
        assert soon["complaint_id"] == chain.complaint_id

        async def late() -> bool:
            return await overdue(other, COORDINATOR) == [chain.complaint_id]

        await until(late)
        await asyncio.sleep(2)
    assert await alarms(quick) == ["1:forward:breached", "1:forward:warned"]
    breached = next(e for e in await read_topics(quick, SlaBreached.topic) if isinstance(e, ClockEvent))
    assert breached.due_at - breached.opened_at == 6 * SECOND
    assert breached.occurred_at == breached.due_at
    assert (breached.number, breached.step, breached.responsible) == (chain.number, 2, Role.CENTRAL_OPERATOR)


async def test_a_step_that_ended_late_while_the_service_was_down_is_told_one_in_time_is_not(settings: Settings) -> None:
    late = Chain(at=now() - 9 * DAY).received().then(T.FORWARDED, after=4 * DAY).then(T.ASSIGNED)
    kept = Chain(at=now() - 9 * DAY).received().then(T.FORWARDED, after=2 * DAY).then(T.ASSIGNED)
    await publish(settings, [*late.events, *kept.events])
    async with running(build(settings)) as client:
        await known(client, late, 4)

        async def told() -> bool:
            return bool(await alarms(settings))

        await until(told)
        assert await alarms(settings) == ["1:forward:breached"]


async def test_a_breach_is_taken_back_when_the_message_that_was_late_arrives(
    settings: Settings, service: httpx.AsyncClient
) -> None:
    chain = Chain(at=now() - 3 * DAY - MINUTE).received()
    await publish(settings, chain.events)

    async def told() -> bool:
        return await alarms(settings) == ["1:forward:breached"]

    await until(told)
    chain.then(T.FORWARDED, after=2 * DAY)
    await publish(settings, [chain.last])

    async def withdrawn() -> bool:
        return await alarms(settings) == ["1:forward:breached", "1:forward:breached:withdrawn"]

    await until(withdrawn)
    await publish(settings, chain.events)  # everything once more
    await asyncio.sleep(1)
    assert await withdrawn()
    rows = (await get(service, "/v1/compliance", COORDINATOR))["rows"]
    forward = next(row for row in rows if row["step"] == 2)
    assert (forward["in_time"], forward["late"], forward["share_in_time"]) == (1, 0, 1.0)


async def test_an_event_of_two_processes_at_once_is_no_alarm_of_two(settings: Settings) -> None:
    chains = [Chain(at=now() - 4 * DAY).received() for _ in range(40)]
    await publish(settings, [event for chain in chains for event in chain.events])
    async with running(build(settings)) as one, running(build(settings)):
        await until(lambda: _all_overdue(one, len(chains)))

        async def quiet() -> bool:
            return await metric(one, "lapor_sla_oldest_pending_alarm_seconds") == 0

        await until(quiet)
    found = await alarms(settings)
    assert len(found) == len(chains)


async def _all_overdue(client: httpx.AsyncClient, count: int) -> bool:
    return len((await get(client, "/v1/overdue", COORDINATOR, limit=100))["items"]) == count


async def test_operators_see_their_own_step_and_an_agency_its_own_complaints(
    settings: Settings, service: httpx.AsyncClient
) -> None:
    began = now() - 40 * DAY
    central = Chain(at=began).received()
    regional = Chain(at=began).received().then(T.FORWARDED)
    ours = Chain(at=began).received().through(T.FORWARDED, T.ASSIGNED)
    theirs = Chain(at=began).received().then(T.FORWARDED).then(T.ASSIGNED, agency=PERKIM)
    unheard = Chain(at=now() - MINUTE * 11)  # its receipt is late, which is no operator's doing
    everything = [central, regional, ours, theirs, unheard]
    await publish(settings, [event for chain in everything for event in chain.events])
    await until(lambda: _all_overdue(service, len(everything)))
    our_operator = bearer(Role.AGENCY_OPERATOR, agency=PUPR.code)

    assert await overdue(service, bearer(Role.CENTRAL_OPERATOR)) == [central.complaint_id]
    assert await overdue(service, bearer(Role.REGIONAL_OPERATOR)) == [regional.complaint_id]
    assert await overdue(service, our_operator) == [ours.complaint_id]
    assert await overdue(service, our_operator, agency=PERKIM.code) == []
    assert await overdue(service, our_operator, step=2) == []
    assert await overdue(service, bearer(Role.AGENCY_OPERATOR)) == []
    assert await overdue(service, COORDINATOR, step=1) == [unheard.complaint_id]
    assert (await service.get("/v1/overdue", headers=bearer(Role.ADMIN))).status_code == 403
    assert await overdue(service, COORDINATOR, agency=PERKIM.code) == [theirs.complaint_id]

    shown = await get(service, f"/v1/complaints/{ours.complaint_id}/clocks", our_operator)
    assert [(clock["clock"], clock["state"]) for clock in shown["clocks"]] == [("follow_up", "overdue")]
    for hidden in (theirs.complaint_id, regional.complaint_id, "no-such-complaint"):
        answer = await service.get(f"/v1/complaints/{hidden}/clocks", headers=our_operator)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:lapor:problem:not-found")


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/overdue", {}, 401),
        ("/v1/overdue", bearer(Role.CITIZEN), 403),
        ("/v1/complaints/x/clocks", bearer(Role.CITIZEN), 403),
        ("/v1/compliance", bearer(Role.REGIONAL_OPERATOR), 403),
        ("/v1/overdue?step=7", COORDINATOR, 422),
        ("/v1/overdue?limit=0", COORDINATOR, 422),
        ("/v1/overdue?cursor=nonsense", COORDINATOR, 422),
        ("/v1/due-soon?hours=0", COORDINATOR, 422),
        ("/v1/compliance?since=2026-01-01T00:00:00", COORDINATOR, 422),
        ("/v1/compliance?since=2020-01-01T00:00:00Z&until=2026-01-01T00:00:00Z", COORDINATOR, 422),
        ("/v1/compliance?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", COORDINATOR, 422),
    ],
)
async def test_refusals_are_problems(
    service: httpx.AsyncClient, path: str, headers: dict[str, str], status: int
) -> None:
    answer = await service.get(path, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def commit_all(settings: Settings, group: str, *partitions: int) -> None:
    """Commit for a group, in which nobody is, all that the topics hold, or all that these partitions of them hold."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap, group_id=settings.group(group))
    await consumer.start()
    try:
        chosen = [
            TopicPartition(settings.topic_prefix + topic, number)
            for topic in CONSUMES
            for number in partitions or range(settings.topic_partitions)
        ]
        ends = await consumer.end_offsets(chosen)
        consumer.assign(chosen)
        await consumer.commit({p: OffsetAndMetadata(end, "") for p, end in ends.items()})
    finally:
        await consumer.stop()


async def test_what_is_known_goes_up_to_where_the_group_has_committed(settings: Settings) -> None:
    chains = [Chain() for _ in range(6)]
    await publish(settings, [chain.last for chain in chains])
    level = Level(settings, "sla", CONSUMES)
    try:
        await level.look()
        assert [level.at] == [None], "nothing has been consumed yet"
        await commit_all(settings, "sla")
        before = now()
        await level.look()
        assert level.at is not None
        assert level.at <= before, "the level is that of the first look"
        await level.look()
        assert level.at >= before
        await publish(settings, [Chain().last])
        known_until = level.at
        for _ in range(2):
            await level.look()
        assert known_until == level.at
    finally:
        await level.stop()


@asynccontextmanager
async def ticking_alone(settings: Settings, patience: timedelta) -> AsyncIterator[tuple[ClockStore, Ticker, Level]]:
    """The clocks and the ticker of a group that takes nothing in by itself."""
    rules = Rules(settings.deadlines, grace=timedelta(), patience=patience)
    client, publisher = connect(settings.mongo_url), Publisher(settings.kafka_bootstrap, settings.topic_prefix, "sla")
    level = Level(settings, "behind", CONSUMES)
    database = client[settings.database("sla")]
    clocks = ClockStore(database, rules)
    await clocks.ensure_indexes()
    journal = Journal(MongoJournal(database), publisher, [clocks.projection])
    await journal.start()
    clock = CLOCK.set(CLOCK.get())
    try:
        yield clocks, Ticker(clocks, journal, level, rules, ClockMetrics(), batch=10), level
    finally:
        CLOCK.reset(clock)
        await level.stop()
        await journal.stop()
        await publisher.stop()
        client.close()


async def test_a_consumer_that_does_not_get_on_is_waited_for_until_the_patience_ends(settings: Settings) -> None:
    """And no longer: an alarm that may be untrue is better than none for ever."""
    chain = Chain(at=now() - 3 * DAY).received()
    await publish(settings, chain.events)
    async with ticking_alone(settings, patience=MINUTE) as (clocks, ticker, _):
        await clocks.projection.apply(chain.events)
        await ticker.tick()
        pass_by(MINUTE - 10 * SECOND)
        await ticker.tick()
        assert await alarms(settings) == []
        pass_by(15 * SECOND)
        await ticker.tick()

        async def told() -> bool:
            return await alarms(settings) == ["1:forward:breached"]

        await until(told)


async def test_what_was_done_in_time_while_the_service_was_down_is_no_alarm_when_it_is_back(settings: Settings) -> None:
    """It last knew a clock that ran, and was down when the step was done and when it would have been due. It is waited
    for as long as it catches up, however long that takes."""
    chain = Chain(at=now() - 4 * DAY).received()
    known_before = list(chain.events)
    chain.then(T.FORWARDED, after=2 * DAY)
    await publish(settings, [*chain.events, *(Chain().last for _ in range(20))])  # in both partitions
    async with ticking_alone(settings, patience=MINUTE) as (clocks, ticker, level):
        await clocks.projection.apply(known_before)
        await ticker.tick()
        for partition in range(settings.topic_partitions):
            pass_by(MINUTE - 15 * SECOND)
            if partition + 1 == settings.topic_partitions:
                await clocks.projection.apply(chain.events)
            await commit_all(settings, "behind", partition)
            await ticker.tick()
        assert level.at is not None
        assert await alarms(settings) == []


def pass_by(span: timedelta) -> None:
    """Let time pass, until the end of `ticking_alone`."""
    before = CLOCK.get()
    CLOCK.set(lambda: before() + span)
