"""The operators' queues, the case file, the moves of the central and regional desks, and the coordinator's view."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, Field

from services.routing import desk as desk_
from services.routing.agency_store import AgencyStore
from services.routing.store import CaseStore, Search
from shared.access import holding, may_see
from shared.auth import Principal
from shared.calendar import Deadline, Deadlines, due_at
from shared.case import Case
from shared.desk import Moved, actor, carry_out, chronicle
from shared.events import Agency, Photo, Report, now
from shared.http import Cursor, Limit, Once, any_of, invalid, not_found
from shared.journal import Journal
from shared.projection import Document, history
from shared.sop import HOLDER, Desk, Role, Status, Transition

Central = Annotated[Principal, any_of(Role.CENTRAL_OPERATOR)]
Regional = Annotated[Principal, any_of(Role.REGIONAL_OPERATOR)]
Assigner = Annotated[Principal, any_of(Role.REGIONAL_OPERATOR, Role.COORDINATOR)]
Coordinator = Annotated[Principal, any_of(Role.COORDINATOR)]
Reader = Annotated[Principal, any_of(Role.CENTRAL_OPERATOR, Role.REGIONAL_OPERATOR, Role.COORDINATOR)]
Sort = Literal["due_at", "-due_at", "submitted_at", "-submitted_at"]


class CaseRow(BaseModel):
    """One row of a queue. ``due_at`` is when the step that runs now is due; ``alarm`` the SLA service's last word on
    it."""

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
    alarm: str | None = Field(examples=["sla.warned"])
    allowed: list[Transition] = Field(description="the moves that you can make now")


class CasePage(BaseModel):
    """One page of a queue; ``next`` is the cursor of the next, null at the end."""

    items: list[CaseRow]
    next: str | None


class SuggestedAgency(BaseModel):
    code: str
    name: str


class CaseFile(CaseRow):
    """The whole case. The reporter's data are at intake: ``POST /v1/complaints/{id}/reporter`` there."""

    seq: int
    report: Report
    unit: str | None
    declined_by: list[str]
    evidence: list[Photo]
    evidence_note: str
    suggested_agencies: list[SuggestedAgency] = Field(description="active agencies that serve the category")
    history: list[dict[str, Any]] = Field(description="the events of the case, oldest first")


class Forward(BaseModel):
    analysis: str = Field(min_length=10, max_length=5000, examples=["Lengkap dan jelas; kewenangan kota."])


class Return(BaseModel):
    reason: Literal["incomplete", "outside_authority"]
    explanation: str = Field(
        min_length=10,
        max_length=2000,
        description="what is missing, or who is competent; the citizen reads it",
        examples=["Mohon lengkapi nama jalan dan patokan terdekat."],
    )


class Assign(BaseModel):
    agency: str = Field(max_length=20, examples=["DPUPR"])
    considerations: str = Field(min_length=10, max_length=5000, description="of the PPM team")


class Rework(BaseModel):
    reason: str = Field(min_length=10, max_length=2000, examples=["Foto tidak menunjukkan lokasi yang dilaporkan."])


class Record(BaseModel):
    note: str = Field(min_length=3, max_length=2000, examples=["Bukti sesuai dengan laporan."])


class Informed(BaseModel):
    """Something the coordinator was told (SOP steps 3 and 5)."""

    at: datetime
    event: str
    seq: int


class InformedCase(BaseModel):
    complaint_id: str
    number: str
    title: str
    status: Status
    agency: str | None
    informed: list[Informed]


class InformedPage(BaseModel):
    items: list[InformedCase]
    next: str | None


class Summary(BaseModel):
    """The coordinator's figures: cases by status, those past their time by status, and open cases by agency."""

    by_status: dict[str, int]
    overdue_by_status: dict[str, int]
    open_by_agency: dict[str, int]


def router(cases: CaseStore, agencies: AgencyStore, journal: Journal, deadlines: Deadlines) -> APIRouter:
    """The routes about cases."""
    api = APIRouter(prefix="/v1", tags=["cases"])

    async def seen(complaint_id: str, principal: Principal) -> Document:
        document = await cases.find(complaint_id)
        if document is None or document["title"] is None or not may_see(Case.of_document(document), principal):
            raise not_found()
        return document

    async def move(complaint_id: str, principal: Principal, decide: Any, once: Once) -> Moved:
        return await carry_out(journal, lambda key: seen(key, principal), complaint_id, principal, decide, once)

    @api.get("/cases", summary="Queues and search")
    async def queue(
        principal: Reader,
        desk: Annotated[Literal["central", "regional", "coordinator"] | None, Query(description="whose queue")] = None,
        status: Status | None = None,
        category: str | None = None,
        district: str | None = None,
        agency: str | None = None,
        age: Annotated[str | None, Query(description="submitted longer ago than this, such as 3d or 12h")] = None,
        overdue: Annotated[bool, Query(description="only what is past its time")] = False,
        due_before: AwareDatetime | None = None,
        q: Annotated[
            str | None, Query(min_length=2, max_length=100, description="words of the report, or a number")
        ] = None,
        sort: Sort = "due_at",
        limit: Limit = 20,
        cursor: Cursor = None,
    ) -> CasePage:
        roles = {
            "central": Role.CENTRAL_OPERATOR,
            "regional": Role.REGIONAL_OPERATOR,
            "coordinator": Role.COORDINATOR,
        }
        search = Search(
            desk=roles[desk] if desk else None,
            status=status,
            category=category,
            district=district,
            agency=agency,
            submitted_before=_before(age) if age else None,
            due_before=now() if overdue else due_before,
            text=q,
        )
        found, following = await cases.queue(search, _visible(principal), sort, limit, cursor)
        return CasePage(items=[CaseRow(**_row(d, principal.role)) for d in found if d["title"]], next=following)

    @api.get("/cases/{complaint_id}", summary="The case file")
    async def show(complaint_id: str, principal: Reader) -> CaseFile:
        document = await seen(complaint_id, principal)
        case = Case.of_document(document)
        suggested = await agencies.for_category(document["category"])
        return CaseFile(
            **_row(document, principal.role),
            seq=case.seq,
            report=case.report,
            unit=case.unit,
            declined_by=list(case.declined_by),
            evidence=list(case.evidence),
            evidence_note=case.evidence_note,
            suggested_agencies=[SuggestedAgency(code=a["_id"], name=a["name"]) for a in suggested],
            history=chronicle(history(document)),
        )

    @api.post("/cases/{complaint_id}/forward", summary="Pass it on with your analysis (SOP step 2)", status_code=201)
    async def forward(complaint_id: str, body: Forward, principal: Central, once: Once) -> Moved:
        return await move(
            complaint_id, principal, lambda case: desk_.forward(case, actor(principal), now(), body.analysis), once
        )

    @api.post("/cases/{complaint_id}/return", summary='Back to the citizen (SOP step 3 "No")', status_code=201)
    async def return_(complaint_id: str, body: Return, principal: Regional, once: Once) -> Moved:
        return await move(
            complaint_id,
            principal,
            lambda case: desk_.return_(case, actor(principal), now(), body.reason, body.explanation),
            once,
        )

    @api.post("/cases/{complaint_id}/assign", summary='To an agency (SOP step 3 "Yes")', status_code=201)
    async def assign(complaint_id: str, body: Assign, principal: Assigner, once: Once) -> Moved:
        found = await agencies.find(body.agency)
        if found is None or not found["active"]:
            raise invalid(
                "body.agency", "There is no such active agency; GET /v1/agencies lists them.", "OPD tidak dikenal."
            )
        agency = Agency(code=found["_id"], name=found["name"])

        def decide(case: Case) -> Any:
            return desk_.assign(case, actor(principal), now(), agency, body.considerations, deadlines)

        document = await seen(complaint_id, principal)
        if principal.role is Role.REGIONAL_OPERATOR and body.agency in Case.of_document(document).declined_by:
            raise invalid(
                "body.agency", "This agency has just declined the case; choose another.", "OPD ini baru saja menolak."
            )
        return await move(complaint_id, principal, decide, once)

    @api.post("/cases/{complaint_id}/rework", summary="The evidence does not do: say why", status_code=201)
    async def rework(complaint_id: str, body: Rework, principal: Regional, once: Once) -> Moved:
        return await move(
            complaint_id,
            principal,
            lambda case: desk_.request_rework(case, actor(principal), now(), body.reason, deadlines),
            once,
        )

    @api.post("/cases/{complaint_id}/document", summary="Record the evidence (SOP step 5)", status_code=201)
    async def document(complaint_id: str, body: Record, principal: Regional, once: Once) -> Moved:
        return await move(
            complaint_id, principal, lambda case: desk_.document(case, actor(principal), now(), body.note), once
        )

    @api.get("/informed", summary="What the coordinator was told, latest first")
    async def informed(principal: Coordinator, limit: Limit = 20, cursor: Cursor = None) -> InformedPage:
        found, following = await cases.informed(limit, cursor)
        fields = ("number", "title", "status", "agency", "informed")
        rows = [{"complaint_id": d["_id"], **{name: d[name] for name in fields}} for d in found if d["title"]]
        return InformedPage(items=[InformedCase.model_validate(row) for row in rows], next=following)

    @api.get("/summary", summary="The coordinator's figures")
    async def summary(principal: Coordinator) -> Summary:
        return Summary(
            by_status=await cases.count_by_status(),
            overdue_by_status=await cases.overdue_by_status(now()),
            open_by_agency=await cases.open_by_agency(),
        )

    return api


def _before(age: str) -> datetime:
    """The moment so long ago. Raises 422."""
    try:
        length = Deadline.parse(age)
    except ValueError as error:
        raise invalid("query.age", str(error)) from None
    moment = now()
    return moment - (due_at(moment, length) - moment)


def _visible(principal: Principal) -> Mapping[str, Any]:
    """What of all cases the caller's queues may show: `may_see` as a query."""
    if principal.role is Role.COORDINATOR:
        return {}
    held = [status.value for status in holding(principal.role)]
    return {"$or": [{"visibility": {"$ne": "rahasia"}}, {"status": {"$in": held}}]}


def _row(document: Document, role: Role) -> dict[str, Any]:
    case = Case.of_document(document)
    assert case.status is not None
    fields = ("number", "status", "title", "category", "district", "agency", "visibility", "submitted_at", "moved_at")
    due = document["due_at"]
    return {
        "complaint_id": document["_id"],
        **{name: document[name] for name in fields},
        "holder": HOLDER[case.status],
        "due_at": due,
        "overdue": due is not None and due < now(),
        "alarm": document["alarm"],
        "allowed": case.allowed(role),
    }
