"""The world of one seed: time, chance, the servers' contents, what fails and when, and the story of what happened."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any, TypeVar, cast

from aiokafka.errors import KafkaConnectionError
from pymongo.errors import AutoReconnect

from shared.events import CLOCK, IDENTIFIERS, ChainEvent, ComplaintEvent, Event
from shared.projection import DECODED
from shared.publisher import Record
from tests.simulation.loop import STRAND, SimulatedLoop, Strand
from tests.support.memory import MemoryDocuments, MemoryJournal
from tests.support.memory_broker import Member, MemoryBroker, Order
from tests.support.memory_notify import MemoryCitizens, MemoryDeliveries, MemoryInbox

T = TypeVar("T")
BEGAN_AT = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(slots=True)
class Weather:
    """How likely each fault is at one call of a server, and what happens by itself; drawn anew for each seed, so that
    each has its own kinds of trouble."""

    refused: float = 0.0
    reply_lost: float = 0.0
    partly: float = 0.0
    crash_before: float = 0.0
    crash_after: float = 0.0
    slow: float = 0.0
    duplicate: float = 0.0

    @classmethod
    def drawn(cls, random: Random) -> "Weather":
        """Each kind is absent from half of the seeds."""
        most = {
            "refused": 0.05,
            "reply_lost": 0.05,
            "partly": 0.05,
            "crash_before": 0.01,
            "crash_after": 0.02,
            "slow": 0.08,
            "duplicate": 0.2,
        }
        return cls(**{name: random.random() * limit * (random.random() < 0.5) for name, limit in most.items()})


@dataclass
class Servers:
    """What survives a crash: databases and broker."""

    broker: MemoryBroker
    journals: dict[str, MemoryJournal]
    documents: dict[str, MemoryDocuments]
    inbox: MemoryInbox
    deliveries: MemoryDeliveries
    citizens: MemoryCitizens = field(default_factory=MemoryCitizens)


class World:
    """One seed's world. ``tell`` writes the story if it is wanted; nothing else depends on it."""

    def __init__(self, seed: int, servers: Servers, *, telling: bool = False) -> None:
        DECODED.clear()  # a world's complaints have the names of the worlds' before
        self.random = Random(seed)
        self.servers = servers
        self.loop = SimulatedLoop(self.random, self._died)
        self.telling = telling
        self.story: list[str] = []
        self.weather = Weather.drawn(self.random)
        self.skew = self.random.choice((0, 0, 20, 200))
        """By how many milliseconds a process's clock may be wrong; each start of one draws anew."""
        self.stormy = True
        self.away: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.excuses: Counter[str] = Counter()
        """Per delivery, how often a fault fell between the provider's yes and our record of it."""
        self.on_death: Callable[[Strand], None] = lambda _: None
        self._ids = 0
        self.outside = Strand("world")
        self.context = copy_context()
        self.context.run(self._enter)

    def _enter(self) -> None:
        STRAND.set(self.outside)
        CLOCK.set(self.now)
        IDENTIFIERS.set(self.new_id)

    def now(self) -> datetime:
        """The virtual moment, in whole milliseconds."""
        return BEGAN_AT + int(self.loop._now * 1000) * _MILLISECOND

    def new_id(self) -> str:
        """Like a UUIDv7: later ones are greater."""
        self._ids += 1
        return f"{self._ids:08x}-0000-7000-8000-{self.random.getrandbits(48):012x}"

    def tell(self, who: str, what: str) -> None:
        """One line of the story."""
        if self.telling:
            self.story.append(f"{self.loop._now:9.3f}  {who:<10} {what}")

    def enter(self, strand: Strand) -> Context:
        """A context in which everything belongs to a process."""
        context = self.context.copy()
        context.run(STRAND.set, strand)
        wrong = timedelta(milliseconds=self.random.randrange(-self.skew, self.skew + 1))
        context.run(CLOCK.set, lambda: self.now() + wrong)
        return context

    def spawn(self, context: Context, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begin work in a process."""
        return self.loop.create_task(work, context=context)

    def _died(self, strand: Strand) -> None:
        self.counts["crashes"] += 1
        self.tell(strand.name, "KILLED")
        self.on_death(strand)

    def latency(self) -> float:
        """How long a call takes, in seconds: mostly a few milliseconds, now and then seconds."""
        draw = self.random.random()
        if self.stormy and draw < self.weather.slow:
            return 0.05 + 1.5 * self.random.random()
        return 0.001 + 0.008 * draw

    def chain(self, complaint_id: str) -> list[ChainEvent]:
        """The complaint's moves as the journals hold them, in order."""
        found = [
            entry.event
            for journal in self.servers.journals.values()
            for entry in journal.entries.values()
            if isinstance(entry.event, ChainEvent) and entry.event.complaint_id == complaint_id
        ]
        return sorted(found, key=lambda event: event.seq)

    def events(self) -> list[ComplaintEvent]:
        """All that the journals hold about complaints."""
        return [
            entry.event
            for journal in self.servers.journals.values()
            for entry in journal.entries.values()
            if isinstance(entry.event, ComplaintEvent)
        ]


class Wire:
    """One process's connection to one server: each call takes time, and may fail in every way that a call can."""

    def __init__(self, world: World, strand: Strand, server: str, error: Callable[[], Exception]) -> None:
        self.world = world
        self.strand = strand
        self._server = server
        self._error = error

    async def carry(self, what: str, method: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Make a call. Raises the server's error where the outcome is a failure or unknown."""
        world = self.world
        await world.loop.pause(world.latency())
        if self._server in world.away:
            raise self._error()
        if not world.stormy:
            return await method(*args)
        random, weather = world.random, world.weather
        draw = random.random()
        if (draw := draw - weather.refused) < 0:
            raise self._failed(what, "refused")
        if (draw := draw - weather.crash_before) < 0:
            await self.die(what, "before")
        if (draw := draw - weather.partly) < 0 and args and isinstance(args[0], list) and len(args[0]) > 1:
            size = random.randrange(1, len(args[0]))
            await method(args[0][:size], *args[1:])
            raise self._failed(what, f"cut after {size} of {len(args[0])}")
        result = await method(*args)
        if draw >= 0 and (draw := draw - weather.reply_lost) < 0:
            raise self._failed(what, "done, reply lost")
        if draw >= 0 and draw - weather.crash_after < 0:
            self.doom(what)
        if random.random() < 0.3:
            await world.loop.pause(world.latency())
        return result

    def _failed(self, what: str, how: str) -> Exception:
        self.world.counts[how.split(" ")[0]] += 1
        self.world.tell(self.strand.name, f"{self._server}.{what} FAILS: {how}")
        return self._error()

    async def die(self, what: str, when: str) -> None:
        """The process ends here."""
        self.world.tell(self.strand.name, f"dies {when} {self._server}.{what}")
        self.strand.doom = 0
        await self.world.loop.create_future()

    def doom(self, what: str) -> None:
        """The process ends a few steps from here, at whatever await that is."""
        self.strand.doom = self.world.random.randrange(12)
        self.world.tell(self.strand.name, f"will die {self.strand.doom} steps after {self._server}.{what}")


class Remote:
    """An object on a server, each method of which is a call over a wire."""

    def __init__(self, target: Any, wire: Wire) -> None:
        self._target = target
        self._wire = wire

    def __getattr__(self, name: str) -> Any:
        method, wire = getattr(self._target, name), self._wire

        async def call(*args: Any, **named: Any) -> Any:
            return await wire.carry(name, partial(method, **named) if named else method, args)

        setattr(self, name, call)
        return call


def remote(target: T, wire: Wire) -> T:
    """``target`` as a process has it."""
    return cast(T, Remote(target, wire))


def database_away() -> Exception:
    return AutoReconnect("the database is away")


class RemoteBroker:
    """The broker as a process has it: `tests.support.memory_broker.Connection`."""

    def __init__(self, broker: MemoryBroker, wire: Wire) -> None:
        self._broker = broker
        self._wire = wire
        self.member: Member | None = None

    async def send(self, records: Sequence[Record]) -> list[bool]:
        """A send fails for each record by itself; what a producer sends again lies there twice."""
        world, wire = self._wire.world, self._wire
        await world.loop.pause(world.latency())
        if "kafka" in world.away:
            return [False] * len(records)
        if not world.stormy:
            return [self._broker.append(record) for record in records]
        random, weather = world.random, world.weather
        if random.random() < weather.crash_before:
            await wire.die("send", "before")
        acknowledged = []
        for record in records:
            draw = random.random()
            if (draw := draw - weather.refused) < 0:
                world.counts["refused"] += 1
                acknowledged.append(False)
                continue
            taken = self._broker.append(record)
            if (draw := draw - weather.duplicate) < 0:
                world.counts["duplicated"] += 1
                self._broker.append(record)
            acknowledged.append(taken and random.random() >= weather.reply_lost)
        if world.telling:
            names = [dict(r[3]).get("ce_id", b"?").decode() for r in records]
            world.tell(wire.strand.name, f"sent {list(zip(names, acknowledged, strict=True))}")
        if random.random() < weather.crash_after:
            wire.doom("send")
        await world.loop.pause(world.latency())
        return acknowledged

    async def join(self, group: str, topics: Sequence[str]) -> "RemoteMember":
        self.member = await self._broker.join(group, topics)
        return RemoteMember(self.member, self._wire)

    def leave(self, member: "RemoteMember") -> None:
        self._broker.leave(member.member)


class RemoteMember:
    """A process's part in a group, over a wire."""

    def __init__(self, member: Member, wire: Wire) -> None:
        self.member = member
        self._wire = wire
        self.rewind = member.rewind

    async def fetch(self, limit: int, order: Order) -> Any:
        world = self._wire.world
        while not self.member.waiting() or "kafka" in world.away:
            self.member.news.clear()
            await self.member.news.wait()
        await world.loop.pause(world.latency())
        size = world.random.randrange(1, limit) if world.stormy else limit
        return await self.member.fetch(size, order)

    async def commit(self, records: Any) -> None:
        await self._wire.carry("commit", self.member.commit, (tuple(records),))


def broker_away() -> Exception:
    error: Exception = KafkaConnectionError("the broker is away")
    return error


def event_name(event: Event) -> str:
    """An event as the story names it."""
    return f"{event.topic} {event.id}"
