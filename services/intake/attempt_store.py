"""Tries to sign in, counted in the service's own database, which its replicas share.

A document is a counter ``{_id, n, until, ends}`` (before ``until`` no other try is let in; MongoDB removes it after
``ends``), or ``{_id, ends}``, somebody whom an address is known for. Nothing of it is worth waiting for a disk.
"""

from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import ReturnDocument
from pymongo.write_concern import WriteConcern

from shared.projection import Document
from shared.storage import ASCENDING, Database, DuplicateKeyError, IndexModel, load

_MOST_DOUBLINGS = 20
_NO_WAIT = datetime.fromtimestamp(0, UTC)


class AttemptStore:
    """The collection ``sign_in_attempts``."""

    def __init__(self, database: Database) -> None:
        self._attempts = database.get_collection("sign_in_attempts", write_concern=WriteConcern(w=1, j=False))

    async def ensure_indexes(self) -> None:
        """Create the index by which what has ended is removed; repeating it does nothing."""
        await self._attempts.create_indexes([IndexModel([("ends", ASCENDING)], name="ends", expireAfterSeconds=0)])

    async def find(self, keys: Collection[str]) -> dict[str, Document]:
        """What is known by these keys."""
        return await load(self._attempts, keys)

    async def take(
        self, key: str, moment: datetime, free: int, longest: timedelta, kept: timedelta, *, always: bool = False
    ) -> int | None:
        """Count a try, if no wait stands against it (``always``: whatever stands); how many that makes, or None.

        From ``free`` tries on, the next has to wait a second, then two, four, at most ``longest``. One write: of tries
        at the same time, on whatever replica, no more are let in than that allows."""
        lets_in = {"_id": key} | ({} if always else {"until": {"$lte": moment}})
        doublings = {"$min": [{"$subtract": ["$n", free]}, _MOST_DOUBLINGS]}
        wait = {"$min": [longest.total_seconds() * 1000, {"$multiply": [1000, {"$pow": [2, doublings]}]}]}
        update: list[Mapping[str, Any]] = [
            {"$set": {"n": {"$add": [{"$ifNull": ["$n", 0]}, 1]}}},
            {"$set": {"until": {"$cond": [{"$lt": ["$n", free]}, _NO_WAIT, {"$add": [moment, wait]}]}}},
            {"$set": {"ends": {"$add": [{"$max": [moment, "$until"]}, kept.total_seconds() * 1000]}}},
        ]
        for upsert in (True, False):  # again, if another try at the same time has made the counter
            with suppress(DuplicateKeyError):
                document = await self._attempts.find_one_and_update(
                    lets_in, update, upsert=upsert, return_document=ReturnDocument.AFTER
                )
                return int(document["n"]) if document else None
        return None

    async def give_back(self, key: str) -> None:
        """A try that was none after all."""
        await self._attempts.update_one({"_id": key, "n": {"$gt": 0}}, {"$inc": {"n": -1}})

    async def forget(self, key: str) -> None:
        """Begin a counter anew."""
        await self._attempts.delete_one({"_id": key})

    async def know(self, key: str, ends: datetime) -> None:
        """Remember that somebody was here."""
        await self._attempts.update_one({"_id": key}, {"$set": {"ends": ends}}, upsert=True)
