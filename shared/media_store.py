"""Where cleaned photos are kept: GridFS, by content.

A rendition's file is named by the SHA-256 of its bytes, and a photo by that of its original. So storing is idempotent
without a lock: whoever stores the same content writes the same documents, and what is there already is right. The
document in ``photos`` is written last and is what makes a photo exist; what a crash leaves before it is not seen, and
completed when the photo is sent again. Next to ``shared.storage``, this is the only module outside of the services
that knows MongoDB's syntax.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from motor.motor_asyncio import AsyncIOMotorGridFSBucket
from pymongo import ASCENDING, IndexModel
from pymongo.write_concern import WriteConcern

from shared.events import now
from shared.journal import Overloaded
from shared.media import CONTENT_TYPE, CleanPhoto, Size
from shared.projection import Document
from shared.storage import Database, DuplicateKeyError, insert_missing
from shared.together import Together

_DURABLE = WriteConcern(w="majority", j=True, wtimeout=10_000)
_REMEMBERED = 10_000
_SIZES: tuple[Size, ...] = ("original", "large", "small")
_CHUNK_BYTES = 255 * 1024  # GridFS's own default


@dataclass(frozen=True, slots=True)
class StoredPhoto:
    """One size of a photo, to be sent on: ``length`` in bytes, ``chunks`` read from the database as they are
    consumed."""

    content_type: str
    length: int
    width: int
    height: int
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class UnusedPhoto:
    """A photo that nothing is known to show, whose it is, and when it was stored last."""

    id: str
    owners: tuple[str, ...]
    stored_at: datetime


@dataclass(frozen=True, slots=True)
class _Owned:
    """A photo of somebody's: its size in pixels, and when it was stored last."""

    size: tuple[int, int]
    stored_at: datetime

    def since(self, moment: datetime | None) -> bool:
        """Whether it was stored then or later."""
        return moment is None or self.stored_at >= moment


class PhotoStore:
    """The photos of one service. An owner is whoever a photo was stored for; a photo may have several."""

    def __init__(self, database: Database) -> None:
        self._photos = database.get_collection("photos", write_concern=_DURABLE)
        self._files = database.get_collection("photos.files", write_concern=_DURABLE)
        self._chunks = database.get_collection("photos.chunks", write_concern=_DURABLE)
        self._database = database
        self._owned = Together(self._read_owned)
        self._known: dict[tuple[str, str], _Owned] = {}

    @cached_property
    def _bucket(self) -> AsyncIOMotorGridFSBucket:
        # At first use and not above: it ties the client to the event loop there is, and a service is put together
        # before its own one runs.
        return AsyncIOMotorGridFSBucket(self._database, "photos")

    async def ensure_indexes(self) -> None:
        """Create the index that GridFS reads by, and those by which photos are taken away; repeating it does
        nothing."""
        await self._chunks.create_index([("files_id", ASCENDING), ("n", ASCENDING)], unique=True)
        by = ("owners", *(f"renditions.{size}.file" for size in _SIZES))
        unused = IndexModel([("kept", ASCENDING), ("stored_at", ASCENDING)], name="unused")
        await self._photos.create_indexes([*(IndexModel([(field, ASCENDING)]) for field in by), unused])

    async def put(self, photo: CleanPhoto, owner_id: str) -> None:
        """Keep ``photo`` for ``owner_id``. Safe to repeat, and to do by several at once; durable when it returns.
        Raises Overloaded while the same photo is being taken away for its last owner."""
        own = {"$addToSet": {"owners": owner_id}, "$set": {"stored_at": now()}}
        there = {"_id": photo.content_hash, "removed": {"$exists": False}}
        if (await self._photos.update_one(there, own)).matched_count:
            return
        renditions, content = {}, {}
        for size, rendition in (("original", photo.original), ("large", photo.large), ("small", photo.small)):
            content[rendition.hash] = rendition.data
            renditions[size] = {
                "file": rendition.hash,
                "length": len(rendition.data),
                "width": rendition.width,
                "height": rendition.height,
            }
        await insert_missing(self._chunks, (chunk for file in content.items() for chunk in _chunks(*file)))
        await insert_missing(self._files, (_file(*file) for file in content.items()))
        first = {"renditions": renditions, "content_type": CONTENT_TYPE}
        try:
            await self._photos.update_one(there, own | {"$setOnInsert": first}, upsert=True)
        except DuplicateKeyError:  # somebody stored it at the same moment, or it is being removed
            if not (await self._photos.update_one(there, own)).matched_count:
                raise Overloaded("the same photo is being removed") from None

    async def get(self, content_hash: str, size: Size = "original") -> StoredPhoto | None:
        """The photo in one size; None if there is none. Who may see it is for the caller to know."""
        photo = await self._photos.find_one({"_id": content_hash}, {"content_type": 1, f"renditions.{size}": 1})
        if photo is None:
            return None
        rendition = photo["renditions"][size]
        return StoredPhoto(
            content_type=photo["content_type"],
            length=rendition["length"],
            width=rendition["width"],
            height=rendition["height"],
            chunks=self._read(rendition["file"]),
        )

    async def _read(self, file_id: str) -> AsyncIterator[bytes]:
        stream = await self._bucket.open_download_stream(file_id)
        while chunk := await stream.readchunk():
            yield chunk

    async def disown(self, owner_id: str, kept: Collection[str]) -> int:
        """Take an owner off all of their photos, and remove those that are nobody's then and not among ``kept``.
        Returns how many were removed. What a crash leaves undone, the same call does."""
        mine = [photo["_id"] async for photo in self._photos.find({"owners": owner_id}, {"_id": 1})]
        await self.keep([photo_id for photo_id in mine if photo_id in kept])
        removed = 0
        for photo_id in mine:
            if photo_id not in kept and await self._remove({"_id": photo_id, "owners": [owner_id]}):
                removed += 1
        await self._photos.update_many({"owners": owner_id}, {"$pull": {"owners": owner_id}})
        self._known = {pair: size for pair, size in self._known.items() if pair[1] != owner_id}
        return removed

    async def keep(self, photo_ids: Sequence[str]) -> None:
        """Say that something shows these photos, so that they are not among the `unused` again."""
        if photo_ids:
            await self._photos.update_many({"_id": {"$in": list(photo_ids)}}, {"$set": {"kept": True}})

    async def unused(self, before: datetime, limit: int, after: datetime | None = None) -> list[UnusedPhoto]:
        """Photos that were last stored before a moment (and at or after ``after``) and that nobody said to `keep`,
        oldest first."""
        window = {"$lt": before, **({"$gte": after} if after else {})}
        found = self._photos.find({"kept": None, "stored_at": window}, {"owners": 1, "stored_at": 1}).hint("unused")
        oldest = await found.sort("stored_at", ASCENDING).limit(limit).to_list(limit)
        return [UnusedPhoto(photo["_id"], tuple(photo["owners"]), photo["stored_at"]) for photo in oldest]

    async def count_unused(self, before: datetime) -> int:
        """How many `unused` has."""
        return await self._photos.count_documents({"kept": None, "stored_at": {"$lt": before}}, hint="unused")

    async def remove_unused(self, photo_id: str, before: datetime) -> bool:
        """Remove a photo, unless it has been stored again or kept meanwhile; whether it was."""
        return await self._remove({"_id": photo_id, "kept": None, "stored_at": {"$lt": before}})

    async def _remove(self, those: Document) -> bool:
        """Remove a photo that still is as ``those`` says. It is marked first, so that nobody becomes its owner, and
        goes last, so that a crash leaves nothing that is not found again."""
        photo: Document | None = await self._photos.find_one_and_update(those, {"$set": {"removed": True}})
        if photo is None:
            return False
        for file_id in {rendition["file"] for rendition in photo["renditions"].values()}:
            anywhere = [{f"renditions.{size}.file": file_id} for size in _SIZES]
            if await self._photos.find_one({"$or": anywhere, "_id": {"$ne": photo["_id"]}}, {"_id": 1}) is None:
                await self._chunks.delete_many({"files_id": file_id})
                await self._files.delete_one({"_id": file_id})
        await self._photos.delete_one({"_id": photo["_id"], "removed": True})
        for owner_id in photo["owners"]:
            self._known.pop((photo["_id"], owner_id), None)
        return True

    async def owners(self, content_hash: str) -> tuple[str, ...]:
        """Whoever the photo was stored for, in no particular order; empty if there is none."""
        photo = await self._photos.find_one({"_id": content_hash}, {"owners": 1})
        return tuple(photo["owners"]) if photo else ()

    async def owned(
        self, content_hashes: Sequence[str], owner_id: str, since: datetime | None = None
    ) -> dict[str, tuple[int, int]]:
        """Those of the photos that were stored for ``owner_id``, the last time ``since`` a moment, with the width and
        height of the original in pixels.

        What was found is remembered: a photo's owner stays its owner. Whoever takes photos away has to clear it.
        """
        pairs = [(photo_id, owner_id) for photo_id in content_hashes]
        found = {pair: self._known.get(pair) for pair in pairs}
        if ask := [pair for pair, owned in found.items() if owned is None or not owned.since(since)]:
            read = dict(zip(ask, await asyncio.gather(*map(self._owned.get, ask)), strict=True))
            found |= read
            self._known |= {pair: owned for pair, owned in read.items() if owned}
            while len(self._known) > _REMEMBERED:
                del self._known[next(iter(self._known))]
        return {photo_id: owned.size for (photo_id, _), owned in found.items() if owned and owned.since(since)}

    async def _read_owned(self, asked: Collection[tuple[str, str]]) -> dict[tuple[str, str], _Owned]:
        """Of pairs of photo and owner those that belong together."""
        photo_ids, owner_ids = ({*ids} for ids in zip(*asked, strict=True))
        ours = {"$setIntersection": ["$owners", list(owner_ids)]}  # of what may be many, those who ask
        found = self._photos.find(
            {"_id": {"$in": list(photo_ids)}, "removed": {"$exists": False}},
            {"renditions.original.width": 1, "renditions.original.height": 1, "stored_at": 1, "owners": ours},
        )
        return {
            (photo["_id"], owner_id): _Owned((original["width"], original["height"]), photo["stored_at"])
            for photo in await found.to_list(len(photo_ids))
            for original in [photo["renditions"]["original"]]
            for owner_id in photo["owners"]
        }


def _chunks(file_id: str, data: bytes) -> Iterable[Document]:
    for n, start in enumerate(range(0, len(data), _CHUNK_BYTES)):
        yield {"_id": f"{file_id}:{n}", "files_id": file_id, "n": n, "data": data[start : start + _CHUNK_BYTES]}


def _file(file_id: str, data: bytes) -> Document:
    """GridFS's description of a file (MongoDB GridFS specification, files collection document)."""
    return {
        "_id": file_id,
        "length": len(data),
        "chunkSize": _CHUNK_BYTES,
        "uploadDate": now(),
        "filename": f"{file_id}.jpg",
        "metadata": {"contentType": CONTENT_TYPE},
    }
