"""One seed from beginning to end: a storm of faults while people work, then calm, then the checker's judgement."""

import asyncio
import gc
import logging
import sys
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import ConsumerRecord, TopicPartition

from shared.deadletters import header
from shared.publisher import Record
from shared.records import headers_of
from shared.sop import Transition
from shared.topics import dead_letters
from tests.simulation.checker import Verdict, check
from tests.simulation.clients import People
from tests.simulation.loop import Strand
from tests.simulation.processes import CONSUMES, DEFECT, SERVICES, SETTINGS, Plan, Process, Provider
from tests.simulation.world import World
from tests.support.events import Chain

_STORM_SECONDS = 25.0
_SETTLE_SECONDS = 120.0


@dataclass
class Outcome:
    """What became of a seed."""

    seed: int
    verdict: Verdict
    story: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class Simulation:
    """The world, its processes and its people."""

    def __init__(self, seed: int, plan: Plan, *, telling: bool = False) -> None:
        self.plan = plan
        self.world = World(seed, plan.servers(), telling=telling)
        self.world.on_death = self._died
        self.provider = Provider(self.world)
        self.processes: dict[str, Process] = {}
        self.people = People(self.world, self._pick)
        self.poison: list[tuple[str, bytes]] = []

    def run(self) -> bool:
        """True if all came to rest in time."""
        return self.world.loop.run(self._main(), self.world.context, _STORM_SECONDS + _SETTLE_SECONDS + 60)

    async def _main(self) -> None:
        world, random = self.world, self.world.random
        names = [f"{service}-1" for service in SERVICES]
        if random.random() < 0.3:
            names.append(f"{random.choice(SERVICES)}-2")
        for name in names:
            self._start(name)
        number = 1 if random.random() < 0.75 else random.choice((2, 3))
        citizens = [
            world.spawn(world.context, self.people.citizen(index, self._moves(number))) for index in range(number)
        ]
        trouble = world.spawn(world.context, self._trouble())
        await asyncio.wait(citizens, timeout=_STORM_SECONDS)
        trouble.cancel()
        for citizen in citizens:
            citizen.cancel()
        world.stormy = False
        world.away.clear()
        self._wake()
        world.tell("world", "the faults end")
        await self.people.reach_everybody()
        waited = 0.0
        while not self.quiet() and waited < _SETTLE_SECONDS:
            await asyncio.sleep(1.0)
            waited += 1.0
        self.settled = waited < _SETTLE_SECONDS

    def _moves(self, complaints: int) -> int:
        """How far a complaint goes: mostly not through the whole procedure, so that there is time for many seeds."""
        random = self.world.random
        return random.randrange(6, 10) if complaints == 1 and random.random() < 0.25 else random.randrange(2, 6)

    def _start(self, name: str) -> None:
        service = name.split("-")[0]
        self.processes[name] = Process(self.world, self.plan, self.provider, service, name)
        self.world.tell(name, "starts")

    def _died(self, strand: Strand) -> None:
        process = self.processes[strand.name]
        process.died()
        pause = 0.1 + self.world.random.random()
        self.world.loop.call_later(pause, self._start, strand.name, context=self.world.context)

    def _pick(self, service: str) -> Process | None:
        running = [p for p in self.processes.values() if p.service == service and p.ready and p.strand.alive]
        return self.world.random.choice(running) if running else None

    async def _trouble(self) -> None:
        """What happens by itself: servers that go away, processes killed at any moment, rebalances, poison."""
        world, random = self.world, self.world.random
        while True:
            await asyncio.sleep(0.3 + 4 * random.random())
            draw = random.random()
            if draw < 0.25:
                server = random.choice(["kafka", *(f"mongod-{service}" for service in SERVICES)])
                world.tell("world", f"{server} goes away")
                world.away.add(server)
                world.counts["outages"] += 1
                await asyncio.sleep(0.2 + 2 * random.random())
                world.away.discard(server)
                world.tell("world", f"{server} is back")
                self._wake()
            elif draw < 0.5:
                process = random.choice(list(self.processes.values()))
                if process.strand.alive:
                    world.loop.kill(process.strand)
            elif draw < 0.75:
                service = random.choice(SERVICES)
                world.counts["rebalances"] += 1
                world.tell("world", f"rebalance of {service}")
                world.servers.broker.rebalance(SETTINGS.group(service))
            else:
                self._poison()

    def _poison(self) -> None:
        """A record that nobody can use, on a topic that somebody consumes."""
        random, number = self.world.random, len(self.poison)
        record: Record
        if random.random() < 0.5:  # well-formed, but every handler has a defect that it meets
            event = (
                Chain(complaint_id=f"{DEFECT}-{number}")
                .then(random.choice([Transition.FORWARDED, Transition.ASSIGNED]))
                .last
            )
            topic, value = SETTINGS.topic_prefix + event.topic, event.model_dump_json().encode()
            record = (topic, event.key.encode(), value, headers_of(event, "made-up"))
        else:
            topic = SETTINGS.topic_prefix + random.choice(CONSUMES[random.choice(SERVICES)])
            value = b'{"poison": %d}' % number
            record = (topic, b"%d" % random.getrandbits(16), value, ())
        self.world.counts["poison"] += 1
        self.world.servers.broker.append(record)
        self.poison.append((topic, value))
        self.world.tell("world", f"poison on {topic}")

    def _wake(self) -> None:
        for process in self.processes.values():
            if process.broker.member:
                process.broker.member.news.set()

    def quiet(self) -> bool:
        """Nothing is under way any more, and no clock runs that will yet strike."""
        servers = self.world.servers
        if any(not p.ready for p in self.processes.values()):
            return False
        if any(len(j.published) < len(j.entries) for j in servers.journals.values()):
            return False
        for service in SERVICES:
            topics = [SETTINGS.topic_prefix + topic for topic in CONSUMES[service]]
            if servers.broker.lag(SETTINGS.group(service), topics):
                return False
        if any(d["open"] or (d["report_at"] and not d["reported"]) for d in servers.deliveries.deliveries.values()):
            return False
        if any(d["lapses_at"] for d in servers.documents["intake"].documents.values()):
            return False
        return not any("next_alarm_at" in d for d in servers.documents["sla"].documents.values())

    def dead_letters(self, service: str) -> list[tuple[ConsumerRecord, bytes]]:
        """What a group has put aside: the records, where they came from, and the value that each letter holds."""
        topic, logs = dead_letters(SETTINGS.group(service)), self.world.servers.broker.logs
        letters = [letter for p, log in logs.items() if p.topic == topic for letter in log]
        origins = [TopicPartition(header(one, "dlq_topic"), int(header(one, "dlq_partition"))) for one in letters]
        return [
            (logs[origin][int(header(letter, "dlq_offset"))], letter.value)
            for origin, letter in zip(origins, letters, strict=True)
        ]


def simulate(seed: int, plan: Plan | None = None, *, telling: bool = False) -> Outcome:
    """Run a seed. The same seed and plan give the same outcome, in any process and on any machine."""
    simulation = Simulation(seed, plan or Plan(), telling=telling)
    try:
        finished = simulation.run()
        verdict = check(simulation, settled=finished and simulation.settled)
    finally:
        simulation.world.context.run(simulation.world.loop.discard)
    simulation.world.counts["events"] += len(simulation.world.events())
    simulation.world.counts["steps"] += simulation.world.loop.steps
    simulation.world.counts["repeated mails"] += verdict.repeated_mails
    story, counts = simulation.world.story, simulation.world.counts
    return Outcome(seed, verdict, story, counts)


def prepare() -> None:
    """Make this operating-system process fit for some hundred seeds: no logs, no complaint about what a killed process
    leaves behind, and no collection of garbage (under 1 MB a seed)."""
    drop: Any = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=drop, cache_logger_on_first_use=True)
    sys.unraisablehook = lambda _: None
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    gc.disable()
    gc.freeze()
