"""Row 7: how fast each service takes a backlog in, beside aiokafka alone."""

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata
from pymongo import InsertOne

from services.intake import projection as complaints
from shared.calendar import Deadlines
from shared.events import ComplaintEvent, Event, Submitted
from shared.pieces import pieces
from shared.projection import fold
from shared.publisher import Publisher
from tests.load.installation import Installation, installation
from tests.load.proof import CONSUMES, Watch, watching
from tests.load.row import Effort, Measured, compare
from tests.load.seed import Seeder
from tests.load.stories import PLOTS

SERVICES = ("routing", "opd", "intake", "sla", "notify")
"""notify last: what it issues when it takes the backlog again would be in the others' topics."""
_PLOTS = [plot for plot in PLOTS if plot.name in ("rated", "corrected", "declined")]
_PUBLISHED_AT_ONCE = 2000
_WITHIN = 600.0


@dataclass(frozen=True, slots=True)
class Consumers:
    """Each service on a prepared backlog."""

    name: str = "consumers"
    title: str = "Consumers on a prepared backlog"
    how: str = (
        "The topics hold all events of 2,500 complaints in the order in which they happened. Each service's "
        "own process is started on them, its projections empty (intake's hold what it issued itself), and is timed "
        "from its first commit to its last; beside a process of aiokafka's getmany, decoding by the event contract, "
        "one bulk_write of inserts per batch and a commit, on the same topics. Runs alternate."
    )

    def run(self, effort: Effort) -> Measured:
        count, pairs = 2500, int(effort.pick(1, 3))  # fewer would be one batch, which takes no time to be measured
        result = Measured([], facts={"complaints": count})
        with installation(effort.folder / "consumers", effort.say) as bench:
            bench.system.stop(*SERVICES)
            seeder = Seeder(bench.services.mongo_url, bench.services.namespace, say=effort.say)
            events = seeder.events(count, _PLOTS)
            effort.say(f"  publishing {len(events)} events")
            bench.run(_publish(bench, events))
            filed = [event for event in events if isinstance(event, Submitted)]
            result.facts["events"] = len(events)
            for service in SERVICES:
                ours: list[float] = []
                floor: list[float] = []
                for number in range(1, pairs + 1):
                    _forget(bench, service, events)
                    bench.run(_rewind(bench, service))
                    with bench.cpu.of(result.cpu, f"{service} {number}"):
                        ours.append(bench.run(_until_taken(bench, service, bench.system.children[service].start)))
                    bench.system.stop(service)
                    floor.append(self._floor(bench, service, f"{service} {number}", result))
                    effort.say(f"  {service} {number}: {ours[-1]:.0f}/s, floor {floor[-1]:.0f}/s")
                result.comparisons.append(compare(f"{service}: events", "/s", ours, floor, at_least=0.7))
                result.proofs[f"{service}: each complaint is in its store"] = _holds(bench, service, filed)
        return result

    def _floor(self, bench: Installation, service: str, run: str, result: Measured) -> float:
        group = f"{bench.services.namespace}-floor-{run.replace(' ', '-')}"
        options = {"--prefix": bench.services.topic_prefix, "--group": group, "--database": "bench_floor"}
        command = [sys.executable, "-m", "tests.load.floor_consumer", *CONSUMES[service]]
        environment = {
            "LAPOR_MONGO_URL": bench.services.mongo_url,
            "LAPOR_KAFKA_BOOTSTRAP": bench.services.kafka_bootstrap,
        }
        command += [part for option in options.items() for part in option]

        def start() -> None:
            bench.system.children.start("floor", command, environment, stage=1)

        with bench.cpu.of(result.cpu, f"floor of {run}"):
            rate = bench.run(_until_taken(bench, service, start, group))
        bench.system.children["floor"].stop()
        with bench.mongo() as client:
            client.drop_database("bench_floor")
        return rate


async def _publish(bench: Installation, events: list[Event]) -> None:
    publisher = Publisher(bench.services.kafka_bootstrap, bench.services.topic_prefix, "bench", wait_seconds=60)
    for some in pieces(events, _PUBLISHED_AT_ONCE):
        if len(await publisher.publish(some)) < len(some):
            raise TimeoutError("the brokers did not take the backlog")
    await publisher.stop()


def _forget(bench: Installation, service: str, events: list[Event]) -> None:
    """Empty the service's projections and journal; intake's projections hold what it issued itself, which does not come
    to it from the topics. Without the last of that it would find complaints whose time is over, and close them."""
    with bench.mongo() as client:
        database = client[bench.services.database(service)]
        for name in ("journal", "complaints", "cases", "work", "clocks", "inbox", "deliveries", "contacts"):
            database[name].delete_many({})
        if service == "intake":
            derive = complaints.deriving(Deadlines())
            own = [e for e in events if isinstance(e, ComplaintEvent) and e.topic in complaints.ISSUES]
            chains = groupby(sorted(own, key=lambda e: e.complaint_id), lambda e: e.complaint_id)
            documents = [fold(None, chain, derive) for _, chain in chains]
            database["complaints"].bulk_write([InsertOne(d) for d in documents if d], ordered=False)


async def _rewind(bench: Installation, service: str) -> None:
    """Set the service's group back to the beginning; nobody may be in it."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bench.services.kafka_bootstrap,
        group_id=bench.services.group(service),
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        partitions = [
            TopicPartition(bench.services.topic_prefix + topic, number)
            for topic in CONSUMES[service]
            for number in range(bench.services.topic_partitions)
        ]
        consumer.assign(partitions)
        await consumer.commit({partition: OffsetAndMetadata(0, "") for partition in partitions})
    finally:
        await consumer.stop()


async def _until_taken(bench: Installation, service: str, start: Callable[[], None], group: str | None = None) -> float:
    """Start a consumer; its records per second from the first commit that is seen to the last."""
    async with watching(bench, (service,)) as watch:
        wanted = sum((await watch.ends(service)).values())
        await _taken(watch, service, group)
        start()
        deadline = time.monotonic() + _WITHIN
        first: tuple[float, int] | None = None
        while (taken := await _taken(watch, service, group)) < wanted:
            if taken and first is None:
                first = (time.perf_counter(), taken)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{group or service} took {taken} of {wanted} records in {_WITHIN:.0f} s")
            await asyncio.sleep(0.02)
        ended = time.perf_counter()
    if first is None:
        raise TimeoutError(f"{group or service} was too fast to be timed: publish more")
    return (wanted - first[1]) / (ended - first[0])


async def _taken(watch: Watch, service: str, group: str | None) -> int:
    return sum((await watch.committed(service, group)).values())


def _holds(bench: Installation, service: str, filed: list[Submitted]) -> bool:
    collection = {"intake": "complaints", "routing": "cases", "opd": "work", "sla": "clocks"}.get(service, "inbox")
    of = "complaint_id" if service == "notify" else "_id"
    with bench.mongo() as client:
        stored = set(client[bench.services.database(service)][collection].distinct(of))
    return stored.issuperset(event.complaint_id for event in filed)


CONSUMERS = Consumers()
