"""The opd service's collection ``work``, its indexes, and the queries of its API."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from services.opd import projection
from shared.projection import Document, Projection
from shared.sop import Status
from shared.storage import ASCENDING, Database, IndexModel, MongoDocuments, by_id, page, written


class WorkStore:
    """The agencies' work."""

    def __init__(self, database: Database) -> None:
        self._work = database["work"]
        self._by_id = by_id(self._work)
        self.projection = Projection(MongoDocuments(self._work), projection.derive, projection.TAKES)

    async def ensure_indexes(self) -> None:
        """Each queue is one agency's, by status, and sorted by when it is due or was assigned; so is the text index."""
        await self._work.create_indexes(
            [
                IndexModel([("agency", ASCENDING), ("status", ASCENDING), ("due_at", ASCENDING), ("_id", ASCENDING)]),
                IndexModel([("agency", ASCENDING), ("due_at", ASCENDING), ("_id", ASCENDING)]),
                IndexModel([("agency", ASCENDING), ("assigned_at", ASCENDING), ("_id", ASCENDING)]),
                IndexModel([("number", ASCENDING)]),
                IndexModel([("status", ASCENDING)]),
                IndexModel(
                    [("agency", ASCENDING), ("title", "text"), ("description", "text")],
                    default_language="none",
                    name="words",
                ),
            ]
        )

    async def find(self, complaint_id: str) -> Document | None:
        """One complaint's work, whichever agency has it."""
        return await self._by_id.get(complaint_id)

    async def queue(
        self,
        agency: str,
        *,
        status: Status | None = None,
        category: str | None = None,
        district: str | None = None,
        due_before: datetime | None = None,
        text: str | None = None,
        sort: str = "due_at",
        limit: int = 20,
        cursor: str | None = None,
    ) -> tuple[list[Document], str | None]:
        """One page of an agency's work, and the next page's cursor. ``text`` is how a number begins, or words
        that title and description have all of."""
        query: dict[str, Any] = {"agency": agency}
        exact: Mapping[str, Any] = {"status": status, "category": category, "district": district}
        query |= {name: value for name, value in exact.items() if value is not None}
        if due_before:
            query["due_at"] = {"$lt": due_before}
        if text:
            query |= written(text)
        return await page(self._work, query, sort, limit, cursor)

    async def count_by_status(self) -> dict[str, int]:
        """How many complaints are in each status, for the metrics."""
        return {s.value: await self._work.count_documents({"status": s}) for s in Status}
