"""The notify service's stores in memory, as far as its arrivals and its outbox use them. They pass the contract suite
of those on MongoDB (``tests/contract/test_notify_store.py``)."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from services.notify.desk import Finish, Wait
from shared.events import CitizenContact, new_id
from shared.projection import Document
from tests.support.memory import copied


class MemoryInbox:
    """`services.notify.store.InboxStore`. ``entries`` is what it holds, in the order in which it came."""

    def __init__(self) -> None:
        self.entries: list[Document] = []
        self._known: set[str] = set()

    async def add(self, entries: Sequence[Document]) -> list[Document]:
        await asyncio.sleep(0)
        added = []
        for entry in entries:
            if self._is_new(entry["_id"]):
                self.entries.append(copied(entry))
                added.append(entry)
        return added

    def _is_new(self, entry_id: str) -> bool:
        if entry_id in self._known:
            return False
        self._known.add(entry_id)
        return True

    async def count_unread(self, audience: str) -> int:
        await asyncio.sleep(0)
        return sum(entry["unread"] for entry in self.entries if entry["audience"] == audience)

    async def mark_read(self, entry_id: str, audience: str, at: datetime) -> Document | None:
        await asyncio.sleep(0)
        for entry in self.entries:
            if (entry["_id"], entry["audience"]) == (entry_id, audience):
                if entry["unread"]:
                    entry.update(unread=False, read_at=at)
                return dict(entry)
        return None


class MemoryDeliveries:
    """`services.notify.delivery_store.DeliveryStore`. ``deliveries`` is what it holds, by ``_id``."""

    def __init__(self) -> None:
        self.deliveries: dict[str, Document] = {}

    async def add(self, deliveries: Sequence[Document]) -> list[Document]:
        await asyncio.sleep(0)
        added = [delivery for delivery in deliveries if delivery["_id"] not in self.deliveries]
        self.deliveries |= {delivery["_id"]: copied(delivery) for delivery in added}
        return added

    async def lease(self, limit: int, at: datetime, until: datetime) -> tuple[list[Document], int]:
        await asyncio.sleep(0)
        due = [d for d in self.deliveries.values() if d["open"] and d["due_at"] <= at]
        found = sorted(due, key=lambda d: (d["due_at"], d["_id"]))[:limit]
        repeated = sum(d["state"] == "sending" for d in found)
        lease = new_id()
        for delivery in found:
            delivery.update(state="sending", lease=lease, due_at=until, attempts=delivery["attempts"] + 1)
        return [copied(d) for d in found], repeated

    async def settle(
        self, results: Sequence[tuple[Document, Finish | Wait]], at: datetime, report_at: datetime
    ) -> None:
        await asyncio.sleep(0)
        for delivery, result in results:
            stored = self.deliveries[delivery["_id"]]
            sent = isinstance(result, Finish) and result.state == "sent"
            if not stored["open"] or not (sent or stored["lease"] == delivery["lease"]):
                continue
            stored.update(lease=None, reason=result.reason)
            if isinstance(result, Finish):
                stored.update(state=result.state, open=False, done_at=at, report_at=report_at)
            else:
                stored.update(state="pending", due_at=result.until)

    async def load(self, ids: Collection[str]) -> list[Document]:
        await asyncio.sleep(0)
        return [copied(self.deliveries[i]) for i in ids if i in self.deliveries]

    async def unreported(self, at: datetime, limit: int) -> list[Document]:
        await asyncio.sleep(0)
        due = [d for d in self.deliveries.values() if not d["reported"] and d["report_at"] and d["report_at"] <= at]
        return [copied(d) for d in sorted(due, key=lambda d: (d["report_at"], d["_id"]))[:limit]]

    async def mark_reported(self, ids: Collection[str]) -> None:
        await asyncio.sleep(0)
        for name in ids:
            if name in self.deliveries:
                self.deliveries[name]["reported"] = True

    async def count_open(self) -> int:
        await asyncio.sleep(0)
        return sum(delivery["open"] for delivery in self.deliveries.values())


class MemoryCitizens:
    """`services.notify.store.CitizenStore`."""

    def __init__(self) -> None:
        self._contacts: dict[str, Document] = {}
        self._preferences: dict[str, dict[str, bool]] = {}

    async def keep(self, contacts: Collection[CitizenContact]) -> None:
        await asyncio.sleep(0)
        for contact in contacts:
            known = self._contacts.get(contact.citizen_id)
            if known is None or known["version"] < contact.version:
                fields = contact.model_dump(include={"version", "name", "email", "phone", "language", "restricted"})
                self._contacts[contact.citizen_id] = {"_id": contact.citizen_id, **fields}

    async def erase(self, citizen_ids: Collection[str]) -> None:
        await asyncio.sleep(0)
        for citizen in citizen_ids:
            self._contacts[citizen] = {"_id": citizen, "version": 2**62, "erased": True}
            self._preferences.pop(citizen, None)

    async def contacts(self, citizen_ids: Collection[str]) -> dict[str, Document]:
        await asyncio.sleep(0)
        return {i: dict(self._contacts[i]) for i in citizen_ids if i in self._contacts}

    async def preferences(self, citizen_ids: Collection[str]) -> dict[str, dict[str, bool]]:
        await asyncio.sleep(0)
        return {i: dict(self._preferences[i]) for i in citizen_ids if i in self._preferences}

    async def prefer(self, citizen_id: str, email: Mapping[str, bool], at: datetime) -> None:
        await asyncio.sleep(0)
        self._preferences[citizen_id] = dict(email)
