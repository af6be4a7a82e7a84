"""The sla service's collection ``clocks``, its indexes, and the queries of its API, its ticker and its metrics."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pymongo.errors import ExecutionTimeout

from services.sla import projection
from services.sla.clocks import State
from services.sla.desk import Rules
from shared.projection import Document, Projection
from shared.queries import BEGINNING, Walk, count_by_status, decoded, encoded, merged, open_index, read, set_indexes
from shared.sop import CLOCKS, Clock, Status
from shared.storage import ASCENDING, Database, IndexModel, MongoDocuments, load

ANSWERED_FOR = tuple(clock for clock, rule in CLOCKS.items() if not rule.lapses)
"""The clocks that somebody can be late with."""
_TOLD = ("agency", "district")
"""What the indexes of due dates tell, so that lists are narrowed without reading what is not wanted."""


class TooMuch(Exception):
    """So many clocks were started in a period that they cannot be counted for one answer; a shorter one can."""


class ClockStore:
    """The clocks of all complaints."""

    def __init__(self, database: Database, rules: Rules) -> None:
        self._clocks = database["clocks"]
        self.projection = Projection(MongoDocuments(self._clocks), projection.deriving(rules), projection.TAKES)

    async def ensure_indexes(self) -> None:
        """What runs is found by its due date, alarms by their moment, verdicts by when their clocks were started."""
        await set_indexes(
            self._clocks,
            [
                _partial("next_alarm_at"),
                *(_partial(f"due.{clock}", "_id", f"warn.{clock}", *_TOLD) for clock in ANSWERED_FOR),
                _partial(f"due.{Clock.FOLLOW_UP}", "_id", "district", first="agency"),
                IndexModel([("clocks.opened_at", ASCENDING)], name="opened"),
                open_index(),
            ],
        )

    async def find(self, complaint_id: str) -> Document | None:
        """One complaint's clocks and events."""
        return await self._clocks.find_one({"_id": complaint_id})

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
        """One page of the complaints of which one of ``clocks`` runs and is due from ``after`` until ``before``, by the
        earliest of these due dates. ``agency`` is the code of the one that has it."""
        window = {"$lt": before, **({"$gt": BEGINNING} if after is None else {"$gte": after})}
        exact = {"agency": agency, "district": district}
        given = {name: value for name, value in exact.items() if value is not None}
        walks = [_walk(clock, window, given) for clock in clocks]
        beyond = decoded(cursor)
        rows, end = merged(await asyncio.gather(*(read(self._clocks, walk, limit, beyond) for walk in walks)), limit)
        ids = [complaint_id for (_, complaint_id), _ in rows]
        found = await load(self._clocks, ids, {"history": 0})
        listed = [
            found[complaint_id]
            for (due_at, complaint_id), _ in rows
            if complaint_id in found and _earliest(found[complaint_id], clocks, after, before) == due_at
        ]
        return listed, encoded(end)

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

    async def compliance(
        self, since: datetime, until: datetime, at: datetime, within: timedelta = timedelta(seconds=10)
    ) -> list[Document]:
        """Of the clocks started in the period, per clock and agency: how many were stopped in time (``in_time``) and
        ``late``, and how many run, ``overdue`` or not (``running``).

        The only query that reads as much as was started; raises `TooMuch` if counting takes longer than ``within``."""
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
            ],
            hint="opened",
            maxTimeMS=max(1, round(within.total_seconds() * 1000)),
        )
        try:
            return await groups.to_list(None)
        except ExecutionTimeout:
            raise TooMuch from None

    async def count_by_status(self) -> dict[str, int]:
        """How many complaints are in each status, for the metrics."""
        return await count_by_status(self._clocks, [status.value for status in Status])


def _walk(clock: Clock, window: Mapping[str, Any], given: Mapping[str, str]) -> Walk:
    """Through the due dates of what one clock runs for, of which the index says all that is asked; an agency's own
    follow-ups have an index of their own."""
    name = f"due.{clock}"
    among = {"agency": given["agency"]} if clock is Clock.FOLLOW_UP and "agency" in given else {}
    picks = [{field: value} for field, value in given.items() if field not in among]
    fields = {"_id": 1, name: 1}
    return Walk(_index(*among, name), name, among, window, picks=picks, told=True, fields=fields)


def _earliest(
    document: Document, clocks: Collection[Clock], after: datetime | None, before: datetime
) -> datetime | None:
    """The first of these clocks' due dates in the time that is asked for: there the complaint is listed, and not again
    at the others."""
    due = [at for clock, at in document["due"].items() if clock in clocks]
    return min((at for at in due if at < before and (after is None or at >= after)), default=None)


def _index(*names: str) -> str:
    return "_".join(names)


def _partial(name: str, *others: str, first: str | None = None) -> IndexModel:
    """An index of the documents that have the field ``name``."""
    fields = [*([first] if first else []), name, *others]
    named = _index(*([first] if first else []), name)
    exists = {name: {"$exists": True}}
    return IndexModel([(field, ASCENDING) for field in fields], name=named, partialFilterExpression=exists)
