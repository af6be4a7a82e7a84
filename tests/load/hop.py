"""Row 6: from a journal's insert until the next service's API shows it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import uuid_utils
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from motor.motor_asyncio import AsyncIOMotorClient

from shared.sop import Role
from tests.load import sop
from tests.load.generator import quantile, undisturbed
from tests.load.installation import Installation, People, installation
from tests.load.proof import until_level
from tests.load.reports import Reports
from tests.load.row import Effort, Measured, compare, figure
from tests.load.wire import pool, request

_TOPIC = "floor-hop"
_VALUE = b"x" * 900
"""As long as a `submitted` event."""
_LOOK_AGAIN_SECONDS, _LOOK_AGAIN_UNDER_LOAD_SECONDS = 0.002, 0.01
"""Between an answer that does not show the case and the next look. It counts as time taken. Four who look without a
rest are a load of hundreds of requests a second, beside the one that is measured."""
_WITHIN_SECONDS = 30.0
_REST_SECONDS = 0.25
"""Between two hand-overs, so that all is at rest again: what polls is asleep, what waits has waited for long."""
_PAUSES = {"one after the other": 0.0, "after a rest": _REST_SECONDS}


@dataclass(frozen=True, slots=True)
class Hop:
    """One hand-over at a time on an idle system, and a stream of them at half load."""

    name: str = "hop"
    title: str = "From an event to the next desk"
    how: str = (
        "A complaint is filed at intake, and routing is asked for its case (GET /v1/cases/{id}) until it answers 200, "
        f"{1e3 * _LOOK_AGAIN_SECONDS:.0f} ms after each answer again, at half load "
        f"{1e3 * _LOOK_AGAIN_UNDER_LOAD_SECONDS:.0f}; the time runs from the moment that intake's journal entry was "
        "recorded. All services run. "
        "The floor is one process with a raw aiokafka producer and consumer: from send to the acknowledged insert of "
        "the consumed record into MongoDB, nothing being read over HTTP. One at a time, each as soon as the one before "
        "was seen, and each after a rest; runs alternate. Then the same while whole complaints are carried through at "
        "half the rate that a closed loop reached just before."
    )

    def run(self, effort: Effort) -> Measured:
        pairs, count = int(effort.pick(1, 3)), int(effort.pick(10, 150))
        result = Measured([], facts={"hops_per_run": count})
        ours: dict[str, list[list[float]]] = {how: [] for how in _PAUSES}
        floor: dict[str, list[list[float]]] = {how: [] for how in _PAUSES}
        with installation(effort.folder / "hop", effort.say) as bench:
            people = bench.people(int(effort.pick(10, 100)))
            reports = Reports(people.citizens, seed=2)
            bench.run(bench.make_topic(f"{bench.settings.namespace}.{_TOPIC}"))
            bench.run(hops(bench, people, reports, count // 3))
            bench.run(raw_hops(bench, count // 3))
            for number in range(1, pairs + 1):
                for how, pause in _PAUSES.items():
                    until_level(bench, within=60)
                    ours[how].append(bench.run(hops(bench, people, reports, count, pause=pause)))
                    until_level(bench, within=60)
                    floor[how].append(bench.run(raw_hops(bench, count, pause=pause)))
                    half = [1e3 * quantile(took, 0.5) for took in (ours[how][-1], floor[how][-1])]
                    effort.say(f"  {number}: {how} p50 {half[0]:.1f} ms, floor {half[1]:.1f} ms")
            loaded = self._under_load(bench, effort, people, reports, result)
        result.comparisons += [
            *(
                compare(
                    f"journal to next desk, {how}, p{round(100 * share)}",
                    "ms",
                    [1e3 * quantile(took, share) for took in ours[how]],
                    [1e3 * quantile(took, share) for took in floor[how]],
                    at_most=2.0 if share == 0.5 else None,
                )
                for how in _PAUSES
                for share in (0.5, 0.95)
            ),
            figure("the same at half load p50", "ms", [1e3 * quantile(took, 0.5) for took in loaded]),
            figure("the same at half load p99", "ms", [1e3 * quantile(took, 0.99) for took in loaded], at_most=250.0),
        ]
        return result

    def _under_load(
        self, bench: Installation, effort: Effort, people: People, reports: Reports, result: Measured
    ) -> list[list[float]]:
        seconds, in_flight = effort.pick(5, 20), int(effort.pick(40, 600))
        until_level(bench, within=120)
        most = bench.run(
            sop.play(bench, people, in_flight=in_flight, warm_up=effort.pick(2, 5), seconds=seconds, drain=60)
        )
        until_level(bench, within=300)
        half = max(1.0, most.rate / 2)
        result.facts |= {"closed_loop_rate": round(most.rate, 1), "half_load": round(half, 1)}
        effort.say(f"  {most.rate:.1f} lifecycles/s in a closed loop; now {half:.1f}/s")
        loaded = []
        for number in range(1, int(effort.pick(1, 3)) + 1):
            with bench.cpu.of(result.cpu, f"half load {number}"):
                loaded.append(bench.run(self._beside(bench, people, reports, half, effort)))
            until_level(bench, within=120)
            effort.say(f"  at half load {number}: p99 {1e3 * quantile(loaded[-1], 0.99):.1f} ms of {len(loaded[-1])}")
        return loaded

    async def _beside(
        self, bench: Installation, people: People, reports: Reports, rate: float, effort: Effort
    ) -> list[float]:
        async with sop.paced(bench, people, rate) as journey:
            await asyncio.sleep(effort.pick(2, 5))
            count = int(effort.pick(20, 300))
            look_again = _LOOK_AGAIN_UNDER_LOAD_SECONDS
            took = await hops(bench, people, reports, count, at_once=4, pause=_REST_SECONDS, look_again=look_again)
        if journey.failures:
            raise sop.GivenUp(f"{len(journey.failures)} complaints of the load failed: {journey.failures[0]}")
        return took


async def hops(
    bench: Installation,
    people: People,
    reports: Reports,
    count: int,
    *,
    at_once: int = 1,
    pause: float = 0.0,
    look_again: float = _LOOK_AGAIN_SECONDS,
) -> list[float]:
    """Seconds from the journal's entry to the next desk, sorted, of ``count`` complaints that ``at_once`` people file,
    each one after the other."""
    seen_at: dict[str, float] = {}
    token = people.staff[Role.CENTRAL_OPERATOR]

    async with pool(bench.urls["intake"], at_once) as intake, pool(bench.urls["routing"], at_once) as routing:

        async def go(number: int) -> None:
            for _ in range(number, count, at_once):
                status, body = await intake.send(reports.next())
                if status != 201:
                    raise ValueError(f"{status} {body[:300]!r}")
                complaint = body[17:53].decode()
                asked = request("GET", f"/v1/cases/{complaint}", token=token)
                deadline = time.monotonic() + _WITHIN_SECONDS
                while (await routing.send(asked))[0] != 200:
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"routing does not show {complaint}")
                    await asyncio.sleep(look_again)
                seen_at[complaint] = time.time()
                await asyncio.sleep(pause)

        with undisturbed():
            await asyncio.gather(*(go(number) for number in range(at_once)))
    with bench.mongo() as client:
        entries = client[bench.services.database("intake")]["journal"].find(
            {"_id": {"$in": [f"{complaint}:1" for complaint in seen_at]}}, {"recorded_at": 1}
        )
        recorded = {entry["_id"].partition(":")[0]: entry["recorded_at"].timestamp() for entry in entries}
    return sorted(at - recorded[complaint] for complaint, at in seen_at.items())


async def raw_hops(bench: Installation, count: int, *, pause: float = 0.0) -> list[float]:
    """Seconds from send to the insert's acknowledgement, sorted."""
    topic = f"{bench.settings.namespace}.{_TOPIC}"
    arrived: dict[bytes, asyncio.Future[float]] = {}
    async with _raw(bench, topic, arrived) as produce:
        took = []
        with undisturbed():
            for _ in range(count):
                key = str(uuid_utils.uuid7()).encode()
                arrived[key] = asyncio.get_running_loop().create_future()
                began = time.perf_counter()
                await produce(key)
                took.append(await asyncio.wait_for(arrived[key], _WITHIN_SECONDS) - began)
                await asyncio.sleep(pause)
    return sorted(took)


@asynccontextmanager
async def _raw(
    bench: Installation, topic: str, arrived: dict[bytes, asyncio.Future[float]]
) -> AsyncIterator[Callable[[bytes], Awaitable[None]]]:
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(bench.services.mongo_url)
    collection = client[f"{bench.settings.namespace}_floor"]["hops"]
    await collection.update_one({"_id": "warm"}, {"$set": {}}, upsert=True)
    producer = AIOKafkaProducer(bootstrap_servers=bench.services.kafka_bootstrap, acks="all")
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bench.services.kafka_bootstrap, auto_offset_reset="latest")
    await producer.start()
    await consumer.start()
    await consumer.seek_to_end()

    async def take() -> None:
        while True:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                for record in records:
                    await collection.insert_one({"_id": record.key.decode(), "value": record.value})
                    arrived[record.key].set_result(time.perf_counter())

    async def produce(key: bytes) -> None:
        await producer.send_and_wait(topic, _VALUE, key)

    taking = asyncio.create_task(take())
    try:
        yield produce
    finally:
        taking.cancel()
        with suppress(asyncio.CancelledError):
            await taking
        await consumer.stop()
        await producer.stop()
        client.close()


HOP = Hop()
