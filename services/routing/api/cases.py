"""The operators' queues, the case file, and the coordinator's view."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from services.routing.agency_store import AgencyStore
from services.routing.projection import standing_alarms
from services.routing.store import CaseStore, Search
from shared.access import holding, may_see
from shared.auth import Principal
from shared.calendar import Deadline, Deadlines, due_at
from shared.case import Case
from shared.desk import chronicle
from shared.direct import Direct
from shared.events import Agency, Photo, Report, now
from shared.http import Cursor, Limit, Moment, any_of, findable, invalid, not_found
from shared.projection import Document, history
from shared.sop import HOLDER, Clock, Desk, Role, Status, Transition, clock_of
from shared.visibility import cut, viewer_of

Coordinator = Annotated[Principal, any_of(Role.COORDINATOR)]
Reader = Annotated[Principal, any_of(Role.CENTRAL_OPERATOR, Role.REGIONAL_OPERATOR, Role.COORDINATOR)]
Sort = Literal["due_at", "-due_at", "submitted_at", "-submitted_at", "moved_at", "-moved_at"]
Queue = Literal["central", "regional", "coordinator"]
QUEUES: dict[Queue, Role] = {
    "central": Role.CENTRAL_OPERATOR,
    "regional": Role.REGIONAL_OPERATOR,
    "coordinator": Role.COORDINATOR,
}
Alarm = Literal["sla.warned", "sla.breached"]


class CaseRow(BaseModel):
    """One row of a queue. ``due_at`` is when the desk or agency that has the case is due; null while it is the
    citizen's own time. ``alarm`` is the last alarm of that time."""

    complaint_id: str
    number: str
    status: Status
    holder: Desk | None
    title: str
    category: str
    district: str | None
    agency: str | None
    visibility: str
    submitted_at: datetime | None
    moved_at: datetime
    due_at: datetime | None
    overdue: bool
    alarm: Alarm | None
    allowed: list[Transition] = Field(description="the moves that you can make now")


class CasePage(BaseModel):
    """One page of a queue; ``next`` is the cursor of the next, null at the end. A page may hold fewer rows than asked
    for, or none, and yet have a next one: where what is wanted is rare, each page looks at a part only."""

    items: list[CaseRow]
    next: str | None


class PhotoLink(Photo):
    """A photo, and where it is read: ``GET`` the path at the service that holds it, with your own token."""

    path: str


class Running(BaseModel):
    """The time that runs now: an SOP step's, or the citizen's own (``step`` null), after which the case closes."""

    clock: Clock
    step: int | None
    opened_at: datetime | None
    due_at: datetime | None


class StandingAlarm(BaseModel):
    """A warning or breach of a step's time that was not taken back."""

    event: Alarm
    clock: Clock
    agency: str | None
    at: datetime
    due_at: datetime


class Informed(BaseModel):
    """Something the coordinator was told: at assignment and at documentation (SOP steps 3 and 5)."""

    at: datetime
    event: str
    seq: int


class SuggestedAgency(BaseModel):
    code: str
    name: str


class ReporterRequest(BaseModel):
    """Who reported is not said here: ask the service that holds it, which records who asked and why."""

    held_by: Literal["intake"] = "intake"
    method: Literal["POST"] = "POST"
    path: str


class CaseFile(CaseRow):
    """The whole case, as its holder and the coordinator see it."""

    seq: int
    report: Report
    photos: list[PhotoLink] = Field(description="of the report")
    reporter: ReporterRequest | None = Field(description="null for an anonymous report")
    running: Running | None
    alarms: list[StandingAlarm]
    assigned_to: Agency | None
    considerations: str | None = Field(description="of the PPM team, at the last assignment")
    binding: bool = Field(description="assigned by the coordinator: cannot be declined")
    unit: str | None = Field(description="of the agency's secretariat, which follows up")
    declined_by: list[str]
    evidence: list[PhotoLink] = Field(description="of the finished work")
    evidence_note: str
    informed: list[Informed]
    suggested_agencies: list[SuggestedAgency] = Field(description="active agencies that serve the category")
    history: list[dict[str, Any]] = Field(description="the events of the case with progress notes, oldest first")


class InformedCase(BaseModel):
    """A case that the coordinator was told of."""

    complaint_id: str
    number: str
    title: str
    status: Status
    agency: str | None
    informed: list[Informed]


class InformedPage(BaseModel):
    """One page, the latest first; ``next`` is the cursor of the next, null at the end."""

    items: list[InformedCase]
    next: str | None


class Summary(BaseModel):
    """The coordinator's figures: cases by status, those past their time by status, open cases by agency, and when the
    oldest open case was submitted."""

    by_status: dict[str, int]
    overdue_by_status: dict[str, int]
    open_by_agency: dict[str, int]
    oldest_open_at: datetime | None


async def seen(cases: CaseStore, complaint_id: str, principal: Principal) -> tuple[Document, Case]:
    """The case, if the caller may see it: its document and what that says. Raises 404."""
    document = await cases.find(complaint_id)
    case = Case.of_document(document)
    if document is None or document["title"] is None or not may_see(case, principal):
        raise not_found()
    return document, case


def router(cases: CaseStore, agencies: AgencyStore, deadlines: Deadlines) -> APIRouter:
    """The routes that read cases."""
    api = APIRouter(prefix="/v1", tags=["cases"], route_class=Direct)

    @api.get("/cases", summary="Queues and search")
    async def queue(
        principal: Reader,
        desk: Annotated[Queue | None, Query(description="whose queue: what waits for that desk")] = None,
        status: Status | None = None,
        category: str | None = None,
        district: str | None = None,
        agency: str | None = None,
        age: Annotated[str | None, Query(description="submitted longer ago than this", examples=["3d", "12h"])] = None,
        overdue: Annotated[bool, Query(description="only what is past its time")] = False,
        due_before: Moment | None = None,
        q: Annotated[
            str | None, Query(min_length=2, max_length=100, description="words of the report, or how a number begins")
        ] = None,
        sort: Annotated[
            Sort | None,
            Query(
                description="without it what is due first, or outside the queues what moved last; "
                "what `q` finds comes by `-submitted_at` (or `submitted_at`), or for a number by number"
            ),
        ] = None,
        limit: Limit = 20,
        cursor: Cursor = None,
    ) -> CasePage:
        moment = now()
        search = Search(
            desk=QUEUES[desk] if desk else None,
            status=status,
            category=category,
            district=district,
            agency=agency,
            submitted_before=_before(moment, age) if age else None,
            due_before=min(moment, due_before or moment) if overdue else due_before,
            text=findable(q, sort, "submitted_at") if q else None,
            confidential=None if principal.role is Role.COORDINATOR else holding(principal.role),
        )
        usual = "-submitted_at" if q else "due_at" if desk or search.due_before else "-moved_at"
        found, following = await cases.queue(search, sort or usual, limit, cursor)
        rows = [CaseRow(**_row(d, principal.role, moment)) for d in found if d["title"]]
        return CasePage(items=rows, next=following)

    @api.get("/cases/{complaint_id}", summary="The case file")
    async def show(complaint_id: str, principal: Reader) -> CaseFile:
        document, _ = await seen(cases, complaint_id, principal)
        suggested = await agencies.for_category(document["category"])
        return _file(document, principal.role, suggested, deadlines)

    @api.get("/informed", summary="What the coordinator was told, latest first")
    async def informed(principal: Coordinator, limit: Limit = 20, cursor: Cursor = None) -> InformedPage:
        found, following = await cases.informed(limit, cursor)
        rows = [InformedCase(**_told(d, principal.role)) for d in found if d["title"]]
        return InformedPage(items=rows, next=following)

    @api.get("/summary", summary="The coordinator's figures")
    async def summary(_: Coordinator) -> Summary:
        return Summary(
            by_status=await cases.count_by_status(),
            overdue_by_status=await cases.overdue_by_status(now()),
            open_by_agency=await cases.open_by_agency(),
            oldest_open_at=await cases.oldest_open(),
        )

    return api


def _before(moment: datetime, age: str) -> datetime:
    """The moment so long ago. Raises 422."""
    try:
        return moment - (due_at(moment, Deadline.parse(age)) - moment)
    except ValueError as error:
        raise invalid("query.age", str(error)) from None


def _row(document: Document, role: Role, moment: datetime) -> dict[str, Any]:
    case = Case.of_document(document)
    assert case.status is not None, "seen and listed cases have a report"
    fields = ("number", "status", "title", "category", "district", "agency", "visibility", "submitted_at", "moved_at")
    due = document["due_at"]
    row = {
        "complaint_id": document["_id"],
        **{name: document[name] for name in fields},
        "holder": HOLDER[case.status],
        "due_at": due,
        "overdue": due is not None and due < moment,
        "alarm": document["alarm"],
        "allowed": case.allowed(role),
    }
    return cut(viewer_of(role), case, row)


def _told(document: Document, role: Role) -> dict[str, Any]:
    fields = {name: document[name] for name in ("number", "title", "status", "agency", "informed")}
    return cut(viewer_of(role), Case.of_document(document), {"complaint_id": document["_id"], **fields})


def _file(document: Document, role: Role, suggested: list[Document], deadlines: Deadlines) -> CaseFile:
    case, events = Case.of_document(document), history(document)
    assert case.status is not None
    assert case.report is not None
    rule = clock_of(case.status)
    considered = [text for e in events if (text := getattr(e, "considerations", None))]
    at_intake = f"/v1/complaints/{case.complaint_id}"
    fields = {
        "seq": case.seq,
        "report": case.report,
        "photos": _links(case.report.photos, at_intake),
        "reporter": ReporterRequest(path=f"{at_intake}/reporter"),
        "running": Running(clock=rule.clock, step=rule.step, opened_at=case.clock_opened_at, due_at=case.due(deadlines))
        if rule
        else None,
        "alarms": [
            StandingAlarm(
                event=e.topic,
                clock=e.clock,
                agency=e.agency.code if e.agency else None,
                at=e.occurred_at,
                due_at=e.due_at,
            )
            for e in standing_alarms(events)
        ],
        "assigned_to": case.agency,
        "considerations": considered[-1] if considered else None,
        "binding": case.binding,
        "unit": case.unit,
        "declined_by": list(case.declined_by),
        "evidence": _links(case.evidence, f"/v1/work/{case.complaint_id}"),
        "evidence_note": case.evidence_note,
        "informed": [Informed(**told) for told in document["informed"]],
        "suggested_agencies": [SuggestedAgency(code=a["_id"], name=a["name"]) for a in suggested],
        "history": chronicle(events),
    }
    return CaseFile(**_row(document, role, now()), **cut(viewer_of(role), case, fields))


def _links(photos: tuple[Photo, ...], case_path: str) -> list[PhotoLink]:
    return [PhotoLink(**photo.model_dump(), path=f"{case_path}/photos/{photo.id}") for photo in photos]
