"""Rows 1 and 2: filing a complaint, beside a bare handler that only stores and sends."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer

from tests.load import floor_app
from tests.load.generator import Load, closed_loop, quantile
from tests.load.installation import Installation, installation
from tests.load.proof import until_level
from tests.load.reports import Reports
from tests.load.row import Comparison, Effort, Measured, compare

_HOW = (
    "One intake process (the other services are stopped), beside one process of a FastAPI handler that validates a "
    "body of the same shape, awaits motor's insert_one (w=majority, j=true) and then aiokafka's send_and_wait "
    "(acks=all); the same server options, generator and bytes; runs alternate."
)


@dataclass(frozen=True, slots=True)
class Create:
    """Creates at a number of connections."""

    name: str
    title: str
    connections: int
    how: str = _HOW

    def run(self, effort: Effort) -> Measured:
        pairs, seconds = int(effort.pick(1, 5)), effort.pick(2, 6)
        with _two_of_them(effort) as (bench, reports, floor_url):
            ours: list[Load] = []
            floor: list[Load] = []
            cpu: dict[str, dict[str, float]] = {}
            urls = {"ours": bench.urls["intake"], "floor": floor_url}
            for url in urls.values():
                bench.run(closed_loop(url, self.connections, reports.next, effort.pick(1, 3)))
            for number in range(1, pairs + 1):
                for who, loads in (("ours", ours), ("floor", floor)):
                    until_level(bench, ("intake",), within=60)
                    with bench.cpu.of(cpu, f"{who} {number}"):
                        load = bench.run(closed_loop(urls[who], self.connections, reports.next, seconds))
                    loads.append(load)
                    bench.say(
                        f"  {who:5} {number}: {load.rate:8.1f}/s  p50 {1e3 * quantile(load.latencies, 0.5):.2f} ms  "
                        f"p99 {1e3 * quantile(load.latencies, 0.99):.2f} ms  refused {load.refused}"
                    )
            until_level(bench, ("intake",), within=60)
            acknowledged = [complaint for load in ours for complaint in load.complaints]
            proved = proofs(bench, acknowledged)
            proved["no request was refused"] = not sum(load.refused for load in (*ours, *floor))
        return Measured(
            self._comparisons(ours, floor),
            proved,
            {
                "connections": self.connections,
                "seconds_per_run": seconds,
                "acknowledged": len(acknowledged),
                "generator_us_per_request": round(
                    1e6
                    * sum(used["generator"] for used in cpu.values())
                    / max(1, sum(load.statuses.total() for load in (*ours, *floor))),
                    1,
                ),
            },
            cpu,
        )

    def _comparisons(self, ours: list[Load], floor: list[Load]) -> list[Comparison]:
        many = self.connections > 1
        latencies = [
            compare(
                f"latency p{share}",
                "ms",
                [1e3 * quantile(load.latencies, share / 100) for load in ours],
                [1e3 * quantile(load.latencies, share / 100) for load in floor],
                at_most=1.0 if share == (99 if many else 50) else None,
            )
            for share in (50, 95, 99)
        ]
        rate = compare("creates", "/s", [o.rate for o in ours], [f.rate for f in floor], at_least=1.5 if many else None)
        return [rate, *latencies]


@contextmanager
def _two_of_them(effort: Effort) -> Iterator[tuple[Installation, Reports, str]]:
    """Intake and the floor, both running on the same servers, and requests for either."""
    with installation(effort.folder / "create", effort.say) as bench:
        citizens = bench.people(int(effort.pick(20, 200))).citizens
        bench.system.stop("routing", "opd", "notify", "sla")
        topic = f"{bench.settings.namespace}.{floor_app.TOPIC}"
        bench.run(bench.make_topic(topic))
        database = f"{bench.settings.namespace}_floor"
        url = bench.start_beside("floor", "tests.load.floor_app", "--topic", topic, "--database", database)
        yield bench, Reports(citizens), url


def proofs(bench: Installation, acknowledged: list[str]) -> dict[str, bool]:
    """That all that was acknowledged is in the journal, marked, in the projection and on the topic."""
    with bench.mongo() as client:
        database = client[bench.services.database("intake")]
        journal = {d["_id"]: d["published"] for d in database["journal"].find({}, {"published": 1})}
        projected = {d["_id"] for d in database["complaints"].find({"status": "submitted"}, {"_id": 1})}
    sent = bench.run(_on_topic(bench, "complaint.submitted"))
    ids = [f"{complaint}:1" for complaint in acknowledged]
    return {
        "complaints were acknowledged": bool(acknowledged),
        "each acknowledged create is in the journal": all(i in journal for i in ids),
        "and marked as published": all(journal.get(i) for i in ids),
        "and in the projection": projected.issuperset(acknowledged),
        "and on the topic": sent.issuperset(ids),
    }


async def _on_topic(bench: Installation, topic: str) -> set[str]:
    """The event ids that a topic holds from its beginning, read by a consumer of our own."""
    consumer = AIOKafkaConsumer(
        bench.services.topic_prefix + topic,
        bootstrap_servers=bench.services.kafka_bootstrap,
        auto_offset_reset="earliest",
        group_id=None,
    )
    await consumer.start()
    found: set[str] = set()
    try:
        while batch := await consumer.getmany(timeout_ms=2000):
            for records in batch.values():
                found.update(dict(record.headers)["ce_id"].decode() for record in records)
    finally:
        await consumer.stop()
    return found


AT_64 = Create("create", "Create a complaint, 64 connections", 64)
AT_1 = Create("create-1", "Create a complaint, 1 connection", 1)
