"""Row 9: what each service holds in memory, at rest and while events go through it."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.events import EVENTS
from tests.load import sop
from tests.load.installation import Installation, People, installation
from tests.load.proof import until_level
from tests.load.row import Effort, Measured, Series, compare, figure

_MIB = 2**20
_SLICE_SECONDS = 20.0
_SERVICES = ("intake", "routing", "opd", "notify", "sla")
_ALL = (*_SERVICES, "kafka", "mongod", "smtp")


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes of each service with its worker processes, sampled while whole complaints go through."""

    name: str = "memory"
    title: str = "Memory of each service"
    how: str = (
        "Resident memory of each service together with its worker processes: at rest after the start, and every few "
        "seconds while whole complaints are carried through until the topics hold the given number of events. A "
        "service is flat if at the end it holds at most 10 % more than it did after half of the events."
    )

    def run(self, effort: Effort) -> Measured:
        wanted = int(effort.pick(2_000, 200_000, 1_000_000))
        result = Measured([], facts={"events_wanted": wanted})
        with installation(effort.folder / "memory", effort.say) as bench:
            people = bench.people(int(effort.pick(10, 100)))
            time.sleep(effort.pick(2, 20))
            rest = bench.system.memory()
            samples: list[tuple[int, dict[str, int]]] = [(bench.run(_events(bench)), rest)]
            with bench.cpu.of(result.cpu, "whole run"):
                bench.run(_fill(bench, effort, people, wanted, samples))
            until_level(bench, within=300)
            events = bench.run(_events(bench))
            samples.append((events, bench.system.memory()))
        names = [name for name in _ALL if name in rest]
        result.facts["events"] = events
        half = next(held for at, held in samples if at >= events / 2)
        result.comparisons += [figure(f"{name} at rest", "MiB", [rest[name] / _MIB]) for name in names]
        result.comparisons += [
            compare(
                f"{name} after {events} events",
                "MiB",
                [samples[-1][1][name] / _MIB],
                [half[name] / _MIB],
                at_most=1.1 if name in _SERVICES else None,
                against_name="same at half of them",
            )
            for name in names
        ]
        result.series.append(
            Series(
                "Resident memory",
                "events on the topics",
                "MiB",
                [float(at) for at, _ in samples],
                {name: [round(held.get(name, 0) / _MIB, 1) for _, held in samples] for name in names},
            )
        )
        return result


async def _fill(
    bench: Installation,
    effort: Effort,
    people: People,
    wanted: int,
    samples: list[tuple[int, dict[str, int]]],
) -> None:
    async def sample() -> None:
        while True:
            await asyncio.sleep(effort.pick(1, 5))
            samples.append((await _events(bench), await asyncio.to_thread(bench.system.memory)))

    sampling = asyncio.create_task(sample())
    try:
        while samples[-1][0] < wanted:
            await sop.play(
                bench,
                people,
                in_flight=int(effort.pick(40, 300)),
                warm_up=0,
                seconds=effort.pick(4, _SLICE_SECONDS),
                drain=30,
            )
            bench.say(f"  {samples[-1][0]} of {wanted} events")
    finally:
        sampling.cancel()
        with suppress(asyncio.CancelledError):
            await sampling


async def _events(bench: Installation) -> int:
    """How many records the topics hold."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bench.services.kafka_bootstrap, group_id=None)
    await consumer.start()
    try:
        partitions = [
            TopicPartition(bench.services.topic_prefix + topic, number)
            for topic in EVENTS
            for number in range(bench.services.topic_partitions)
        ]
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        return sum(ends.values())
    finally:
        await consumer.stop()


MEMORY = Memory()
