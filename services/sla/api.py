"""The sla service over HTTP: what is overdue, what will be soon, one complaint's clocks, and how well the times are
kept."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from services.sla.clocks import State, state
from services.sla.store import ANSWERED_FOR, ClockStore, TooMuch
from shared.access import may_see
from shared.auth import Principal
from shared.case import Case
from shared.direct import Direct
from shared.events import now
from shared.http import Cursor, Limit, Moment, any_of, invalid, not_found
from shared.projection import Document
from shared.sop import CLOCKS, Clock, Role, Status
from shared.visibility import cut, viewer_of

_OPERATORS = (Role.CENTRAL_OPERATOR, Role.REGIONAL_OPERATOR, Role.AGENCY_OPERATOR)
_LONGEST = timedelta(days=366)

Staff = Annotated[Principal, any_of(Role.COORDINATOR, *_OPERATORS)]
Overseer = Annotated[Principal, any_of(Role.COORDINATOR, Role.ADMIN)]
Step = Annotated[int | None, Query(ge=1, le=6, description="the SOP's number of the step")]
AgencyCode = Annotated[str | None, Query(max_length=40, description="code of the agency that has the complaint")]
District = Annotated[str | None, Query(max_length=100, description="kecamatan")]


class ClockView(BaseModel):
    """One run of a clock. With one that ``lapses`` nobody is late: it ends the citizen's time, and the complaint."""

    clock: Clock
    step: int | None = Field(description="the SOP's number; null beyond the SOP")
    seq: int = Field(description="of the event that started it")
    responsible: Role
    agency: str | None = Field(description="code of the agency that answers for it, if one does")
    lapses: bool
    opened_at: datetime
    warn_at: datetime
    due_at: datetime
    stopped_at: datetime | None
    state: State


class ComplaintClocks(BaseModel):
    """A complaint and clocks of it. ``due_at``, which lists are sorted by, is the earliest of those that run."""

    complaint_id: str
    number: str
    status: Status | None
    agency: str | None
    district: str | None
    due_at: datetime | None
    clocks: list[ClockView]


class ClocksPage(BaseModel):
    """One page; ``next`` is the cursor of the next, null at the end. A page may hold fewer rows than asked for, or
    none, and yet have a next one: where what is wanted is rare, each page looks at a part only."""

    items: list[ComplaintClocks]
    next: str | None


class Compliance(BaseModel):
    """How well one step keeps its time, for one agency where agencies answer for it. ``share_in_time`` is of those that
    were stopped or are overdue; null if there are none."""

    step: int | None
    clock: Clock
    agency: str | None
    in_time: int
    late: int
    running: int
    overdue: int
    share_in_time: float | None = Field(ge=0, le=1)


class ComplianceReport(BaseModel):
    """The clocks that were started from ``since`` until ``until``."""

    since: datetime
    until: datetime
    rows: list[Compliance]


def router(clocks: ClockStore) -> APIRouter:
    """The routes of the sla service."""
    api = APIRouter(prefix="/v1", tags=["clocks"], route_class=Direct)

    @api.get("/overdue", summary="Past its due date and still open: for operators those of their own step and agency")
    async def overdue(
        principal: Staff,
        step: Step = None,
        agency: AgencyCode = None,
        district: District = None,
        limit: Limit = 20,
        cursor: Cursor = None,
    ) -> ClocksPage:
        at = now()
        return await _page(clocks, principal, at, None, at, step, agency, district, limit, cursor)

    @api.get("/due-soon", summary="Due within some hours, and not overdue")
    async def due_soon(
        principal: Staff,
        hours: Annotated[float, Query(gt=0, le=24 * 31, description="how far to look ahead")] = 24,
        step: Step = None,
        agency: AgencyCode = None,
        district: District = None,
        limit: Limit = 20,
        cursor: Cursor = None,
    ) -> ClocksPage:
        at = now()
        until = at + timedelta(hours=hours)
        return await _page(clocks, principal, at, at, until, step, agency, district, limit, cursor)

    @api.get("/complaints/{complaint_id}/clocks", summary="All clocks of one complaint; an agency sees its own")
    async def show(complaint_id: str, principal: Staff) -> ComplaintClocks:
        document = await clocks.find(complaint_id)
        if document is None or not may_see(Case.of_document(document), principal):
            raise not_found()
        found = document["clocks"]
        if principal.role is Role.AGENCY_OPERATOR:
            found = [clock for clock in found if clock["agency"] == principal.agency]
        return _complaint(document, found, principal.role, now())

    @api.get("/compliance", summary="Per step and agency: in time, late, running and overdue, in a period")
    async def compliance(
        _: Overseer,
        since: Annotated[Moment | None, Query(description="30 days before `until` if not given")] = None,
        until: Annotated[Moment | None, Query(description="now if not given")] = None,
    ) -> ComplianceReport:
        at = now()
        end = until or at
        start = since or end - timedelta(days=30)
        if not timedelta() < end - start <= _LONGEST:
            raise invalid("query.since", f"It has to be before `until`, by {_LONGEST.days} days at most.")
        try:
            rows = [_compliance(row) for row in await clocks.compliance(start, end, at)]
        except TooMuch:
            raise invalid("query.since", "Too many clocks were started in this period: choose a shorter one.") from None
        return ComplianceReport(since=start, until=end, rows=sorted(rows, key=lambda r: (r.step or 0, r.agency or "")))

    return api


def _scope(principal: Principal, step: int | None) -> list[Clock]:
    """The clocks that the caller watches: their own step's, or all."""
    return [
        clock
        for clock in ANSWERED_FOR
        if (step is None or CLOCKS[clock].step == step)
        and (principal.role is Role.COORDINATOR or CLOCKS[clock].role is principal.role)
    ]


async def _page(
    clocks: ClockStore,
    principal: Principal,
    at: datetime,
    after: datetime | None,
    before: datetime,
    step: int | None,
    agency: str | None,
    district: str | None,
    limit: int,
    cursor: str | None,
) -> ClocksPage:
    scope = _scope(principal, step)
    if principal.role is Role.AGENCY_OPERATOR:
        own = principal.agency or ""
        if agency not in (None, own):
            return ClocksPage(items=[], next=None)
        agency = own
    if not scope:
        return ClocksPage(items=[], next=None)
    found, following = await clocks.due(
        scope, before=before, after=after, agency=agency, district=district, limit=limit, cursor=cursor
    )
    shown = [(document, [c for c in document["clocks"] if _within(c, scope, after, before)]) for document in found]
    return ClocksPage(
        items=[_complaint(document, part, principal.role, at) for document, part in shown], next=following
    )


def _within(clock: Document, scope: Sequence[Clock], after: datetime | None, before: datetime) -> bool:
    return (
        clock["stopped_at"] is None
        and clock["clock"] in scope
        and clock["due_at"] < before
        and (after is None or clock["due_at"] >= after)
    )


def _complaint(document: Document, found: Sequence[Document], role: Role, at: datetime) -> ComplaintClocks:
    running = [clock["due_at"] for clock in found if clock["stopped_at"] is None]
    fields = {
        "complaint_id": document["_id"],
        **{name: document[name] for name in ("number", "status", "agency", "district")},
        "due_at": min(running, default=None),
        "clocks": [_clock(clock, at) for clock in found],
    }
    return ComplaintClocks(**cut(viewer_of(role), None, fields))


def _clock(clock: Document, at: datetime) -> ClockView:
    return ClockView(**clock, state=state(clock["warn_at"], clock["due_at"], clock["stopped_at"], at))


def _compliance(row: dict[str, Any]) -> Compliance:
    clock = Clock(row["_id"]["clock"])
    counts = {name: row[name] for name in ("in_time", "late", "running", "overdue")}
    judged = counts["in_time"] + counts["late"] + counts["overdue"]
    return Compliance(
        step=CLOCKS[clock].step,
        clock=clock,
        agency=row["_id"].get("agency"),
        share_in_time=counts["in_time"] / judged if judged else None,
        **counts,
    )
