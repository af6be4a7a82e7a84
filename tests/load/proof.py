"""What the system still has to do: unread records, unpublished entries, unfinished deliveries, alarms that are due."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from deploy.local.settings import SERVICES
from services.intake import projection as intake
from services.notify import projection as notify
from services.opd import projection as opd
from services.routing import projection as routing
from services.sla import projection as sla
from shared.events import now
from tests.load.installation import Installation

CONSUMES = {
    "intake": intake.CONSUMES,
    "routing": routing.CONSUMES,
    "opd": opd.CONSUMES,
    "notify": notify.CONSUMES,
    "sla": sla.CONSUMES,
}
"""The topics of each service, without the namespace."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much waits, by what waits: `<service> lag` (records between a group's committed offsets and the ends),
    `<service> unpublished`, `deliveries`, `reports`, `alarms`."""

    waiting: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.waiting.values())

    @property
    def lag(self) -> int:
        """Records that consumers have not committed."""
        return sum(count for name, count in self.waiting.items() if name.endswith(" lag"))

    def __str__(self) -> str:
        return ", ".join(f"{name} {count}" for name, count in self.waiting.items() if count) or "nothing waits"


class Watch:
    """Looks at a running system from outside: at the brokers' offsets and into the databases."""

    def __init__(self, bench: Installation, services: Sequence[str]) -> None:
        self._services = services
        self._settings = bench.services
        self._admin = AIOKafkaAdminClient(bootstrap_servers=bench.services.kafka_bootstrap)
        self._consumer = AIOKafkaConsumer(bootstrap_servers=bench.services.kafka_bootstrap, group_id=None)
        self._mongo = bench.mongo()

    async def start(self) -> None:
        await self._admin.start()
        await self._consumer.start()

    async def stop(self) -> None:
        await self._consumer.stop()
        await self._admin.close()
        self._mongo.close()

    async def backlog(self) -> Backlog:
        """What waits now."""
        waiting: dict[str, int] = {}
        for service in self._services:
            waiting[f"{service} lag"] = await self._lag(service)
        waiting |= await asyncio.to_thread(self._stored)
        return Backlog(waiting)

    async def _lag(self, service: str) -> int:
        taken = await self.committed(service)
        ends = await self._consumer.end_offsets(list(taken))
        return sum(max(0, ends[partition] - offset) for partition, offset in taken.items())

    async def committed(self, service: str, group: str | None = None) -> dict[TopicPartition, int]:
        """How far a service's group (or another) has come in each partition that the service takes."""
        told = await self._admin.list_consumer_group_offsets(group or self._settings.group(service))
        partitions = [
            TopicPartition(self._settings.topic_prefix + topic, number)
            for topic in CONSUMES[service]
            for number in range(self._settings.topic_partitions)
        ]
        return {p: max(0, told[p].offset) if p in told else 0 for p in partitions}

    async def ends(self, service: str) -> dict[TopicPartition, int]:
        """Where the partitions end that a service takes."""
        found: dict[TopicPartition, int] = await self._consumer.end_offsets(list(await self.committed(service)))
        return found

    def _stored(self) -> dict[str, int]:
        waiting = {}
        for service in self._services:
            journal = self._mongo[self._settings.database(service)]["journal"]
            waiting[f"{service} unpublished"] = journal.count_documents({"published": False}, hint="unpublished")
        if "notify" in self._services:
            deliveries = self._mongo[self._settings.database("notify")]["deliveries"]
            waiting["deliveries"] = deliveries.count_documents({"open": True}, hint="due")
            due = [{"open": False}, {"report_at": {"$lte": now()}}]
            waiting["reports"] = deliveries.count_documents({"reported": False, "$or": due}, hint="unreported")
        if "sla" in self._services:
            clocks = self._mongo[self._settings.database("sla")]["clocks"]
            waiting["alarms"] = clocks.count_documents({"next_alarm_at": {"$lte": now()}})
        return waiting


@asynccontextmanager
async def watching(bench: Installation, services: Sequence[str] = SERVICES) -> AsyncIterator[Watch]:
    """A watch that is closed at the end."""
    watch = Watch(bench, services)
    await watch.start()
    try:
        yield watch
    finally:
        await watch.stop()


def until_level(bench: Installation, services: Sequence[str] = SERVICES, *, within: float) -> float:
    """Wait until nothing waits any more; the seconds that it took. Raises TimeoutError with what still waits."""

    async def wait() -> float:
        began = time.monotonic()
        async with watching(bench, services) as watch:
            while (backlog := await watch.backlog()).total:
                if time.monotonic() - began > within:
                    raise TimeoutError(f"after {within:.0f} s: {backlog}")
                await asyncio.sleep(0.2)
        return time.monotonic() - began

    return bench.run(wait())
