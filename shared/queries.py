"""How services read lists of their collections: always along an index, and per page never more than a bounded part.

A list is a *walk*: a part of one index in the index's own order, from which some entries are picked. Where what is
wanted is rare along the way, a page ends after so many entries all the same: it has fewer rows than asked for, or none,
and a cursor that goes on from there. So a page costs the same however much is stored.
"""

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import bson
from bson.errors import BSONError
from motor.motor_asyncio import AsyncIOMotorCursor
from pymongo.errors import OperationFailure

from shared.projection import Document
from shared.sop import Status
from shared.storage import ASCENDING, DESCENDING, Documents, IndexModel

BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
ANY_TIME: Mapping[str, Any] = {"$gt": BEGINNING}
"""Dates of any time: of a field that may be null, those that are not."""
KEYS = (300, 2000)
"""Entries of an index that one page looks at, where they tell by themselves what is picked: at first, and at most."""
DOCUMENTS = (500,)
"""Entries whose documents one page looks at, where only these tell, at most."""
_SAMPLE = 100
_OPEN = [status.value for status in Status if status is not Status.CLOSED]
_UNENCODABLE = (BSONError, UnicodeError, OverflowError)

Position = tuple[Any, str]
"""A place along a walk: the value of the field that sorts, and the document's ``_id``."""


class BadCursor(ValueError):
    """The page cursor was not made by this API."""


@dataclass(frozen=True, slots=True)
class Walk:
    """Part of the index called ``index``, whose fields are those of ``among``, then ``by``, then ``_id``, then others.

    ``among`` gives one value or ``{"$in": [...]}`` for each field before ``by``, and ``within`` the range of ``by``.
    ``picks`` are the conditions on what is met on the way; ``told`` says that the index holds all fields that they ask
    about, so that no document is read in vain. ``fields`` are those that are wanted of the documents; None for all.
    """

    index: str
    by: str
    among: Mapping[str, Any] = field(default_factory=dict)
    within: Mapping[str, Any] = field(default_factory=lambda: ANY_TIME)
    descending: bool = False
    picks: Sequence[Mapping[str, Any]] = ()
    told: bool = False
    fields: Mapping[str, int] | None = None

    def after(self, position: Position | None) -> "list[_Part]":
        """What lies beyond a position, in parts: what has the same value and a later ``_id``, then the later values.
        One part for both would begin with the first of equal values again, and there can be thousands."""
        whole: list[Mapping[str, Any]] = [self.among, {self.by: self.within}]
        if position is None:
            return [_Part(self, whole)]
        value, last_id = position
        beyond = "$lt" if self.descending else "$gt"
        return [
            _Part(self, [*whole, {self.by: value}, {"_id": {beyond: last_id}}], same_value=True),
            _Part(self, [*whole, {self.by: {beyond: value}}]),
        ]


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a walk. Where the field that sorts has the same value throughout, only ``_id`` may be named as the
    order: with both the server reads all of it and sorts."""

    walk: Walk
    conditions: Sequence[Mapping[str, Any]]
    same_value: bool = False

    def until(self, end: Position) -> "list[_Part]":
        """The part up to a position and with it."""
        value, last_id = end
        before = "$gt" if self.walk.descending else "$lt"
        up_to: Mapping[str, Any] = {"_id": {f"{before}e": last_id}}
        if self.same_value:
            return [_Part(self.walk, [*self.conditions, up_to], same_value=True)]
        return [
            _Part(self.walk, [*self.conditions, {self.walk.by: {before: value}}]),
            _Part(self.walk, [*self.conditions, {self.walk.by: value}, up_to], same_value=True),
        ]

    def find(
        self, collection: Documents, picks: Sequence[Mapping[str, Any]] = (), fields: Mapping[str, int] | None = None
    ) -> AsyncIOMotorCursor[Document]:
        """The documents of it that are picked, in order."""
        step = DESCENDING if self.walk.descending else ASCENDING
        order = [("_id", step)] if self.same_value else [(self.walk.by, step), ("_id", step)]
        found = collection.find({"$and": [*self.conditions, *picks]}, fields)
        return found.sort(order).hint(self.walk.index)

    async def entry(self, collection: Documents, number: int) -> Position | None:
        """Where its entry of this number lies, picked or not; None if there are not as many."""
        place = self.find(collection, fields={"_id": 1, self.walk.by: 1}).skip(number - 1).limit(1)
        found = await place.to_list(1)
        return _position(found[0], self.walk.by) if found else None


async def set_indexes(collection: Documents, wanted: Sequence[IndexModel]) -> None:
    """Give a collection exactly these indexes, each of which has a name: what an earlier version made and nothing reads
    any more would cost every write. Repeating it does nothing."""
    by_name = {model.document["name"]: model.document for model in wanted}
    for name, there in (await collection.index_information()).items():
        same = name in by_name and all(
            there.get(part) == by_name[name].get(part) for part in ("unique", "partialFilterExpression")
        )
        if name != "_id_" and not (same and there["key"] == list(by_name[name]["key"].items())):
            with suppress(OperationFailure):  # another process that starts has dropped it
                await collection.drop_index(name)
    await collection.create_indexes(wanted)


async def page(
    collection: Documents, walk: Walk, limit: int, cursor: str | None = None
) -> tuple[list[Document], str | None]:
    """One page of a walk, and the cursor of the next page (None at the end). Raises `BadCursor`."""
    rows, end = await read(collection, walk, limit, decoded(cursor))
    return [document for _, document in rows], encoded(end)


async def each(
    read: Callable[[str | None], Awaitable[tuple[Sequence[Document], str | None]]],
) -> AsyncIterator[Document]:
    """All documents of a list, a page at a time: ``read`` gives the page at a cursor (None: the first) and the next
    page's cursor."""
    cursor: str | None = None
    while True:
        found, cursor = await read(cursor)
        for document in found:
            yield document
        if cursor is None:
            return


async def read(
    collection: Documents, walk: Walk, limit: int, after: Position | None
) -> tuple[list[tuple[Position, Document]], Position | None]:
    """Up to ``limit`` documents of a walk after a position, each with its own; and how far was read, None if to the
    end."""
    found: list[tuple[Position, Document]] = []
    for part in walk.after(after):
        rows, end = await _picked(collection, part, limit + 1 - len(found))
        found += rows
        if len(found) > limit:
            return found[:limit], found[limit - 1][0]
        if end is not None:
            return found, end
    return found, None


async def _picked(
    collection: Documents, part: _Part, limit: int
) -> tuple[list[tuple[Position, Document]], Position | None]:
    """The first documents of a part that are picked; and the last entry that was looked at, if that is why there are no
    more."""
    walk = part.walk
    for entries in (KEYS if walk.told else DOCUMENTS) if walk.picks else (None,):
        end = await part.entry(collection, entries) if entries else None
        rows: list[tuple[Position, Document]] = []
        for piece in part.until(end) if end else [part]:
            missing = limit - len(rows)
            found = await piece.find(collection, walk.picks, walk.fields).limit(missing).to_list(missing)
            rows += [(_position(document, walk.by), document) for document in found]
            if len(rows) == limit:
                return rows, None
        if end is None:
            break
    return rows, end


def has_all(name: str, values: Sequence[str]) -> list[Mapping[str, Any]]:
    """The pick that an array holds all of these values; nothing where there are none. Written as an expression, since
    of two plain conditions on an array either can become the part of the index that is walked."""
    return [{"$expr": {"$setIsSubset": [list(values), f"${name}"]}}] if values else []


async def sparsest(collection: Documents, walks: Sequence[Walk], cursor: str | None) -> Walk:
    """Of several walks of one order that pick the same, the one that gets on fastest from a cursor: whose hundredth
    entry lies farthest. Raises `BadCursor`."""
    after = decoded(cursor)

    if len(walks) == 1:
        return walks[0]
    reaches = await asyncio.gather(*(walk.after(after)[-1].entry(collection, _SAMPLE) for walk in walks))
    for walk, position in zip(walks, reaches, strict=True):
        if position is None:
            return walk
    choose = min if walks[0].descending else max
    return walks[reaches.index(choose(position for position in reaches if position is not None))]


def open_index() -> IndexModel:
    """The index that `count_by_status` reads: the statuses of what is not closed."""
    return IndexModel([("status", ASCENDING)], name="open", partialFilterExpression={"status": {"$in": _OPEN}})


async def count_by_status(
    collection: Documents, statuses: Iterable[str], index: str = "open", name: str = "status"
) -> dict[str, int]:
    """How many documents are in each of ``statuses``. Of the closed ones there is no end, so they are not counted: they
    are what remains of the collection's own total, which is exact but for a while after a crash of the database."""
    still = [status for status in statuses if status != Status.CLOSED]
    counted = await asyncio.gather(*(collection.count_documents({name: s}, hint=index) for s in still))
    closed = await collection.estimated_document_count() - sum(counted)
    return {**dict(zip(still, counted, strict=True)), Status.CLOSED.value: max(closed, 0)}


def _position(document: Document, name: str) -> Position:
    value: Any = document
    for part in name.split("."):
        value = value[part]
    return value, document["_id"]


def merged(
    parts: Iterable[tuple[list[tuple[Position, Document]], Position | None]], limit: int
) -> tuple[list[tuple[Position, Document]], Position | None]:
    """What several walks of ascending order have read, as one page: in order, as far as all have been read, and what
    several have met only where it comes first; and where it ends, None if all are at their ends."""
    read_parts = list(parts)
    end = min((end for _, end in read_parts if end is not None), default=None)
    once: dict[str, tuple[Position, Document]] = {}
    for row in sorted((row for found, _ in read_parts for row in found), key=lambda row: row[0]):
        if end is None or row[0] <= end:
            once.setdefault(row[0][1], row)
    rows = list(once.values())
    return rows[:limit], rows[limit - 1][0] if len(rows) > limit else end


def encoded(position: Position | None) -> str | None:
    """A position as a cursor."""
    if position is None:
        return None
    value, last_id = position
    text = {"at": value.isoformat()} if isinstance(value, datetime) else {"value": value}
    return base64.urlsafe_b64encode(json.dumps({**text, "id": last_id}).encode()).decode().rstrip("=")


def decoded(cursor: str | None) -> Position | None:
    """The position in a cursor. Raises `BadCursor`."""
    if not cursor:
        return None
    try:
        data = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        value = datetime.fromisoformat(data["at"]) if "at" in data else data["value"]
        if not isinstance(data["id"], str) or not isinstance(value, str | int | float | datetime):
            raise BadCursor
        bson.encode({"cursor": [value, data["id"]]})
        return value, data["id"]
    except (binascii.Error, ValueError, KeyError, TypeError, AttributeError, *_UNENCODABLE):
        raise BadCursor("the page cursor is not one that this API made") from None
