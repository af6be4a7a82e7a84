"""The audit log's entries in MongoDB: the collection ``audit`` of each service's own database."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pymongo.errors import BulkWriteError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from shared.audit import SYSTEM, Action, AuditLog, Seal
from shared.projection import Document
from shared.queries import set_indexes
from shared.storage import ASCENDING, DESCENDING, Database, IndexModel, unless_unconfirmed

_DURABLE = WriteConcern(w="majority", j=True, wtimeout=10_000)
_DUPLICATE = 11000
_PAGE = 1000


class MongoAudit:
    """`shared.audit.AuditStore`. The unique ``_id`` is the entry's number: of two writers of one number, one loses."""

    def __init__(self, database: Database) -> None:
        self._durable = database.get_collection("audit", write_concern=_DURABLE)
        self._kept = database.get_collection("audit", read_concern=ReadConcern("majority"))

    async def ensure_indexes(self) -> None:
        """What `of` picks by, and by age; repeating it does nothing."""
        await set_indexes(
            self._durable,
            [
                IndexModel([("action", ASCENDING), ("_id", DESCENDING)], name="action"),
                IndexModel([("subject", ASCENDING), ("_id", DESCENDING)], name="subject"),
                IndexModel([("at", ASCENDING)], name="at"),
            ],
        )

    async def head(self) -> Document | None:
        return await self._kept.find_one({}, sort=[("_id", DESCENDING)])

    async def add(self, entries: Sequence[Document]) -> int:
        try:
            await self._durable.insert_many(entries)
        except BulkWriteError as failure:
            (error,) = unless_unconfirmed(failure)["writeErrors"]  # in order: nothing is tried after the first
            if error["code"] != _DUPLICATE:
                raise
            return int(error["index"])
        return len(entries)

    async def walk(self) -> AsyncIterator[Document]:
        """All entries in the order of their numbers, a thousand in memory at a time."""
        async for entry in self._kept.find({}).sort("_id", ASCENDING).batch_size(_PAGE):
            yield entry

    async def hashes(self, numbers: Sequence[int]) -> dict[int, str]:
        """The hashes of the entries with these numbers, as far as they exist."""
        found = self._kept.find({"_id": {"$in": list(numbers)}}, {"hash": 1})
        return {entry["_id"]: str(entry.get("hash")) async for entry in found}

    async def of(
        self,
        *,
        action: str | None = None,
        subject: str | None = None,
        since: datetime | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[Document]:
        """Up to ``limit`` entries, newest first, of one action and about one subject where these are given, not older
        than ``since`` and with numbers below ``before``."""
        query: dict[str, Any] = {"action": action, "subject": subject}
        query = {name: value for name, value in query.items() if value is not None}
        if since is not None:
            query["at"] = {"$gte": since}
        if before is not None:
            query["_id"] = {"$lt": before}
        return await self._kept.find(query).sort("_id", DESCENDING).limit(limit).to_list(limit)


class AgeingAudit:
    """`shared.retention.Ageing` on the audit log: it loses its beginning only, and never its last entry."""

    def __init__(self, database: Database, log: AuditLog) -> None:
        self._entries = database.get_collection("audit", write_concern=_DURABLE, read_concern=ReadConcern("majority"))
        self._log = log

    async def due(self, before: datetime) -> int:
        first, begins = await self._first(), await self._begins(before)
        return max(begins - first, 0) if first is not None else 0

    async def remove(self, before: datetime, limit: int) -> int:
        first, begins = await self._first(), await self._begins(before)
        if first is None or begins <= first:
            return 0
        told = await self._entries.find_one({"action": Action.LOG_SHORTENED}, sort=[("_id", DESCENDING)])
        if told is None or told["facts"]["begins"] < begins:
            await self._log.record(Action.LOG_SHORTENED, SYSTEM, begins=begins)
        return (await self._entries.delete_many({"_id": {"$lt": min(first + limit, begins)}})).deleted_count

    async def _first(self) -> int | None:
        first = await self._entries.find_one({}, {"_id": 1}, sort=[("_id", ASCENDING)])
        return first["_id"] if first else None

    async def _begins(self, before: datetime) -> int:
        """The number that the log is to begin with; 0 if nothing is old."""
        last = await self._entries.find_one({}, {"_id": 1}, sort=[("_id", DESCENDING)])
        old = await self._entries.find_one({"at": {"$lt": before}}, {"_id": 1}, sort=[("at", DESCENDING)])
        return min(old["_id"] + 1, last["_id"]) if old and last else 0


def audit_log(database: Database, service: str, key_file: Path | None) -> AuditLog:
    """The log of a service. Without a key nothing can be recorded in it. Raises UnusableKey for a key that is no
    use."""
    return AuditLog(MongoAudit(database), Seal(service, key_file) if key_file else None)
