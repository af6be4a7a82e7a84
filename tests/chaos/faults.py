"""The faults: each is begun, kept up for its time, and taken away again; what came of it is for others to judge."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from deploy.local import replicas
from deploy.local.processes import Child
from tests.chaos import proxy
from tests.chaos.evidence import SERVICES, consumed_topics, places
from tests.chaos.poison import records as poison_records
from tests.chaos.process import POINTS
from tests.chaos.rig import Rig

Strike = Callable[[Rig], Awaitable[datetime | None]]
"""Begins and ends a fault; returns when it really struck, if that is not when it was begun."""

FROZEN_SECONDS = 14.0
"""Longer than a consumer's session (10 s): its partitions have gone to nobody by then."""
REACHED_WITHIN = 15.0
"""How long a process may run towards the point at which it is to die; then it is killed where it is."""


@dataclass(frozen=True, slots=True)
class Fault:
    """``kind`` is its row in the table of recovery times, ``detail`` what exactly was done to whom."""

    kind: str
    detail: str
    targets: tuple[str, ...]
    strike: Strike


def now() -> datetime:
    return datetime.now(UTC)


def kill_services(names: Sequence[str], down_seconds: float) -> Fault:
    """SIGKILL to services, which are started again after a while."""

    async def strike(rig: Rig) -> None:
        rig.kill(*names)
        await asyncio.sleep(down_seconds)
        rig.start(*names)

    kind = "kill -9 of a service" if len(names) == 1 else "kill -9 of all five services"
    return Fault(kind, f"{', '.join(names)} down {down_seconds:.1f} s", tuple(names), strike)


def crash_at(service: str, point: str, passing: int, *options: str) -> Fault:
    """A service that kills itself at a named point, and is started again at once; ``options`` it keeps."""

    async def strike(rig: Rig) -> datetime:
        await asyncio.to_thread(rig.system.stop, service)
        rig.dress(service, *options, "--crash", f"{point}:{passing}")
        rig.start(service)
        await _end_of(rig.service(service))
        died_at = now()
        rig.kill(service)  # if it lives still; and what it has started
        rig.dress(service, *options)
        rig.start(service)
        return died_at

    return Fault(f"crash {point}", f"{service} at passing {passing}", (service,), strike)


def kill_server(name: str, down_seconds: float) -> Fault:
    """SIGKILL to mongod or the broker."""

    async def strike(rig: Rig) -> None:
        rig.kill(name)
        await asyncio.sleep(down_seconds)
        await rig.server_up(name)

    return Fault(f"kill -9 of {name}, down {down_seconds:.0f} s", name, (name,), strike)


def kill_server_at(server: str, service: str, point: str, passing: int) -> Fault:
    """A server that is killed at the very moment when a service passes a point."""

    async def strike(rig: Rig) -> datetime:
        await asyncio.to_thread(rig.system.stop, service)
        rig.dress(service, "--crash", f"{point}:{passing}", "--victim", str(rig.server(server).pid))
        rig.start(service)
        await _end_of(rig.server(server))
        died_at = now()
        rig.kill(server)
        await rig.server_up(server)
        await asyncio.to_thread(rig.system.stop, service)
        rig.dress(service)
        rig.start(service)
        return died_at

    return Fault(f"kill -9 of {server} {point}", f"{service} at passing {passing}", (server, service), strike)


async def _end_of(child: Child) -> None:
    """Wait until a process that is to die has died, or for as long as it may take."""
    deadline = time.monotonic() + REACHED_WITHIN
    while child.running and time.monotonic() < deadline:  # noqa: ASYNC110 - another process's end
        await asyncio.sleep(0.02)


def kill_leading(kind: str, down_seconds: float) -> Fault:
    """SIGKILL to the mongod that is the primary, or to the broker that leads most partitions of a topic, of three. The
    others are to go on without it, so its end counts as the end of the fault; it is started again later."""

    async def strike(rig: Rig) -> None:
        if kind == "mongod":
            name = await replicas.primary(rig.system.servers)
        else:
            leads = await replicas.leaders(rig.system.servers, f"{rig.namespace}.complaint.submitted")
            name = max(set(filter(None, leads)), key=leads.count)
        rig.kill(name)
        rig.later.append(asyncio.create_task(_up_again(rig, name, down_seconds)))

    what = {"mongod": "primary of three mongods", "kafka": "leader of three brokers"}[kind]
    return Fault(f"kill -9 of the {what}", f"down {down_seconds:.0f} s", (kind,), strike)


async def _up_again(rig: Rig, name: str, down_seconds: float) -> None:
    await asyncio.sleep(down_seconds)
    await rig.server_up(name)


def freeze(service: str) -> Fault:
    """SIGSTOP past the session's time, then SIGCONT. A second process of the service takes over meanwhile, and the
    first wakes up in the belief that nothing has happened."""

    async def strike(rig: Rig) -> datetime:
        twin = await rig.start_twin(service)
        stopped_at = now()
        rig.freeze(service)
        await asyncio.sleep(FROZEN_SECONDS)
        rig.thaw(service)
        await asyncio.sleep(3)
        await asyncio.to_thread(twin.stop)
        return stopped_at

    return Fault("SIGSTOP past the session time-out, beside a second process", service, (service,), strike)


def cut(server: str, seconds: float, *, reset: bool) -> Fault:
    """Connections break, with or without TCP's farewell, and are refused."""

    async def strike(rig: Rig) -> None:
        rig.proxies[server].cut(reset=reset)
        await asyncio.sleep(seconds)
        rig.proxies[server].clear()

    return Fault(f"connections to {server} cut", f"{seconds:.1f} s{', reset' if reset else ''}", (server,), strike)


def delay(server: str, held_back: float, seconds: float) -> Fault:
    """Everything to and from a server takes longer."""

    async def strike(rig: Rig) -> None:
        rig.proxies[server].delay(held_back)
        await asyncio.sleep(seconds)
        rig.proxies[server].clear()

    return Fault(f"{server} slow", f"{held_back * 1000:.0f} ms each way for {seconds:.0f} s", (server,), strike)


DROPS: Mapping[str, tuple[str, proxy.Recognise]] = {
    "mongod journal inserts": ("mongod", proxy.mongo_insert),
    "mongod writes": ("mongod", proxy.mongo_write),
    "kafka sends": ("kafka", proxy.kafka_produce),
    "kafka offset commits": ("kafka", proxy.kafka_commit),
}


def drop_replies(what: str, count: int) -> Fault:
    """The server does what it is asked, and the answer never arrives."""
    server, recognise = DROPS[what]

    async def strike(rig: Rig) -> None:
        way = rig.proxies[server]
        dropped = way.dropped
        way.drop_replies(recognise, count)
        deadline = time.monotonic() + 8
        while way.dropped - dropped < count and time.monotonic() < deadline:  # noqa: ASYNC110 - a plain counter
            await asyncio.sleep(0.05)
        way.clear()

    return Fault(f"replies of {server} lost after the deed", f"{count} {what}", (server,), strike)


def replay() -> Fault:
    """All groups take all topics from offset 0 again."""

    async def strike(rig: Rig) -> None:
        await asyncio.to_thread(rig.system.stop, *SERVICES)
        for service in SERVICES:
            await _rewind(rig, service)
        rig.start(*SERVICES)

    return Fault("replay of all topics from offset 0", "all groups", SERVICES, strike)


async def _rewind(rig: Rig, service: str) -> None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=rig.kafka_bootstrap, group_id=f"{rig.namespace}-{service}", enable_auto_commit=False
    )
    await consumer.start()
    try:
        taken = {f"{rig.namespace}.{topic}" for topic in consumed_topics(service)}
        found = [place for place in await places(rig.kafka_bootstrap, f"{rig.namespace}.") if place.topic in taken]
        consumer.assign(found)
        await consumer.commit(dict.fromkeys(found, 0))
    finally:
        await consumer.stop()


def reorder(seed: int, most: int = 300) -> Fault:
    """Somebody publishes events again, in another order and more than once."""

    async def strike(rig: Rig) -> None:
        chance = random.Random(seed)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=rig.kafka_bootstrap, group_id=None, auto_offset_reset="earliest", enable_auto_commit=False
        )
        consumer.subscribe(pattern=f"^{rig.namespace}\\.")
        await consumer.start()
        found = []
        try:
            while batches := await consumer.getmany(timeout_ms=1500):
                found += [record for batch in batches.values() for record in batch]
        finally:
            await consumer.stop()
        genuine = [r for r in found if not any(name == "x-chaos" for name, _ in r.headers)]
        chosen = [chance.choice(genuine[-most * 2 :]) for _ in range(min(most, len(genuine)))]
        await send(rig, [(r.topic, r.key, r.value, list(r.headers)) for r in chosen])

    return Fault("events published again, out of order", f"up to {most}", ("topics",), strike)


async def send(rig: Rig, records: Sequence[tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]]]]) -> None:
    """Put records into topics, as somebody else than the services."""
    producer = AIOKafkaProducer(bootstrap_servers=rig.kafka_bootstrap, acks="all", max_request_size=2**21)
    await producer.start()
    try:
        for topic, key, value, headers in records:
            await producer.send_and_wait(topic, value, key, headers=headers)
    finally:
        await producer.stop()


def poison(seed: int) -> Fault:
    """Records that no consumer can use, of many kinds, among the events of all topics."""

    async def strike(rig: Rig) -> None:
        await send(rig, poison_records(rig.namespace, random.Random(seed)))

    return Fault("poison messages", "one of each kind in each of several topics", ("topics",), strike)


def disk_full(server: str, seconds: float) -> Fault:
    """The disk of a server fills up; after a while there is room again, and the server is started if it has died."""

    async def strike(rig: Rig) -> None:
        rig.fill(server)
        await asyncio.sleep(seconds / 4)
        if server == "mongod":
            await asyncio.to_thread(rig.flush)
        await asyncio.sleep(seconds * 3 / 4)
        rig.free(server)
        if not rig.server(server).running:
            rig.kill(server)
            await rig.server_up(server)

    return Fault(f"full disk of {server}", f"{seconds:.0f} s", (server,), strike)


def plan(seed: int, count: int = 2) -> list[Fault]:
    """The faults of one round. Rounds 0, 1, 2 ... go through the catalogue; victims and moments are drawn."""
    chance = random.Random(f"faults {seed}")
    points = [point for point in POINTS if point not in ("after-mail", "before-apply", "after-commit")]

    def crash(point: str) -> Fault:
        return crash_at(chance.choice(SERVICES), point, chance.randint(1, 6))

    draws: list[Callable[[], Fault]] = [
        lambda: kill_services([chance.choice(SERVICES)], chance.uniform(0.2, 3)),
        lambda: crash("after-insert"),
        lambda: kill_server("mongod", 5),
        lambda: crash("after-send"),
        lambda: drop_replies("mongod journal inserts", chance.randint(1, 4)),
        lambda: kill_server("kafka", 5),
        lambda: crash("before-commit"),
        lambda: reorder(seed),
        lambda: crash_at("notify", "after-mail", chance.randint(1, 6)),
        lambda: cut("mongod", chance.uniform(1, 6), reset=chance.random() < 0.5),
        lambda: poison(seed),
        lambda: crash("before-mark"),
        lambda: kill_server_at("mongod", chance.choice(SERVICES), "after-commit", chance.randint(1, 4)),
        lambda: freeze(chance.choice(SERVICES)),
        lambda: drop_replies("kafka sends", chance.randint(1, 4)),
        lambda: crash("after-projection"),
        lambda: kill_server_at("mongod", chance.choice(SERVICES[:4]), "after-insert", chance.randint(1, 4)),
        lambda: replay(),
        lambda: kill_services(SERVICES, chance.uniform(0.2, 2)),
        lambda: cut("kafka", chance.uniform(1, 8), reset=chance.random() < 0.5),
        lambda: delay("mongod", chance.uniform(0.05, 0.4), 6),
        lambda: drop_replies("mongod writes", chance.randint(1, 6)),
        lambda: drop_replies("kafka offset commits", chance.randint(1, 3)),
        lambda: delay("kafka", chance.uniform(0.05, 0.6), 6),
        lambda: crash(chance.choice(points)),
    ]
    return [draws[(seed * count + i) % len(draws)]() for i in range(count)]
