"""The notify service's collection ``deliveries``: one document per e-mail, its state, and who works on it.

Several processes share the work. A delivery is *leased*: a process takes it for a time, and what has not been finished
by then goes to another. ``open`` is true until it is sent, failed or skipped.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from prometheus_client import Counter
from pymongo import ReplaceOne, UpdateOne

from services.notify.desk import Finish, Wait
from shared.events import new_id
from shared.projection import Document
from shared.queries import BEGINNING, Walk, page, set_indexes
from shared.storage import ASCENDING, DESCENDING, Database, IndexModel, insert_missing, load

DELIVERIES = Counter("lapor_deliveries_total", "Tries to deliver, by what became of them.", ["channel", "outcome"])
REPORT_GRACE = timedelta(seconds=5)
"""Who finished a delivery reports it; what a crash left unreported, the others take up after this."""


class DeliveryStore:
    """All deliveries of the installation."""

    def __init__(self, database: Database) -> None:
        self._deliveries = database["deliveries"]

    async def ensure_indexes(self) -> None:
        """What is due, what is to be reported, and the operators' views."""
        newest = [("created_at", DESCENDING), ("_id", DESCENDING)]
        await set_indexes(
            self._deliveries,
            [
                IndexModel([("due_at", ASCENDING)], name="due", partialFilterExpression={"open": True}),
                IndexModel([("report_at", ASCENDING)], name="unreported", partialFilterExpression={"reported": False}),
                IndexModel(newest, name="newest"),
                IndexModel([("complaint_id", ASCENDING), *newest], name="complaint"),
                IndexModel([("state", ASCENDING), *newest], name="state"),
            ],
        )

    async def add(self, deliveries: Sequence[Document]) -> list[Document]:
        """Keep the deliveries that are not there yet, and return those."""
        return await insert_missing(self._deliveries, deliveries)

    async def lease(self, limit: int, at: datetime, until: datetime) -> tuple[list[Document], int]:
        """Take up to ``limit`` deliveries that are due, oldest first, for the time until ``until``; and how many of
        them another process had taken and not finished. Of several processes at once, each delivery goes to one."""
        due = {"open": True, "due_at": {"$lte": at}}
        found = await self._deliveries.find(due, {"state": 1}).sort("due_at", ASCENDING).limit(limit).to_list(limit)
        if not found:
            return [], 0
        ids, lease = [d["_id"] for d in found], new_id()
        taken = {"$set": {"state": "sending", "lease": lease, "due_at": until}, "$inc": {"attempts": 1}}
        await self._deliveries.update_many({"_id": {"$in": ids}, **due}, taken)
        leased = await self._deliveries.find({"_id": {"$in": ids}, "lease": lease}).to_list(limit)
        held = {d["_id"] for d in leased}
        return leased, sum(d["state"] == "sending" and d["_id"] in held for d in found)

    async def settle(
        self, results: Sequence[tuple[Document, Finish | Wait]], at: datetime, report_at: datetime
    ) -> None:
        """Write what became of leased deliveries. What was sent is sent, whoever holds the lease now; everything else
        is for the holder to say."""
        writes = []
        for delivery, result in results:
            query: dict[str, Any] = {"_id": delivery["_id"], "open": True}
            if isinstance(result, Finish):
                fields: dict[str, Any] = {"state": result.state, "open": False, "done_at": at, "report_at": report_at}
            else:
                fields = {"state": "pending", "due_at": result.until}
            if not (isinstance(result, Finish) and result.state == "sent"):
                query["lease"] = delivery["lease"]
            writes.append(UpdateOne(query, {"$set": {**fields, "lease": None, "reason": result.reason}}))
        if writes:
            await self._deliveries.bulk_write(writes, ordered=False)

    async def load(self, ids: Collection[str]) -> list[Document]:
        """The deliveries with these ids as they are now."""
        return list((await load(self._deliveries, ids)).values())

    async def unreported(self, at: datetime, limit: int) -> list[Document]:
        """Deliveries whose report is due, longest due first."""
        query = {"reported": False, "report_at": {"$lte": at}}
        return await self._deliveries.find(query).sort("report_at", ASCENDING).limit(limit).to_list(limit)

    async def mark_reported(self, ids: Collection[str]) -> None:
        """The events about these have been issued."""
        if ids:
            await self._deliveries.update_many({"_id": {"$in": list(ids)}}, {"$set": {"reported": True}})

    async def due(self, before: datetime) -> int:
        """How many finished deliveries were made before a moment and not emptied yet."""
        return await self._deliveries.count_documents(_finished(before), hint="newest")

    async def remove(self, before: datetime, limit: int) -> int:
        """Empty up to ``limit`` of them; returns how many. What is left of each is that it was done, and keeps its
        event from being told again."""
        found = self._deliveries.find(_finished(before), {"state": 1}).hint("newest").sort("created_at", ASCENDING)
        done = [
            ReplaceOne({"_id": d["_id"]}, {"open": False, "state": d["state"], "reported": True})
            for d in await found.limit(limit).to_list(limit)
        ]
        return (await self._deliveries.bulk_write(done, ordered=False)).modified_count if done else 0

    async def count_open(self) -> int:
        """How many wait or are being sent, for the metrics."""
        return await self._deliveries.count_documents({"open": True}, hint="due")

    async def find(
        self, complaint_id: str | None, state: str | None, limit: int, cursor: str | None
    ) -> tuple[list[Document], str | None]:
        """One page, newest first, of one complaint and in one state where these are given."""
        walk = Walk("newest", "created_at", descending=True)
        if complaint_id is not None:
            picks = [{"state": state}] if state is not None else []
            walk = Walk("complaint", "created_at", {"complaint_id": complaint_id}, descending=True, picks=picks)
        elif state is not None:
            walk = Walk("state", "created_at", {"state": state}, descending=True)
        return await page(self._deliveries, walk, limit, cursor)


def _finished(before: datetime) -> dict[str, Any]:
    return {"created_at": {"$lt": before, "$gt": BEGINNING}, "open": False, "reported": True}
