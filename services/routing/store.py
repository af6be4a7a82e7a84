"""The collection ``cases``, its indexes, and the queries of the operators' queues and the coordinator's view."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.routing import projection
from shared.calendar import Deadlines
from shared.projection import Document, Projection
from shared.sop import Role, Status
from shared.storage import ASCENDING, DESCENDING, Database, IndexModel, MongoDocuments, by_id, page, written

_OPEN = [status.value for status in Status if status is not Status.CLOSED]


@dataclass(frozen=True, slots=True)
class Search:
    """What a queue is narrowed to; None leaves a field open. ``text`` is looked for in title, description and
    number."""

    desk: Role | None = None
    status: Status | None = None
    category: str | None = None
    district: str | None = None
    agency: str | None = None
    submitted_before: datetime | None = None
    due_before: datetime | None = None
    text: str | None = None


class CaseStore:
    """All cases."""

    def __init__(self, database: Database, deadlines: Deadlines) -> None:
        self._cases = database["cases"]
        self._by_id = by_id(self._cases)
        self.projection = Projection(MongoDocuments(self._cases), projection.deriving(deadlines), projection.TAKES)

    async def ensure_indexes(self) -> None:
        """For each way to narrow a queue an index that also sorts it; and the words of reports."""
        due, newest = [("due_at", ASCENDING), ("_id", ASCENDING)], [("submitted_at", ASCENDING), ("_id", ASCENDING)]
        narrowed = [[(name, ASCENDING)] for name in ("desk", "status", "category", "district", "agency")]
        sorts: list[list[tuple[str, int]]] = [due, newest]
        await self._cases.create_indexes(
            [
                *(IndexModel([*by, *sort]) for by in [[], *narrowed] for sort in sorts),
                IndexModel([("moved_at", ASCENDING), ("_id", ASCENDING)]),
                IndexModel([("number", ASCENDING)]),
                IndexModel([("informed_at", DESCENDING), ("_id", DESCENDING)]),
                IndexModel([("agency", ASCENDING), ("status", ASCENDING)]),
                IndexModel([("title", "text"), ("description", "text")], default_language="none", name="words"),
            ]
        )

    async def find(self, complaint_id: str) -> Document | None:
        """One case."""
        return await self._by_id.get(complaint_id)

    async def queue(
        self, search: Search, visible: Mapping[str, Any], sort: str, limit: int, cursor: str | None
    ) -> tuple[list[Document], str | None]:
        """One page of the cases that match and may be seen, and the next page's cursor."""
        exact = {
            "desk": search.desk,
            "status": search.status,
            "category": search.category,
            "district": search.district,
            "agency": search.agency,
        }
        query: dict[str, Any] = {name: value for name, value in exact.items() if value is not None}
        if search.submitted_before:
            query["submitted_at"] = {"$lt": search.submitted_before}
        if search.due_before:
            query["due_at"] = {"$lt": search.due_before}
        if search.text:
            query |= written(search.text)
        return await page(self._cases, {"$and": [query, visible]}, sort, limit, cursor)

    async def informed(self, limit: int, cursor: str | None) -> tuple[list[Document], str | None]:
        """Cases that the coordinator was told of, the latest first."""
        return await page(self._cases, {}, "-informed_at", limit, cursor)

    async def count_by_status(self) -> dict[str, int]:
        """How many cases are in each status."""
        return {s.value: await self._cases.count_documents({"status": s}) for s in Status}

    async def open_by_agency(self) -> dict[str, int]:
        """How many open cases each agency has."""
        counted = self._cases.aggregate(
            [
                {"$match": {"agency": {"$gt": ""}, "status": {"$in": _OPEN}}},
                {"$group": {"_id": "$agency", "cases": {"$sum": 1}}},
                {"$sort": {"_id": ASCENDING}},
            ],
            hint="agency_1_status_1",
        )
        return {row["_id"]: row["cases"] async for row in counted}

    async def oldest_open(self) -> datetime | None:
        """When the oldest open case was submitted; None if no case is open."""
        oldest = [
            found["submitted_at"]
            for status in _OPEN
            async for found in self._cases.find({"status": status, "submitted_at": {"$ne": None}})
            .sort("submitted_at", ASCENDING)
            .limit(1)
        ]
        return min(oldest, default=None)

    async def overdue_by_status(self, at: datetime) -> dict[str, int]:
        """How many open cases are past their time, by status."""
        return {
            status: await self._cases.count_documents({"status": status, "due_at": {"$lt": at}}) for status in _OPEN
        }
