"""Intake's complaints and the record of who looked up a reporter: collections, indexes, and the queries of the API."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from services.intake import projection
from shared.calendar import Deadlines
from shared.events import new_id, now
from shared.projection import Document, Projection
from shared.sop import Role, Status
from shared.storage import ASCENDING, DESCENDING, Database, IndexModel, MongoDocuments, by_id, page


class ComplaintStore:
    """The citizen's view of complaints."""

    def __init__(self, database: Database, deadlines: Deadlines) -> None:
        self._complaints = database["complaints"]
        self._by_id = by_id(self._complaints)
        self._journal = database["journal"]
        self.projection = Projection(MongoDocuments(self._complaints), projection.deriving(deadlines), projection.TAKES)

    async def ensure_indexes(self) -> None:
        """A citizen's list, the number, what lapses; and in the journal, that no two complaints have one number."""
        by_reporter = [("reporter_id", ASCENDING)]
        newest = [("submitted_at", DESCENDING), ("_id", DESCENDING)]
        await self._complaints.create_indexes(
            [
                IndexModel([*by_reporter, *newest]),
                IndexModel([*by_reporter, ("status", ASCENDING), *newest]),
                IndexModel([("number", ASCENDING)]),
                IndexModel([("status", ASCENDING)]),
                IndexModel([("lapses_at", ASCENDING)], partialFilterExpression={"lapses_at": {"$type": "date"}}),
            ]
        )
        await self._journal.create_indexes(
            [
                IndexModel(
                    [("event.number", ASCENDING)],
                    name="number",
                    unique=True,
                    partialFilterExpression={"topic": "complaint.submitted"},
                )
            ]
        )

    async def find(self, complaint_id: str) -> Document | None:
        """One complaint."""
        return await self._by_id.get(complaint_id)

    async def find_number(self, number: str) -> Document | None:
        """One complaint by its number, as `parse_number` gives it."""
        return await self._complaints.find_one({"number": number})

    async def of_reporter(
        self, reporter_id: str, status: Status | None, category: str | None, limit: int, cursor: str | None
    ) -> tuple[list[Document], str | None]:
        """One page of a citizen's complaints, newest first."""
        exact: Mapping[str, Any] = {"reporter_id": reporter_id, "status": status, "category": category}
        query = {name: value for name, value in exact.items() if value is not None}
        return await page(self._complaints, query, "-submitted_at", limit, cursor)

    async def lapsed(self, at: datetime) -> AsyncIterator[Document]:
        """Complaints whose time for the citizen ended before a moment, earliest first."""
        over = {"lapses_at": {"$lt": at, "$type": "date"}}  # as the partial index says it
        async for document in self._complaints.find(over).sort("lapses_at", ASCENDING):
            yield document

    async def count_by_status(self) -> dict[str, int]:
        """How many complaints are in each status, for the metrics."""
        return {s.value: await self._complaints.count_documents({"status": s}) for s in Status}


class AccessStore:
    """Who of the staff looked up a reporter's data, when and why; the citizen can read it."""

    def __init__(self, database: Database) -> None:
        self._accesses = database["identity_accesses"]

    async def ensure_indexes(self) -> None:
        """A citizen's own list, newest first."""
        await self._accesses.create_indexes(
            [IndexModel([("citizen_id", ASCENDING), ("at", DESCENDING), ("_id", DESCENDING)])]
        )

    async def record(
        self, citizen_id: str, complaint_id: str, number: str, staff_id: str, role: Role, reason: str
    ) -> None:
        """Write down one access; only after that may the data be shown."""
        await self._accesses.insert_one(
            {
                "_id": new_id(),
                "citizen_id": citizen_id,
                "complaint_id": complaint_id,
                "number": number,
                "staff_id": staff_id,
                "role": role.value,
                "reason": reason,
                "at": now(),
            }
        )

    async def of_citizen(
        self, citizen_id: str, limit: int, cursor: str | None
    ) -> tuple[Sequence[Document], str | None]:
        """One page of the accesses to a citizen's data, newest first."""
        return await page(self._accesses, {"citizen_id": citizen_id}, "-at", limit, cursor)
