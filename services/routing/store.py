"""The collection ``cases``, its indexes, and the queries of the operators' queues and the coordinator's view."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.routing import projection
from services.routing.projection import STAGES
from shared.calendar import Deadlines
from shared.projection import Document, Projection
from shared.queries import ANY_TIME, BEGINNING, Walk, count_by_status, has_all, page, set_indexes, sparsest
from shared.sop import Role, Status, clock_of
from shared.storage import ASCENDING, DESCENDING, Database, IndexModel, MongoDocuments, by_id
from shared.words import number_prefix, words_of

_OPEN = [stage for stage, (status, _) in STAGES.items() if status is not Status.CLOSED]
_SORTS = {"due_at": "due", "submitted_at": "submitted", "moved_at": "moved"}
"""By the field that sorts, the index that does."""
_TOLD = frozenset({"stage", "submitted_at", "due_at", "category", "district", "agency", "visibility"})
"""What each of these indexes tells, so that a queue is narrowed without reading the cases that are not wanted."""


@dataclass(frozen=True, slots=True)
class Search:
    """What a queue is narrowed to; None leaves a field open. ``text`` is how a number begins, or words that title and
    description have all of. ``confidential`` are the statuses in which *rahasia* cases may be shown; None: in all."""

    desk: Role | None = None
    status: Status | None = None
    category: str | None = None
    district: str | None = None
    agency: str | None = None
    submitted_before: datetime | None = None
    due_before: datetime | None = None
    text: str | None = None
    confidential: Collection[Status] | None = None

    def stages(self) -> list[str]:
        """The stages in which a case can be."""
        return [
            stage
            for stage, (status, desk) in STAGES.items()
            if (self.status in (None, status))
            and (self.desk in (None, desk))
            and (self.due_before is None or _timed(status))
        ]


def _timed(status: Status) -> bool:
    """Whether somebody can be late in this status."""
    rule = clock_of(status)
    return rule is not None and not rule.lapses


class CaseStore:
    """All cases."""

    def __init__(self, database: Database, deadlines: Deadlines) -> None:
        self._cases = database["cases"]
        self._by_id = by_id(self._cases)
        self.projection = Projection(MongoDocuments(self._cases), projection.deriving(deadlines), projection.TAKES)

    async def ensure_indexes(self) -> None:
        """One index for each way to sort, by stage: a queue is a few stages of it. The words' keys do not change when a
        case moves, and only what somebody can be late with is in the index of due dates."""
        await set_indexes(
            self._cases,
            [
                *(
                    IndexModel(
                        [(name, ASCENDING) for name in ("stage", by, "_id", *sorted(_TOLD - {"stage", by}))],
                        name=index,
                        **({"partialFilterExpression": {by: ANY_TIME}} if by == "due_at" else {}),
                    )
                    for by, index in _SORTS.items()
                ),
                IndexModel([("words", ASCENDING), ("submitted_at", ASCENDING), ("_id", ASCENDING)], name="words"),
                IndexModel([("number", ASCENDING), ("_id", ASCENDING)], name="number"),
                IndexModel(
                    [("informed_at", DESCENDING), ("_id", DESCENDING)],
                    name="informed",
                    partialFilterExpression={"informed_at": ANY_TIME},
                ),
            ],
        )

    async def find(self, complaint_id: str) -> Document | None:
        """One case."""
        return await self._by_id.get(complaint_id)

    async def queue(
        self, search: Search, sort: str, limit: int, cursor: str | None
    ) -> tuple[list[Document], str | None]:
        """One page of the cases that match, and the next page's cursor.

        ``sort`` is ``due_at``, ``submitted_at`` or ``moved_at``, with ``-`` before it for descending. What words find
        is sorted by ``submitted_at`` only, and what the beginning of a number finds by number, whatever ``sort`` says.
        """
        stages = search.stages()
        if not stages:
            return [], None
        if search.text:
            return await page(self._cases, await self._found(search, stages, sort, cursor), limit, cursor)
        by = sort.removeprefix("-")
        within, picks = _narrowed(search, stages, by)
        walk = Walk(
            index=_SORTS[by],
            by=by,
            among={"stage": {"$in": stages}},
            within=within,
            descending=sort.startswith("-"),
            picks=picks,
            told=True,
        )
        return await page(self._cases, walk, limit, cursor)

    async def _found(self, search: Search, stages: list[str], sort: str, cursor: str | None) -> Walk:
        """The walk by which a text is found: along the rarest of its words, or along the stages."""
        within, picks = _narrowed(search, stages, "submitted_at")
        prefix = number_prefix(search.text or "")
        narrowed = picks if len(stages) == len(STAGES) else [{"stage": {"$in": stages}}, *picks]
        if prefix:
            if search.submitted_before:
                narrowed = [{"submitted_at": within}, *narrowed]
            return Walk("number", "number", within={"$gte": prefix, "$lt": f"{prefix}\uffff"}, picks=narrowed)
        words = words_of(search.text or "")
        descending = sort.startswith("-")
        walks = []
        for word in words:
            others = has_all("words", [other for other in words if other != word])
            walks.append(Walk("words", "submitted_at", {"words": word}, within, descending, [*others, *narrowed]))
        if len(stages) < len(STAGES):
            among = {"stage": {"$in": stages}}
            picked = [*has_all("words", words), *picks]
            walks.append(Walk("submitted", "submitted_at", among, within, descending, picked))
        return await sparsest(self._cases, walks, cursor)

    async def informed(self, limit: int, cursor: str | None) -> tuple[list[Document], str | None]:
        """Cases that the coordinator was told of, the latest first."""
        return await page(self._cases, Walk("informed", "informed_at", descending=True), limit, cursor)

    async def count_by_status(self) -> dict[str, int]:
        """How many cases are in each status."""
        counts = await count_by_status(self._cases, STAGES, "moved", "stage")
        return {s.value: sum(counts[stage] for stage in STAGES if STAGES[stage][0] is s) for s in Status}

    async def open_by_agency(self) -> dict[str, int]:
        """How many open cases each agency has."""
        counted = self._cases.aggregate(
            [
                {"$match": {"stage": {"$in": _OPEN}, "agency": {"$gt": ""}}},
                {"$group": {"_id": "$agency", "cases": {"$sum": 1}}},
                {"$sort": {"_id": ASCENDING}},
            ],
            hint="moved",
        )
        return {row["_id"]: row["cases"] async for row in counted}

    async def oldest_open(self) -> datetime | None:
        """When the oldest open case was submitted; None if no case is open."""
        open_cases = self._cases.find({"stage": {"$in": _OPEN}, "submitted_at": ANY_TIME}, {"submitted_at": 1})
        oldest = await open_cases.sort("submitted_at", ASCENDING).hint("submitted").limit(1).to_list(1)
        return oldest[0]["submitted_at"] if oldest else None

    async def overdue_by_status(self, at: datetime) -> dict[str, int]:
        """How many open cases are past their time, by status."""
        late = {"due_at": {"$gt": BEGINNING, "$lt": at}}
        counts = {stage: await self._cases.count_documents({"stage": stage, **late}, hint="due") for stage in _OPEN}
        statuses = [status for status in Status if status is not Status.CLOSED]
        return {s.value: sum(counts[stage] for stage in _OPEN if STAGES[stage][0] is s) for s in statuses}


def _narrowed(search: Search, stages: Collection[str], by: str) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """The range of the field that sorts, and the conditions on the others but for the stage."""
    before = {"submitted_at": search.submitted_before, "due_at": search.due_before}
    limits = {name: {**ANY_TIME, "$lt": moment} for name, moment in before.items() if moment}
    exact = {"category": search.category, "district": search.district, "agency": search.agency}
    picks: list[Mapping[str, Any]] = [{name: value} for name, value in exact.items() if value is not None]
    picks += [{name: limit} for name, limit in limits.items() if name != by]
    if search.confidential is not None:
        shown = [stage for stage in stages if STAGES[stage][0] in search.confidential]
        if len(shown) < len(stages):
            picks.append({"$or": [{"visibility": {"$ne": "rahasia"}}, {"stage": {"$in": shown}}]})
    return limits.get(by, ANY_TIME), picks
