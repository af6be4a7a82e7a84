"""The opd service over HTTP: an agency's own queue, its work, and the moves of the agency's operator."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field, StringConstraints

from services.opd import desk
from services.opd.store import WorkStore
from shared.access import may_see
from shared.auth import Principal
from shared.case import Case
from shared.desk import Moved, actor, carry_out, chronicle, state
from shared.direct import Direct
from shared.events import Agency, Assigned, Documented, Event, Photo, ProgressNoted, Report, now
from shared.http import Body, Caller, Cursor, Limit, Once, Problem, any_of, findable, not_found, refused
from shared.journal import Journal
from shared.openapi import PHOTO_ANSWER, PHOTO_BODY
from shared.photos import Photos, Size, serve_photo
from shared.projection import Document, history
from shared.pseudonyms import NO_PSEUDONYMS, Pseudonyms
from shared.sop import Refusal, Role, Status, Transition
from shared.visibility import cut, viewer_of

Operator = Annotated[Principal, any_of(Role.AGENCY_OPERATOR)]
Sort = Literal["due_at", "-due_at", "assigned_at", "-assigned_at"]
Text = Annotated[str, StringConstraints(strip_whitespace=True)]
PhotoId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

_UNDER_WAY = (None, Status.ASSIGNED, Status.IN_PROGRESS)


class WorkRow(BaseModel):
    """One row of an agency's queue. ``due_at`` is when the follow-up is due (SOP step 4: 10 days from the
    assignment)."""

    complaint_id: str
    number: str
    status: Status
    title: str
    category: str
    district: str | None
    assigned_at: datetime
    due_at: datetime | None
    overdue: bool
    allowed: list[Transition] = Field(description="the moves that you can make now")


class WorkPage(BaseModel):
    """One page of the queue; ``next`` is the cursor of the next, null at the end. A page may hold fewer rows than asked
    for, or none, and yet have a next one: where what is wanted is rare, each page looks at a part only."""

    items: list[WorkRow]
    next: str | None


class Note(BaseModel):
    """A progress note."""

    at: datetime
    note: str


class Work(WorkRow):
    """A complaint as the agency that has it sees it. The reporter is not named here: the SOP gives the agency the
    report."""

    report: Report = Field(description="its photos: `GET /v1/complaints/{complaint_id}/photos/{id}` at intake")
    agency: Agency
    considerations: str = Field(description="of the PPM team")
    unit: str | None
    binding: bool = Field(description="assigned by the coordinator: cannot be declined")
    notes: list[Note]
    evidence: list[Photo]
    evidence_note: str
    history: list[dict[str, Any]] = Field(description="the events that the agency was sent or made, oldest first")


class Start(Body):
    unit: Text = Field(min_length=2, max_length=200, examples=["Sekretariat, Subbagian Umum"])


class Decline(Body):
    reason: Text = Field(min_length=10, max_length=2000, examples=["Ruas jalan ini kewenangan provinsi."])
    suggested_agency: str | None = Field(None, pattern=r"^[A-Z][A-Z0-9-]{1,19}$", examples=["DPUPR"])


class Progress(Body):
    note: Text = Field(min_length=3, max_length=2000, examples=["Tim sudah di lokasi, material datang besok."])


class Complete(Body):
    photos: list[PhotoId] = Field(min_length=1, max_length=5, description="ids of uploaded photos of the finished work")
    note: Text = Field(min_length=10, max_length=2000, examples=["Lubang ditambal aspal panas sepanjang 3 m."])


class Noted(BaseModel):
    id: str
    complaint_id: str


def router(work: WorkStore, journal: Journal, photos: Photos, pseudonyms: Pseudonyms = NO_PSEUDONYMS) -> APIRouter:
    """The routes of one opd service."""
    api = APIRouter(prefix="/v1", tags=["agency desk"], route_class=Direct)

    async def own(complaint_id: str, principal: Principal) -> tuple[Document, Case]:
        document = await work.find(complaint_id)
        case = Case.of_document(document)
        if document is None or document["title"] is None or not may_see(case, principal):
            raise not_found()
        return document, case

    @api.get("/work", summary="Your agency's queue")
    async def queue(
        principal: Operator,
        status: Status | None = None,
        category: str | None = None,
        district: str | None = None,
        overdue: Annotated[bool, Query(description="only what is past its due date")] = False,
        q: Annotated[
            str | None, Query(min_length=2, max_length=100, description="words of the report, or how a number begins")
        ] = None,
        sort: Annotated[
            Sort | None,
            Query(
                description="without it what is due first, or where finished work is asked for, the latest first; "
                "what `q` finds comes by `-assigned_at` (or `assigned_at`), or for a number by number"
            ),
        ] = None,
        limit: Limit = 20,
        cursor: Cursor = None,
    ) -> WorkPage:
        found, following = await work.queue(
            principal.agency or "",
            status=status,
            category=category,
            district=district,
            due_before=now() if overdue else None,
            text=findable(q, sort, "assigned_at") if q else None,
            sort=sort or ("due_at" if status in _UNDER_WAY and not q else "-assigned_at"),
            limit=limit,
            cursor=cursor,
        )
        return WorkPage(items=[WorkRow(**_row(d, principal.role)) for d in found if d["title"]], next=following)

    @api.get("/work/{complaint_id}", summary="One complaint of your agency's")
    async def show(complaint_id: str, principal: Operator) -> Work:
        document, _ = await own(complaint_id, principal)
        return _work(document, principal.role)

    @api.post(
        "/work/{complaint_id}/start", summary="Begin, naming the secretariat's unit that follows up", status_code=201
    )
    async def start(complaint_id: str, body: Start, principal: Operator, once: Once) -> Moved:
        return await carry_out(
            journal,
            lambda key: own(key, principal),
            complaint_id,
            principal,
            lambda case: desk.start(case, actor(principal), now(), body.unit),
            once,
        )

    @api.post("/work/{complaint_id}/decline", summary="Not yours: say why and who may be competent", status_code=201)
    async def decline(complaint_id: str, body: Decline, principal: Operator, once: Once) -> Moved:
        return await carry_out(
            journal,
            lambda key: own(key, principal),
            complaint_id,
            principal,
            lambda case: desk.decline(case, actor(principal), now(), body.reason, body.suggested_agency),
            once,
        )

    @api.post("/work/{complaint_id}/complete", summary="Finished: photos of the work and a note", status_code=201)
    async def complete(complaint_id: str, body: Complete, principal: Operator, once: Once) -> Moved:
        evidence = await photos.claim(body.photos, principal.agency or "")
        return await carry_out(
            journal,
            lambda key: own(key, principal),
            complaint_id,
            principal,
            lambda case: desk.complete(case, actor(principal), now(), evidence, body.note),
            once,
        )

    @api.post("/work/{complaint_id}/notes", summary="Tell how the work goes; the citizen reads it", status_code=201)
    async def note(complaint_id: str, body: Progress, principal: Operator, once: Once) -> Noted:
        try:
            document, case = await own(complaint_id, principal)
            decision = desk.note_progress(case, actor(principal), now(), body.note)
            if isinstance(decision, Refusal):
                raise refused(decision, state=state(case, principal.role))
            event: Event = await journal.append(decision, once, {complaint_id: document})
        except Problem:
            earlier = await journal.replay(once)  # the work may have gone on since the same request was first made
            if earlier is None:
                raise
            event = earlier
        return Noted(id=event.id, complaint_id=complaint_id)

    @api.post(
        "/photos",
        summary="Upload a photo of the finished work (the body is the file)",
        status_code=201,
        openapi_extra=PHOTO_BODY,
    )
    async def upload(request: Request, principal: Operator) -> Photo:
        return await photos.receive(request, principal.agency or "")

    @api.get(
        "/work/{complaint_id}/photos/{photo_id}",
        summary="A photo of the finished work",
        response_class=Response,
        responses={200: PHOTO_ANSWER},
    )
    async def photo(complaint_id: str, photo_id: str, principal: Caller, size: Size = "large") -> Response:
        document = await work.find(complaint_id)
        case = Case.of_document(document)
        reporter = pseudonyms.citizen(case.reporter_id, case.complaint_id)
        if document is None or not may_see(case, principal, reporter):
            raise not_found("photo")
        if photo_id not in (_documented(document) if principal.role is Role.CITIZEN else document["photos"]):
            raise not_found("photo")
        return await serve_photo(photos, photo_id, size)

    return api


def _documented(document: Document) -> set[str]:
    """The photos of the finished work that the citizen was shown: what was refused as evidence is not among them."""
    return {photo.id for event in history(document) if isinstance(event, Documented) for photo in event.evidence}


def _row(document: Document, role: Role) -> dict[str, Any]:
    case = Case.of_document(document)
    working = case.status in (Status.ASSIGNED, Status.IN_PROGRESS)
    fields = ("number", "status", "title", "category", "district", "assigned_at", "due_at")
    row = {
        "complaint_id": document["_id"],
        **{name: document[name] for name in fields},
        "overdue": bool(working and case.due_at and case.due_at < now()),
        "allowed": case.allowed(role),
    }
    return cut(viewer_of(role), case, row)


def _work(document: Document, role: Role) -> Work:
    case = Case.of_document(document)
    events = history(document)
    fields = {
        "report": case.report,
        "agency": case.agency,
        "considerations": next((e.considerations for e in reversed(events) if isinstance(e, Assigned)), ""),
        "unit": case.unit,
        "binding": case.binding,
        "notes": [Note(at=e.occurred_at, note=e.note) for e in events if isinstance(e, ProgressNoted)],
        "evidence": list(case.evidence),
        "evidence_note": case.evidence_note,
        "history": chronicle(events),
    }
    return Work(**_row(document, role), **cut(viewer_of(role), case, fields))
