"""The sla service's collection ``clocks``, its indexes, and the queries of its API, its ticker and its metrics."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from services.sla import projection
from services.sla.clocks import State
from services.sla.desk import Rules
from shared.projection import Document, Projection
from shared.sop import CLOCKS, Clock, Status
from shared.storage import ASCENDING, Database, IndexModel, MongoDocuments, page

ANSWERED_FOR = tuple(clock for clock, rule in CLOCKS.items() if not rule.lapses)
"""The clocks that somebody can be late with."""


class ClockStore:
    """The clocks of all complaints."""

    def __init__(self, database: Database, rules: Rules) -> None:
        self._clocks = database["clocks"]
        self.projection = Projection(MongoDocuments(self._clocks), projection.deriving(rules), projection.TAKES)

    async def ensure_indexes(self) -> None:
        """What runs is found by its due date, alarms by their moment, verdicts by when their clocks were started."""
        await self._clocks.create_indexes(
            [
                _partial("next_alarm_at"),
                _partial("next_due_at", "_id"),
                *(_partial(f"due.{clock}", "_id", f"warn.{clock}", "agency") for clock in ANSWERED_FOR),
                _partial(f"due.{Clock.FOLLOW_UP}", "_id", first="agency"),
                IndexModel([("clocks.opened_at", ASCENDING)]),
                IndexModel([("status", ASCENDING)]),
            ]
        )

    async def find(self, complaint_id: str) -> Document | None:
        """One complaint's clocks."""
        return await self._clocks.find_one({"_id": complaint_id}, {"history": False})

    async def find_all(self, complaint_ids: Collection[str]) -> list[Document]:
        """The clocks of several complaints."""
        found = self._clocks.find({"_id": {"$in": list(complaint_ids)}}, {"history": False})
        return await found.to_list(None)

    async def alarming(self, until: datetime, limit: int) -> list[Document]:
        """Complaints with an alarm due at ``until``, longest waiting first, with their events."""
        found = self._clocks.find({"next_alarm_at": {"$lte": until}}).sort("next_alarm_at", ASCENDING).limit(limit)
        return await found.to_list(limit)

    async def due(
        self,
        clocks: Sequence[Clock],
        *,
        before: datetime,
        after: datetime | None = None,
        agency: str | None = None,
        district: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> tuple[list[Document], str | None]:
        """One page of the complaints of which one of ``clocks`` runs and is due from ``after`` until ``before``, by due
        date. ``agency`` is the code of the one that has it."""
        window = {"$lt": before} if after is None else {"$gte": after, "$lt": before}
        wanted = [{f"due.{clock}": window} for clock in clocks]
        query: dict[str, Any] = {"agency": agency, "district": district}
        query = {name: value for name, value in query.items() if value is not None}
        if len(clocks) == 1:
            return await page(self._clocks, query | wanted[0], f"due.{clocks[0]}", limit, cursor)
        query |= {"next_due_at": {"$lt": before}, "$or": wanted}
        return await page(self._clocks, query, "next_due_at", limit, cursor)

    async def count_running(self, at: datetime) -> list[tuple[Clock, str | None, str, int]]:
        """Of each clock and agency (None where no agency answers), how many are running, warned and overdue."""
        counts = []
        for clock in ANSWERED_FOR:
            due, warn = f"$due.{clock}", f"$warn.{clock}"
            late = {"case": {"$lt": [due, at]}, "then": State.OVERDUE}
            near = {"case": {"$lt": [warn, at]}, "then": State.WARNED}
            stage = {"$switch": {"branches": [late, near], "default": State.RUNNING}}
            of_agency = "$agency" if clock is Clock.FOLLOW_UP else None
            groups = self._clocks.aggregate(
                [
                    {"$match": {f"due.{clock}": {"$gt": datetime.min.replace(tzinfo=at.tzinfo)}}},
                    {"$group": {"_id": {"agency": of_agency, "state": stage}, "count": {"$sum": 1}}},
                ]
            )
            counts += [(clock, g["_id"].get("agency"), g["_id"]["state"], g["count"]) async for g in groups]
        return counts

    async def compliance(self, since: datetime, until: datetime, at: datetime) -> list[Document]:
        """Of the clocks started in the period, per clock and agency: how many were stopped in time (``in_time``) and
        ``late``, and how many run, ``overdue`` or not (``running``)."""
        period = {"$gte": since, "$lt": until}
        stopped = {"$ne": ["$clocks.stopped_at", None]}
        late = {"$gt": [{"$ifNull": ["$clocks.stopped_at", at]}, "$clocks.due_at"]}

        def count(*conditions: Any) -> dict[str, Any]:
            return {"$sum": {"$cond": [{"$and": list(conditions)}, 1, 0]}}

        groups = self._clocks.aggregate(
            [
                {"$match": {"clocks": {"$elemMatch": {"opened_at": period}}}},
                {"$project": {"clocks": 1}},
                {"$unwind": "$clocks"},
                {"$match": {"clocks.opened_at": period, "clocks.lapses": False}},
                {
                    "$group": {
                        "_id": {"clock": "$clocks.clock", "agency": "$clocks.agency"},
                        "in_time": count(stopped, {"$not": [late]}),
                        "late": count(stopped, late),
                        "running": count({"$not": [stopped]}, {"$not": [late]}),
                        "overdue": count({"$not": [stopped]}, late),
                    }
                },
            ]
        )
        return await groups.to_list(None)

    async def count_by_status(self) -> dict[str, int]:
        """How many complaints are in each status, for the metrics."""
        return {s.value: await self._clocks.count_documents({"status": s}) for s in Status}


def _partial(name: str, *others: str, first: str | None = None) -> IndexModel:
    """An index of the documents that have the field ``name``."""
    fields = [*([first] if first else []), name, *others]
    return IndexModel([(field, ASCENDING) for field in fields], partialFilterExpression={name: {"$exists": True}})
