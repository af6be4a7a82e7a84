"""Intake's complaints and the record of who looked up a reporter: collections, indexes, and the queries of the API."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from services.intake import projection
from shared.calendar import Deadlines
from shared.events import first_id, new_id, now
from shared.projection import Document, Projection
from shared.pseudonyms import NO_PSEUDONYMS, Pseudonyms
from shared.queries import Walk, count_by_status, open_index, page, set_indexes
from shared.sop import Role, Status
from shared.storage import ASCENDING, DESCENDING, Database, IndexModel, MongoDocuments, by_id, remove_some


class ComplaintStore:
    """The citizen's view of complaints."""

    def __init__(self, database: Database, deadlines: Deadlines, pseudonyms: Pseudonyms = NO_PSEUDONYMS) -> None:
        self._database = database
        self._complaints = database["complaints"]
        self._by_id = by_id(self._complaints)
        self._journal = database["journal"]
        derive = projection.deriving(deadlines, pseudonyms)
        self.projection = Projection(MongoDocuments(self._complaints), derive, projection.TAKES)

    async def ensure_indexes(self) -> None:
        """A citizen's list, the number, what lapses; and in the journal, that no two complaints have one number."""
        await set_indexes(
            self._complaints,
            [
                IndexModel([("reporter_id", ASCENDING), ("submitted_at", DESCENDING), ("_id", DESCENDING)], name="own"),
                IndexModel([("number", ASCENDING)], name="number"),
                open_index(),
                IndexModel(
                    [("lapses_at", ASCENDING)],
                    name="lapses",
                    partialFilterExpression={"lapses_at": {"$type": "date"}},
                ),
            ],
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
        exact: Mapping[str, Any] = {"status": status, "category": category}
        picks = [{name: value} for name, value in exact.items() if value is not None]
        walk = Walk("own", "submitted_at", {"reporter_id": reporter_id}, descending=True, picks=picks)
        return await page(self._complaints, walk, limit, cursor)

    async def photos_of(self, reporter_id: str) -> set[str]:
        """The ids of the photos in all that a citizen has reported, corrections included."""
        return await photos_reported(self._database, reporter_id)

    async def lapsed(self, at: datetime, limit: int) -> list[Document]:
        """Up to ``limit`` complaints whose time for the citizen ended before a moment, earliest first."""
        over = {"lapses_at": {"$lt": at, "$type": "date"}}  # as the partial index says it
        found = self._complaints.find(over).sort("lapses_at", ASCENDING).hint("lapses").limit(limit)
        return await found.to_list(limit)

    async def count_by_status(self) -> dict[str, int]:
        """How many complaints are in each status, for the metrics."""
        return await count_by_status(self._complaints, [status.value for status in Status])


async def photos_reported(database: Database, reporter_id: str) -> set[str]:
    """The ids of the photos in all that a citizen has reported, corrections included."""
    own = database["complaints"].find({"reporter_id": reporter_id}, {"history.report.photos.id": 1}, hint="own")
    return {
        photo["id"]
        async for complaint in own
        for event in complaint["history"]
        for photo in event.get("report", {}).get("photos", ())
    }


class AccessStore:
    """Who of the staff looked up a reporter's data, when and why; the citizen can read it."""

    def __init__(self, database: Database) -> None:
        self._accesses = database["identity_accesses"]

    async def ensure_indexes(self) -> None:
        """A citizen's own list, newest first."""
        await self._accesses.create_indexes(
            [IndexModel([("citizen_id", ASCENDING), ("at", DESCENDING), ("_id", DESCENDING)], name="own")]
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

    async def forget_reasons(self, citizen_id: str) -> None:
        """Remove the reasons, in which staff may have written about the citizen; who looked and when stays."""
        await self._accesses.update_many({"citizen_id": citizen_id}, {"$set": {"reason": ""}})

    async def due(self, before: datetime) -> int:
        """How many are older."""
        return await self._accesses.count_documents(_older(before))

    async def remove(self, before: datetime, limit: int) -> int:
        """Remove up to ``limit`` of them; returns how many."""
        return await remove_some(self._accesses, _older(before), "_id", limit)

    async def of_citizen(
        self, citizen_id: str, limit: int, cursor: str | None
    ) -> tuple[Sequence[Document], str | None]:
        """One page of the accesses to a citizen's data, newest first."""
        walk = Walk("own", "at", {"citizen_id": citizen_id}, descending=True)
        return await page(self._accesses, walk, limit, cursor)


def _older(before: datetime) -> dict[str, Any]:
    """Accesses of before a moment. Their ids sort by time, so the ids bound what is looked at."""
    return {"_id": {"$lt": first_id(before)}, "at": {"$lt": before}}
