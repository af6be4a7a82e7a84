"""MongoDB behind the journal and the projections, and the connection that every service's ``store.py`` uses.

Journal entries are written with ``w=majority, j=true``, and so is what comes from the topics, since its offsets are
committed next. What a desk projects of its own entries does not wait for the disk, because a caller waits for it; a
crash of the database can take it back while the service lives on. So an entry is marked only once a majority read shows
it in its document, and the relay projects the others again.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from bson.errors import BSONError
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo import ASCENDING, DESCENDING, IndexModel, InsertOne, ReplaceOne, UpdateMany
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    ExecutionTimeout,
    OperationFailure,
)
from pymongo.errors import WTimeoutError as WriteTimeout
from pymongo.read_concern import ReadConcern
from pymongo.topology_description import TopologyDescription
from pymongo.write_concern import WriteConcern

from shared.connections import mongo_options
from shared.events import Event, from_document, now
from shared.journal import Entry, KeyReused, Taken, Unstorable
from shared.projection import Change, Document
from shared.settings import ServiceSettings
from shared.together import Together

__all__ = [
    "ASCENDING",
    "DESCENDING",
    "TRANSIENT",
    "Database",
    "Documents",
    "DuplicateKeyError",
    "IndexModel",
    "MongoDocuments",
    "MongoJournal",
    "Presence",
    "by_id",
    "connect",
    "insert_missing",
    "load",
    "refusal",
    "remove_some",
    "unless_unconfirmed",
]

Database = AsyncIOMotorDatabase[Document]
Documents = AsyncIOMotorCollection[Document]

TRANSIENT = (AutoReconnect, ConnectionFailure, ExecutionTimeout, WriteTimeout)
"""What passes by itself: the database is away, or too slow just now."""

_AUTHENTICATION_FAILED, _UNAUTHORIZED = 18, 13
_DURABLE = WriteConcern(w="majority", j=True, wtimeout=10_000)
_FOLLOWS = WriteConcern(w=1, j=False)
_DUPLICATE = 11000
_UNENCODABLE = (BSONError, UnicodeError, OverflowError, DocumentTooLarge)
"""What the driver raises, before it sends anything, for a value that a document cannot hold."""


def connect(where: ServiceSettings | str) -> AsyncIOMotorClient[Document]:
    """A client, by settings or by a URL alone, whose waits are bounded; nothing is connected until it is first used.
    Datetimes come back aware.

    It waits a second for a server that takes writes: who asks meanwhile has a thread, and there are few."""
    client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
        where if isinstance(where, str) else where.mongo_url,
        **({} if isinstance(where, str) else mongo_options(where)),
        tz_aware=True,
        w="majority",
        journal=True,
        serverSelectionTimeoutMS=1000,
        heartbeatFrequencyMS=1000,
        connectTimeoutMS=3000,
        socketTimeoutMS=20_000,
        maxPoolSize=50,
        appname="lapor",
    )
    # Applications are built before the loop that serves them runs; this is the way motor's own guide gives for that.
    client.get_io_loop = asyncio.get_running_loop  # type: ignore[method-assign]  # an attribute on purpose
    return client


class Presence:
    """Whether there is a server that takes writes, as far as a client knows; it asks every second."""

    def __init__(self, client: AsyncIOMotorClient[Document]) -> None:
        self._client = client
        self._told: TopologyDescription | None = None
        self._there = False

    def away(self) -> bool:
        """True if there is none."""
        told: TopologyDescription = self._client.topology_description  # type: ignore[assignment]  # motor's stub errs
        if told is not self._told:  # a new one comes with each change
            self._told, self._there = told, told.has_writable_server()
        return not self._there


def refusal(error: Exception) -> str:
    """What to mend, where an error is the database's refusal of this service; empty for any other."""
    if isinstance(error, OperationFailure) and error.code == _AUTHENTICATION_FAILED:
        return "MongoDB refuses this user: its name or password is wrong"
    if isinstance(error, OperationFailure) and error.code == _UNAUTHORIZED:
        return "MongoDB does not allow this user what the service needs, or wants a sign-in"
    if isinstance(error, AutoReconnect) and "certificate" in str(error).lower():
        return "MongoDB's certificate is not accepted"
    return ""


def unless_unconfirmed(failure: BulkWriteError) -> Mapping[str, Any]:
    """What a bulk write says of its failure. Raises AutoReconnect where a majority has not confirmed it."""
    details: Mapping[str, Any] = failure.details or {}
    if details.get("writeConcernErrors"):
        raise AutoReconnect("the write was not confirmed by a majority; its outcome is unknown") from failure
    return details


class MongoJournal:
    """`shared.journal.JournalStore` on the collection ``journal`` of a service's database."""

    def __init__(self, database: Database) -> None:
        self._durable = database.get_collection("journal", write_concern=_DURABLE)
        self._follows = database.get_collection("journal", write_concern=_FOLLOWS)
        self._confirmed = database.get_collection("journal", read_concern=ReadConcern("majority"))

    async def ensure_indexes(self) -> None:
        """Create the indexes that the journal's promises rest on; repeating it does nothing."""
        await self._durable.create_indexes(
            [
                IndexModel(
                    [("recorded_at", ASCENDING)], name="unpublished", partialFilterExpression={"published": False}
                ),
                IndexModel(
                    [("idempotency.key", ASCENDING)],
                    name="idempotency",
                    unique=True,
                    partialFilterExpression={"idempotency.key": {"$exists": True}},
                ),
            ]
        )

    async def insert(self, entries: Sequence[Entry]) -> list[Exception | None]:
        outcome: list[Exception | None] = [None] * len(entries)
        recorded_at = now()
        documents = []
        for entry in entries:
            document = {
                "_id": entry.event.id,
                "topic": entry.event.topic,
                "event": entry.event.stored,
                "recorded_at": recorded_at,
                "published": False,
            }
            if entry.trace:
                document["traceparent"] = entry.trace
            if entry.idempotency:
                document["idempotency"] = {"key": entry.idempotency.key, "request": entry.idempotency.request}
            documents.append(document)
        try:
            await self._durable.insert_many(documents, ordered=False)
        except _UNENCODABLE as fault:
            if len(entries) == 1:
                return [Unstorable(str(fault))]
            return [failure for entry in entries for failure in await self.insert([entry])]
        except BulkWriteError as failure:
            details = unless_unconfirmed(failure)
            for error in details["writeErrors"]:
                if error["code"] != _DUPLICATE:
                    raise
                used = "idempotency.key" in error.get("keyPattern", {})
                outcome[error["index"]] = KeyReused() if used else Taken(entries[error["index"]].event.id)
        return outcome

    async def find_key(self, key: str) -> tuple[str, Event] | None:
        found = await self._durable.find_one({"idempotency.key": key})
        if found is None:
            return None
        if not await self._confirmed.find_one({"_id": found["_id"]}, {"_id": 1}):
            raise AutoReconnect("the entry is not yet confirmed by a majority; its outcome is unknown")
        return found["idempotency"]["request"], from_document(found["topic"], found["event"])

    async def unpublished(self, before: datetime, limit: int) -> list[Entry]:
        cursor = self._durable.find({"published": False, "recorded_at": {"$lt": before}}).sort("recorded_at", ASCENDING)
        found = await cursor.limit(limit).to_list(limit)
        return [Entry(from_document(d["topic"], d["event"]), trace=d.get("traceparent")) for d in found]

    async def count_unpublished(self) -> int:
        return await self._durable.count_documents({"published": False}, hint="unpublished")

    async def oldest_unpublished(self) -> datetime | None:
        """When the entry was recorded that has waited longest to be published; None if none waits."""
        waiting = self._follows.find({"published": False}, {"recorded_at": 1}, hint="unpublished")
        found = await waiting.sort("recorded_at", ASCENDING).limit(1).to_list(1)
        return found[0]["recorded_at"] if found else None

    async def mark(self, ids: Collection[str]) -> None:
        await self._follows.update_many({"_id": {"$in": list(ids)}}, {"$set": {"published": True}})


async def load(
    collection: Documents, ids: Collection[str], fields: Mapping[str, int] | None = None
) -> dict[str, Document]:
    """The documents that exist among ``ids``, by id; ``fields`` as MongoDB's projections have it, None for all."""
    if not ids:
        return {}
    found = await collection.find({"_id": {"$in": list(ids)}}, fields).to_list(len(ids))
    return {document["_id"]: document for document in found}


def by_id(collection: Documents) -> Together[str, Document]:
    """Reads a collection's documents by id, several callers' in one query."""

    async def read(ids: Collection[str]) -> dict[str, Document]:
        return await load(collection, ids)

    return Together(read)


class MongoDocuments:
    """`shared.projection.DocumentStore` on one collection."""

    def __init__(self, collection: Documents) -> None:
        self._collection = collection.with_options(write_concern=_FOLLOWS)
        self._durable = collection.with_options(write_concern=_DURABLE)
        self._committed = collection.with_options(read_concern=ReadConcern("majority"))

    async def load(self, ids: Collection[str]) -> dict[str, Document]:
        return await load(self._collection, ids)

    async def kept(self, ids: Collection[str]) -> dict[str, set[str]]:
        found = await load(self._committed, ids, {"history.id": 1})
        return {id_: {entry["id"] for entry in document["history"]} for id_, document in found.items()}

    async def save(self, documents: Sequence[Change], *, durably: bool = False) -> bool:
        writes = [_write(document, before) for document, before in documents]
        try:
            result = await (self._durable if durably else self._collection).bulk_write(writes, ordered=False)
        except BulkWriteError as failure:
            details = unless_unconfirmed(failure)
            if any(error["code"] != _DUPLICATE for error in details["writeErrors"]):
                raise
            return False
        return result.matched_count + result.inserted_count == len(writes)


def _write(document: Document, before: Document | None) -> InsertOne[Document] | ReplaceOne[Document] | UpdateMany:
    """The write that makes ``document`` of ``before``: of what has been there for long, only the difference.

    It names one document, and says "many": then the driver does not repeat it by itself, and mongod keeps no record of
    each for that. Who saves asks again anyway, and by ``revision`` it is done once."""
    if before is None:
        return InsertOne(document)
    unchanged = {"_id": document["_id"], "revision": before["revision"]}
    old, new = before.get("history", ()), document.get("history", ())
    if not old or len(new) <= len(old) or any(a is not b for a, b in zip(old, new, strict=False)):
        return ReplaceOne(unchanged, document)
    fields = {name: value for name, value in document.items() if name != "history" and before.get(name, ...) != value}
    change: Document = {"$set": fields, "$push": {"history": {"$each": new[len(old) :]}}}
    if gone := [name for name in before if name not in document]:
        change["$unset"] = dict.fromkeys(gone, "")
    return UpdateMany(unchanged, change)


async def remove_some(collection: Documents, query: Mapping[str, Any], by: str, limit: int) -> int:
    """Remove up to ``limit`` documents, those with the lowest ``by`` first, which an index must have; returns how
    many."""
    found = await collection.find(query, {"_id": 1}).sort(by, ASCENDING).limit(limit).to_list(limit)
    if not found:
        return 0
    ids = [document["_id"] for document in found]
    return (await collection.delete_many({"_id": {"$in": ids}})).deleted_count


async def insert_missing(collection: Documents, documents: Iterable[Document]) -> list[Document]:
    """Insert the documents whose keys are not there yet, durably by the collection's write concern; returns those."""
    wanted = list(documents)
    try:
        if wanted:
            await collection.insert_many(wanted, ordered=False)
    except BulkWriteError as failure:
        details = unless_unconfirmed(failure)
        if any(error["code"] != _DUPLICATE for error in details["writeErrors"]):
            raise
        there = {error["index"] for error in details["writeErrors"]}
        return [document for index, document in enumerate(wanted) if index not in there]
    return wanted
