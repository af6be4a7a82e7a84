"""Several servers of a kind: which of them leads just now, and what becomes of one that dies."""

import time
from collections.abc import Iterable
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from pymongo import AsyncMongoClient

from deploy.local.errors import ChildDied
from deploy.local.processes import Child
from deploy.local.servers import Say, Servers

LONGEST_PAUSE = 60.0


async def primary(servers: Servers) -> str:
    """The name of the mongod that takes writes, such as `mongod-2`. Raises `pymongo.errors.PyMongoError` while there is
    none."""
    async with AsyncMongoClient[dict[str, Any]](servers.mongo_url, serverSelectionTimeoutMS=10_000) as client:
        said = await client.admin.command("hello")
        return servers.names[said["primary"]]


async def leaders(servers: Servers, topic: str) -> list[str | None]:
    """Per partition of `topic` (full name) the name of the broker that takes its records; None where there is none.

    Raises `aiokafka.errors.KafkaError` when no broker can be reached.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.kafka_bootstrap)
    await admin.start()
    try:
        metadata = (await admin.describe_cluster())["brokers"]
        by_id = {broker["node_id"]: servers.names[f"{broker['host']}:{broker['port']}"] for broker in metadata}
        partitions = (await admin.describe_topics([topic]))[0]["partitions"]
        return [by_id.get(one["leader"]) for one in sorted(partitions, key=lambda one: one["partition"])]
    finally:
        await admin.close()


class Revival:
    """Starts servers again that died while others of their kind go on, and says so. What dies again and again (a full
    disk, say) is started after longer and longer pauses: `pauses` has the last of each, in seconds."""

    def __init__(self, children: Iterable[Child], say: Say, first_pause: float = 1.0) -> None:
        self._children = list(children)
        self._say = say
        self._first_pause = first_pause
        self.pauses: dict[str, float] = {}
        self._started_at: dict[str, float] = {}
        self._due_at: dict[str, float] = {}

    def look(self) -> None:
        """To be called again and again. Raises CannotRun when a server cannot even be started."""
        now = time.monotonic()
        for child in self._children:
            try:
                child.check()
            except ChildDied as death:
                child.kill()  # nobody misses it until it is due, and nothing of it is left
                lived = now - self._started_at.get(child.name, -LONGEST_PAUSE)
                pause = self._first_pause if lived > LONGEST_PAUSE else self.pauses.get(child.name, 0) * 2
                self.pauses[child.name] = pause = min(pause or self._first_pause, LONGEST_PAUSE)
                self._due_at[child.name] = now + pause
                self._say(f"{death}\nThe others of its kind go on. It is started again after {pause:.0f} s.")
            if child.name in self._due_at and now >= self._due_at[child.name]:
                del self._due_at[child.name]
                self._started_at[child.name] = now
                child.start()
                self._say(f"{child.name} was started again.")
