"""A citizen's complaints over HTTP: filing, reading, correcting, rating, reopening; photos; and the reporter's data for
staff."""

import asyncio
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response

from services.intake import desk
from services.intake.account_store import AccountStore
from services.intake.api.forms import (
    Category,
    Complaint,
    ComplaintPage,
    ComplaintRow,
    Filed,
    GivenReport,
    Rate,
    Reason,
    Reopen,
    Reporter,
    Timeline,
    Withdraw,
)
from services.intake.keys import TrackingCodes
from services.intake.number import new_number
from services.intake.place import City, PlaceRefused
from services.intake.restrictions import Restrictions
from services.intake.store import AccessStore, ComplaintStore
from services.intake.timeline import timeline
from shared import telemetry
from shared.access import may_see
from shared.audit import Action, AuditLog
from shared.auth import Principal
from shared.calendar import Deadlines
from shared.case import Case
from shared.desk import Moved, actor, carry_out
from shared.direct import Direct
from shared.events import Actor, Closed, Photo, Report, Submitted, new_id, now
from shared.http import Caller, Cursor, Limit, Once, Problem, any_of, invalid, not_found
from shared.journal import Journal, Taken
from shared.openapi import PHOTO_ANSWER, PHOTO_BODY
from shared.photos import Photos, Size, serve_photo
from shared.projection import Document, history
from shared.pseudonyms import NO_PSEUDONYMS, Pseudonyms
from shared.scopes import PEOPLE
from shared.sop import HOLDER, Role, Status
from shared.visibility import Viewer, cut, sees, viewer_of

Citizen = Annotated[Principal, any_of(Role.CITIZEN)]
_OPERATORS = (Role.CENTRAL_OPERATOR, Role.REGIONAL_OPERATOR, Role.COORDINATOR)
Operator = Annotated[Principal, any_of(*_OPERATORS, scope=PEOPLE)]
Party = Annotated[Principal, any_of(Role.CITIZEN, Role.AGENCY_OPERATOR, *_OPERATORS)]


_LAPSED_AT_ONCE = 200


class Intake:
    """What the routes work with."""

    def __init__(
        self,
        complaints: ComplaintStore,
        accounts: AccountStore,
        accesses: AccessStore,
        journal: Journal,
        photos: Photos,
        city: City,
        categories_file: Path,
        codes: TrackingCodes,
        deadlines: Deadlines,
        restrictions: Restrictions,
        pseudonyms: Pseudonyms = NO_PSEUDONYMS,
    ) -> None:
        self.complaints = complaints
        self.accounts = accounts
        self.accesses = accesses
        self.journal = journal
        self.photos = photos
        self.city = city
        self.categories = [Category(**entry) for entry in json.loads(categories_file.read_text(encoding="utf-8"))]
        self.codes = codes
        self.deadlines = deadlines
        self.restrictions = restrictions
        self.pseudonyms = pseudonyms
        self._known = {category.code for category in self.categories}

    async def report(self, given: GivenReport, principal: Principal) -> Report:
        """The report that a citizen gave, checked: category, place, time, photos. Raises 422 naming the field."""
        if given.category not in self._known:
            raise invalid(
                "body.category", "There is no such category; GET /v1/categories lists them.", "Kategori tidak dikenal."
            )
        moment = now()
        if not moment - timedelta(days=366) <= given.seen_at <= moment + timedelta(minutes=5):
            raise invalid(
                "body.seen_at",
                "It must lie in the past, at most a year ago.",
                "Waktu kejadian harus dalam setahun terakhir.",
            )
        place = given.place
        try:
            where = self.city.place(place.longitude, place.latitude, place.address, place.district)
        except PlaceRefused as refusal:
            raise invalid(f"body.place.{refusal.field}", str(refusal), refusal.message_id) from None
        return Report(
            title=given.title,
            description=given.description,
            category=given.category,
            place=where,
            seen_at=given.seen_at,
            photos=await self.photos.claim(given.photos, principal.id),
            visibility=given.visibility,
        )

    async def own(self, complaint_id: str, principal: Principal) -> tuple[Document, Case]:
        """A complaint of the caller's own: its document and what that says. Raises 404."""
        document = await self.complaints.find(complaint_id)
        if document is None or document["reporter_id"] != principal.id or document["title"] is None:
            raise not_found()
        return document, Case.of_document(document)

    async def visible(self, complaint_id: str, principal: Principal) -> Document:
        """A complaint that the caller may see. Raises 404."""
        document = await self.complaints.find(complaint_id)
        if document is None or document["title"] is None or not self.may_see(document, principal):
            raise not_found()
        return document

    def may_see(self, document: Document, principal: Principal) -> bool:
        """Whether the caller may see a complaint."""
        return may_see(Case.of_document(document), principal, document["reporter_id"])

    def submitter(self, principal: Principal, complaint_id: str, report: Report) -> Actor:
        """The citizen as the events of a new complaint name him: by a pseudonym if he stays anonymous."""
        if report.visibility != "anonim":
            return actor(principal)
        return Actor(role=principal.role, id=self.pseudonyms.of(principal.id, complaint_id))

    async def close_lapsed(self) -> None:
        """Periodic work: close what the citizen has left alone. Several processes may do it: the journal lets one."""
        moment = now()
        while True:
            documents = await self.complaints.lapsed(moment, _LAPSED_AT_ONCE)
            closed = await asyncio.gather(*(self._close(document, moment) for document in documents))
            if len(documents) < _LAPSED_AT_ONCE or not any(closed):
                break

    async def _close(self, document: Document, moment: datetime) -> bool:
        """Close one lapsed complaint; whether this process did."""
        decision = desk.lapse(Case.of_document(document), moment, self.deadlines)
        if not isinstance(decision, Closed):
            return False
        try:
            await self.journal.append(decision, None, {document["_id"]: document})
        except Taken:
            return False
        return True


def router(intake: Intake, audit: AuditLog) -> APIRouter:
    """The routes about complaints."""
    api = APIRouter(prefix="/v1", tags=["complaints"], route_class=Direct)

    @api.get("/categories", summary="The categories of complaints")
    async def categories() -> list[Category]:
        return intake.categories

    @api.post(
        "/photos",
        summary="Upload a photo (the body is the file: JPEG, PNG or WebP)",
        status_code=201,
        openapi_extra=PHOTO_BODY,
    )
    async def upload(request: Request, principal: Citizen) -> Photo:
        return await intake.photos.receive(request, principal.id)

    @api.post("/complaints", summary="File a complaint", status_code=201)
    async def submit(body: GivenReport, principal: Citizen, once: Once) -> Filed:
        intake.restrictions.check(principal.id)
        report = await intake.report(body, principal)
        while True:
            complaint_id = new_id()
            submitter = intake.submitter(principal, complaint_id, report)
            event = desk.submit(complaint_id, new_number(), submitter, now(), report)
            try:
                stored = await intake.journal.append(event, once, {event.complaint_id: None})
            except Taken:
                continue  # the number is another complaint's: draw again
            break
        assert isinstance(stored, Submitted)
        telemetry.bind_complaint(stored.complaint_id)
        return Filed(
            complaint_id=stored.complaint_id,
            number=stored.number,
            tracking_code=intake.codes.code(stored.complaint_id),
            status=Status.SUBMITTED,
            submitted_at=stored.occurred_at,
            due_at=Case.of([stored]).due(intake.deadlines),
        )

    @api.get("/complaints", summary="Your complaints, newest first")
    async def mine(
        principal: Citizen,
        status: Status | None = None,
        category: str | None = None,
        limit: Limit = 20,
        cursor: Cursor = None,
    ) -> ComplaintPage:
        found, following = await intake.complaints.of_reporter(principal.id, status, category, limit, cursor)
        return ComplaintPage(
            items=[ComplaintRow(**_row(intake, d, Role.CITIZEN)) for d in found if d["title"]], next=following
        )

    @api.get("/complaints/{complaint_id}", summary="One of your complaints; staff see it without the reporter")
    async def show(complaint_id: str, principal: Party) -> Complaint:
        return complaint_of(intake, await intake.visible(complaint_id, principal), principal.role)

    @api.get("/complaints/{complaint_id}/timeline", summary="What has happened to your complaint")
    async def follow(complaint_id: str, principal: Party) -> Timeline:
        return timeline_of(intake, await intake.visible(complaint_id, principal), viewer_of(principal.role))

    @api.post("/complaints/{complaint_id}/resubmit", summary="Send the corrected report", status_code=201)
    async def resubmit(complaint_id: str, body: GivenReport, principal: Citizen, once: Once) -> Moved:
        report = await intake.report(body, principal)
        return await move(
            complaint_id, principal, lambda case: desk.resubmit(case, reporter_of(case), now(), report), once
        )

    @api.post("/complaints/{complaint_id}/reopen", summary="The answer does not do: say why", status_code=201)
    async def reopen(complaint_id: str, body: Reopen, principal: Citizen, once: Once) -> Moved:
        return await move(
            complaint_id,
            principal,
            lambda case: desk.reopen(case, reporter_of(case), now(), body.reason, intake.deadlines),
            once,
        )

    @api.post("/complaints/{complaint_id}/rate", summary="Rate the answer; this closes the complaint", status_code=201)
    async def rate(complaint_id: str, body: Rate, principal: Citizen, once: Once) -> Moved:
        return await move(
            complaint_id,
            principal,
            lambda case: desk.rate(case, reporter_of(case), now(), body.rating, body.comment),
            once,
        )

    @api.post("/complaints/{complaint_id}/withdraw", summary="Leave a returned complaint closed", status_code=201)
    async def withdraw(complaint_id: str, body: Withdraw, principal: Citizen, once: Once) -> Moved:
        return await move(
            complaint_id, principal, lambda case: desk.withdraw(case, reporter_of(case), now(), body.comment), once
        )

    @api.get(
        "/complaints/{complaint_id}/photos/{photo_id}",
        summary="A photo of the report",
        response_class=Response,
        responses={200: PHOTO_ANSWER},
    )
    async def photo(complaint_id: str, photo_id: str, principal: Caller, size: Size = "large") -> Response:
        document = await intake.complaints.find(complaint_id)
        case = Case.of_document(document)
        seen = document is not None and intake.may_see(document, principal)
        if not seen or case.report is None or photo_id not in {photo.id for photo in case.report.photos}:
            raise not_found("photo")
        return await serve_photo(intake.photos, photo_id, size)

    @api.post(
        "/complaints/{complaint_id}/reporter", summary="The reporter's data; the access is recorded", status_code=201
    )
    async def reporter(complaint_id: str, body: Reason, principal: Operator) -> Reporter:
        case = Case.of_document(await intake.visible(complaint_id, principal))
        assert case.report is not None
        if case.report.visibility == "anonim":
            detail = "The reporter asked for anonymity: nobody but the identity store knows who it is."
            raise Problem(403, "reporter-anonymous", detail, "Pelapor meminta identitasnya dirahasiakan.")
        account = await intake.accounts.find(case.reporter_id)
        if account is None:
            raise not_found("reporter")
        if account.get("erased_at"):
            detail = "The reporter has deleted their data; the case goes on without them."
            raise Problem(410, "reporter-erased", detail, "Pelapor telah menghapus data dirinya.")
        if account.get("restricted_at"):
            detail = "The reporter wants their data kept and not used: nobody may look them up now."
            raise Problem(409, "reporter-restricted", detail, "Pelapor membatasi pemrosesan data dirinya.")
        await intake.accesses.record(
            case.reporter_id, complaint_id, case.number, principal.id, principal.role, body.reason
        )
        await audit.record(
            Action.IDENTITY_OPENED, principal.id, complaint_id, role=principal.role.value, number=case.number
        )
        return Reporter(name=account["name"], email=account["email"], phone=account["phone"])

    async def move(complaint_id: str, principal: Principal, decide: Any, once: Once) -> Moved:
        return await carry_out(
            intake.journal, lambda key: intake.own(key, principal), complaint_id, principal, decide, once
        )

    return api


def reporter_of(case: Case) -> Actor:
    """The reporter of a complaint as its events name them, by a pseudonym or not: who makes a citizen's moves."""
    return Actor(role=Role.CITIZEN, id=case.reporter_id)


def complaint_of(intake: Intake, document: Document, role: Role) -> Complaint:
    """A complaint as somebody of this role sees it."""
    case = Case.of_document(document)
    fields = {
        "report": case.report,
        "agency": case.agency,
        "evidence": case.evidence,
        "evidence_note": case.evidence_note or None,
    }
    return Complaint(**_row(intake, document, role), **cut(viewer_of(role), case, fields))


def timeline_of(intake: Intake, document: Document, viewer: Viewer) -> Timeline:
    """The time line of a complaint, and where it is now."""
    case = Case.of_document(document)
    assert case.status is not None
    fields = {
        "number": case.number,
        "status": case.status,
        "holder": HOLDER[case.status],
        "due_at": case.due(intake.deadlines),
        "entries": timeline(history(document), notes=sees(viewer, "note")),
    }
    return Timeline(**cut(viewer, case, fields))


def _row(intake: Intake, document: Document, role: Role) -> dict[str, Any]:
    case = Case.of_document(document)
    assert case.status is not None
    fields = ("number", "title", "category", "status", "submitted_at", "moved_at")
    row = {
        "complaint_id": document["_id"],
        **{name: document[name] for name in fields},
        "seq": case.seq,
        "holder": HOLDER[case.status],
        "due_at": case.due(intake.deadlines),
        "allowed": case.allowed(role),
    }
    return cut(viewer_of(role), case, row)
