"""The witness: reads the topics as any subscriber could, looks into the stores and the mail, and believes no service's
word."""

import asyncio
import email
import email.policy
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from types import TracebackType
from typing import Any

from aiokafka import AIOKafkaConsumer

from deploy.demo.people import PATIENCE, DemoFailed
from deploy.demo.target import Target
from shared.connections import kafka_options
from shared.events import EVENTS
from shared.storage import connect

STORES = {"intake": "complaints", "routing": "cases", "opd": "work", "notify": "inbox", "sla": "clocks"}
"""Each service's database, and the collection in which an event must have left its trace."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An event as the witness read it: where, when (monotonic seconds), its headers and its value."""

    topic: str
    partition: int
    offset: int
    headers: Mapping[str, str]
    value: Mapping[str, Any]

    @property
    def id(self) -> str:
        return self.headers["ce_id"]

    @property
    def name(self) -> str:
        """The topic without the namespace."""
        return self.topic.partition(".")[2]


class Witness:
    """Subscribes to every topic in a group of its own."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._topics = [f"{target.namespace}.{topic}" for topic in EVENTS]
        settings = target.reading()
        self._consumer = AIOKafkaConsumer(
            *self._topics,
            bootstrap_servers=settings.kafka_bootstrap,
            **kafka_options(settings),
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        self._mongo = connect(settings)
        self._seen: dict[str, Seen] = {}
        self._arrived = asyncio.Condition()
        self._reading: asyncio.Task[None] | None = None
        self._mail: dict[Path, EmailMessage] = {}

    async def __aenter__(self) -> "Witness":
        await self._consumer.start()
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._reading:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading
        await self._consumer.stop()
        self._mongo.close()

    async def _read(self) -> None:
        async for record in self._consumer:
            headers = {name: value.decode() for name, value in record.headers}
            value = json.loads(record.value) if record.value else {}  # a tombstone has none
            seen = Seen(record.topic, record.partition, record.offset, headers, value)
            async with self._arrived:
                self._seen.setdefault(seen.id, seen)
                self._arrived.notify_all()

    async def event(self, event_id: str, topic: str) -> Seen:
        """The event with an id, read from ``topic`` (without the namespace). Raises DemoFailed if it does not come."""
        try:
            async with asyncio.timeout(PATIENCE), self._arrived:
                await self._arrived.wait_for(lambda: event_id in self._seen)
        except TimeoutError:
            raise DemoFailed(f"no event {event_id} on any topic within {PATIENCE:.0f} s") from None
        seen = self._seen[event_id]
        if seen.topic != f"{self._target.namespace}.{topic}":
            raise DemoFailed(f"event {event_id} came through {seen.topic}, expected {topic}")
        return seen

    async def event_of(self, complaint_id: str, topic: str, **fields: Any) -> Seen:
        """An event of a complaint on a topic, with the given values in it. Raises DemoFailed if it does not come."""

        wanted = {"complaint_id": complaint_id, **fields}

        def found() -> Seen | None:
            for seen in self._seen.values():
                on_topic = seen.topic == f"{self._target.namespace}.{topic}"
                if on_topic and all(seen.value.get(name) == value for name, value in wanted.items()):
                    return seen
            return None

        try:
            async with asyncio.timeout(PATIENCE), self._arrived:
                await self._arrived.wait_for(lambda: found() is not None)
        except TimeoutError:
            raise DemoFailed(f"no {topic} {fields} for complaint {complaint_id} within {PATIENCE:.0f} s") from None
        seen = found()
        assert seen is not None
        return seen

    def count(self, complaint_id: str, topic: str) -> int:
        """How many different events of a complaint came through a topic."""
        return sum(
            1
            for seen in self._seen.values()
            if seen.value.get("complaint_id") == complaint_id and seen.topic == f"{self._target.namespace}.{topic}"
        )

    def topics_used(self) -> dict[str, int]:
        """How many events the witness has read from each topic that had any."""
        used: dict[str, int] = {}
        for seen in self._seen.values():
            used[seen.topic] = used.get(seen.topic, 0) + 1
        return used

    async def stored(self, event: Seen, services: tuple[str, ...]) -> None:
        """Wait until each service's own database shows the event. Raises DemoFailed naming those that do not."""
        deadline = time.monotonic() + PATIENCE
        missing = list(services)
        while missing:
            missing = [name for name in missing if not await self._holds(name, event)]
            if missing and time.monotonic() > deadline:
                raise DemoFailed(f"event {event.id} is not in the store of {', '.join(missing)}")
            await asyncio.sleep(0.05)

    async def _holds(self, service: str, event: Seen) -> bool:
        collection = self._mongo[f"{self._target.namespace}_{service}"][STORES[service]]
        if service == "notify":
            of_event = {"$gte": f"{event.id}:", "$lt": f"{event.id};"}  # an entry's id goes on with its audience
            return await collection.find_one({"_id": of_event}, {"_id": 1}) is not None
        query = {"_id": event.value["complaint_id"], "history.id": event.id}
        return await collection.find_one(query, {"_id": 1}) is not None

    async def mail(self, to: str, event_id: str) -> EmailMessage:
        """The e-mail to an address about an event (its Message-ID says which), as the SMTP server received it.

        Raises DemoFailed if none comes."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            await asyncio.to_thread(self._collect)
            for message in self._mail.values():
                if to in str(message["To"]) and _letters(event_id) in _letters(str(message["Message-ID"])):
                    return message
            await asyncio.sleep(0.1)
        raise DemoFailed(f"no e-mail to {to} about {event_id} within {PATIENCE:.0f} s")

    def _collect(self) -> None:
        for path in self._target.mail_dir.glob("**/*.eml"):
            if path not in self._mail:
                with path.open("rb") as file:
                    message = email.message_from_binary_file(file, policy=email.policy.default)
                assert isinstance(message, EmailMessage)
                self._mail[path] = message


def _letters(text: str) -> str:
    return "".join(character for character in text if character.isalnum())
