"""The notify service's collections ``inbox``, ``contacts`` and ``preferences``: their indexes and queries."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo import ReplaceOne, ReturnDocument, UpdateOne

from shared.events import CitizenContact, first_id
from shared.projection import Document
from shared.queries import Walk, page, set_indexes
from shared.storage import ASCENDING, DESCENDING, Database, IndexModel, insert_missing, load, remove_some

_LAST = 2**62
"""The version of a contact after which none comes."""
COUNTED_TO = 1000
"""Unread entries are counted up to here; who has more does not care how many."""


class InboxStore:
    """The inboxes. Every read names the audience, which the caller's token decides."""

    def __init__(self, database: Database) -> None:
        self._inbox = database["inbox"]

    async def ensure_indexes(self) -> None:
        """An inbox is read newest first, whole or what is unread."""
        order = [("at", DESCENDING), ("_id", DESCENDING)]
        await set_indexes(
            self._inbox,
            [
                IndexModel([("audience", ASCENDING), *order], name="whole"),
                IndexModel(
                    [("audience", ASCENDING), ("unread", ASCENDING), *order],
                    name="unread",
                    partialFilterExpression={"unread": True},
                ),
            ],
        )

    async def add(self, entries: Sequence[Document]) -> list[Document]:
        """Keep the entries that are not there yet, and return those: each event reaches an inbox once."""
        return await insert_missing(self._inbox, entries)

    async def read(
        self, audience: str, *, unread: bool = False, limit: int = 20, cursor: str | None = None
    ) -> tuple[list[Document], str | None]:
        """One page of an inbox, newest first, and the next page's cursor."""
        index, part = (
            ("unread", {"audience": audience, "unread": True}) if unread else ("whole", {"audience": audience})
        )
        return await page(self._inbox, Walk(index, "at", part, descending=True), limit, cursor)

    async def erase(self, audiences: Collection[str]) -> None:
        """Remove all entries of these audiences."""
        await self._inbox.delete_many({"audience": {"$in": list(audiences)}})

    async def count_unread(self, audience: str) -> int:
        """How many entries are unread, counted up to `COUNTED_TO`."""
        return await self._inbox.count_documents(
            {"audience": audience, "unread": True}, limit=COUNTED_TO, hint="unread"
        )

    async def due(self, before: datetime) -> int:
        """How many entries tell of events before a moment."""
        return await self._inbox.count_documents(_older(before))

    async def remove(self, before: datetime, limit: int) -> int:
        """Remove up to ``limit`` of them; returns how many."""
        return await remove_some(self._inbox, _older(before), "_id", limit)

    async def mark_read(self, entry_id: str, audience: str, at: datetime) -> Document | None:
        """The entry, which is read now; None if this audience has none such. The first reading's time stays."""
        query = {"_id": entry_id, "audience": audience}
        changed = await self._inbox.find_one_and_update(
            {**query, "unread": True},
            {"$set": {"unread": False, "read_at": at}},
            return_document=ReturnDocument.AFTER,
        )
        return changed or await self._inbox.find_one(query)


def _older(before: datetime) -> dict[str, Any]:
    """Entries of before a moment. Their ids begin with a complaint's, which sorts by the time it was filed, and no
    entry is older than its complaint: so the ids bound what is looked at, without an index of its own."""
    return {"_id": {"$lt": first_id(before)}, "at": {"$lt": before}}


class CitizenStore:
    """How citizens are reached, and what they want to be sent. Restricted: personal data (UU PDP 27/2022)."""

    def __init__(self, database: Database) -> None:
        self._contacts = database["contacts"]
        self._preferences = database["preferences"]

    async def keep(self, contacts: Collection[CitizenContact]) -> None:
        """Keep each contact unless one of the same or a higher version is there."""
        writes = []
        for contact in contacts:
            fields = contact.model_dump(include={"version", "name", "email", "phone", "language", "restricted"})
            newer = {"$lt": [{"$ifNull": ["$version", 0]}, contact.version]}
            wanted = {"$literal": {"_id": contact.citizen_id, **fields}}
            change = [{"$replaceWith": {"$cond": [newer, wanted, "$$ROOT"]}}]
            writes.append(UpdateOne({"_id": contact.citizen_id}, change, upsert=True))
        if writes:
            await self._contacts.bulk_write(writes, ordered=False)

    async def erase(self, citizen_ids: Collection[str]) -> None:
        """Forget these citizens. A mark stays in the place of each, so that no older contact that comes again or late
        brings one back."""
        writes = [
            ReplaceOne({"_id": citizen}, {"_id": citizen, "version": _LAST, "erased": True}, upsert=True)
            for citizen in citizen_ids
        ]
        if writes:
            await self._contacts.bulk_write(writes, ordered=False)
            await self._preferences.delete_many({"_id": {"$in": list(citizen_ids)}})

    async def contacts(self, citizen_ids: Collection[str]) -> dict[str, Document]:
        """The contacts that are known, by citizen; of one who has deleted their data only that (``erased``)."""
        return await load(self._contacts, citizen_ids)

    async def preferences(self, citizen_ids: Collection[str]) -> dict[str, dict[str, bool]]:
        """By citizen, the kinds of e-mail that they have switched on or off."""
        found = await load(self._preferences, citizen_ids)
        return {citizen: preferences["email"] for citizen, preferences in found.items()}

    async def prefer(self, citizen_id: str, email: Mapping[str, bool], at: datetime) -> None:
        """Replace a citizen's choices."""
        document = {"email": dict(email), "changed_at": at}
        await self._preferences.replace_one({"_id": citizen_id}, document, upsert=True)
