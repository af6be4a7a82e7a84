"""The opd service's collection ``work``, its indexes, and the queries of its API."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from services.opd import projection
from shared.projection import Document, Projection
from shared.queries import ANY_TIME, Walk, count_by_status, has_all, open_index, page, set_indexes, sparsest
from shared.sop import CLOCKS, Clock, Status
from shared.storage import ASCENDING, Database, IndexModel, MongoDocuments, by_id
from shared.words import number_prefix, words_of

_SORTS = {"due_at": "due", "assigned_at": "assigned"}
"""By the field that sorts, the index that does."""
_TOLD = frozenset({"assigned_at", "due_at", "category", "district"})
"""What each of these indexes tells, so that a queue is narrowed without reading the work that is not wanted."""
_DUE = CLOCKS[Clock.FOLLOW_UP].statuses
"""The statuses in which the agency's time runs."""


class WorkStore:
    """The agencies' work."""

    def __init__(self, database: Database) -> None:
        self._work = database["work"]
        self._by_id = by_id(self._work)
        self.projection = Projection(MongoDocuments(self._work), projection.derive, projection.TAKES)

    async def ensure_indexes(self) -> None:
        """Every index that a queue is read by begins with the agency: one reads nothing of the others'."""
        await set_indexes(
            self._work,
            [
                *(
                    IndexModel(
                        [(name, ASCENDING) for name in ("agency", "status", by, "_id", *sorted(_TOLD - {by}))],
                        name=index,
                        **({"partialFilterExpression": {by: ANY_TIME}} if by == "due_at" else {}),
                    )
                    for by, index in _SORTS.items()
                ),
                IndexModel([(name, ASCENDING) for name in ("agency", "words", "assigned_at", "_id")], name="words"),
                IndexModel([(name, ASCENDING) for name in ("agency", "number", "_id")], name="number"),
                open_index(),
            ],
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
        """One page of an agency's work, and the next page's cursor.

        ``sort`` is ``due_at`` or ``assigned_at``, with ``-`` before it for descending. ``text`` is how a number begins,
        or words that title and description have all of; what words find is sorted by ``assigned_at`` only, and what a
        number finds by number, whatever ``sort`` says.
        """
        statuses = [s.value for s in Status if status in (None, s) and (due_before is None or s in _DUE)]
        if not statuses:
            return [], None
        exact: Mapping[str, Any] = {"category": category, "district": district}
        picks: list[Mapping[str, Any]] = [{name: value} for name, value in exact.items() if value is not None]
        overdue: Mapping[str, Any] = {**ANY_TIME, "$lt": due_before}
        by, descending = sort.removeprefix("-"), sort.startswith("-")
        if due_before and (text or by != "due_at"):
            picks.append({"due_at": overdue})
        if text:
            walk = await self._found(agency, text, statuses, picks, descending, cursor)
        else:
            walk = Walk(
                index=_SORTS[by],
                by=by,
                among={"agency": agency, "status": {"$in": statuses}},
                within=overdue if due_before and by == "due_at" else ANY_TIME,
                descending=descending,
                picks=picks,
                told=True,
            )
        return await page(self._work, walk, limit, cursor)

    async def _found(
        self,
        agency: str,
        text: str,
        statuses: list[str],
        picks: list[Mapping[str, Any]],
        descending: bool,
        cursor: str | None,
    ) -> Walk:
        """The walk by which a text is found: along the rarest of its words, or along the statuses."""
        narrowed = picks if len(statuses) == len(Status) else [{"status": {"$in": statuses}}, *picks]
        if prefix := number_prefix(text):
            within = {"$gte": prefix, "$lt": f"{prefix}\uffff"}
            return Walk("number", "number", {"agency": agency}, within, picks=narrowed)
        words = words_of(text)
        by = "assigned_at"
        walks = []
        for word in words:
            others = has_all("words", [other for other in words if other != word])
            among = {"agency": agency, "words": word}
            walks.append(Walk("words", by, among, descending=descending, picks=[*others, *narrowed]))
        if len(statuses) < len(Status):
            in_status = {"agency": agency, "status": {"$in": statuses}}
            picked = [*has_all("words", words), *picks]
            walks.append(Walk("assigned", by, in_status, descending=descending, picks=picked))
        return await sparsest(self._work, walks, cursor)

    async def count_by_status(self) -> dict[str, int]:
        """How many complaints are in each status, for the metrics."""
        return await count_by_status(self._work, [status.value for status in Status])
