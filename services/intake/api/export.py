"""A citizen takes along all that intake has about them."""

from datetime import datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from services.intake.api.complaints import Intake, complaint_of, timeline_of
from services.intake.api.forms import Complaint, Timeline
from services.intake.api.own_sessions import Session, sessions_of
from services.intake.api.people import Access, Me, own_data
from services.intake.export import README, Archive, Exports
from services.intake.sessions import Sessions
from shared.audit import Action, AuditLog
from shared.auth import Principal
from shared.events import Photo, Report, Resubmitted, Submitted, now
from shared.http import any_of, busy, not_found
from shared.limits import too_often
from shared.openapi import ZIP_ANSWER
from shared.projection import Document, history
from shared.queries import each
from shared.sop import Role
from shared.visibility import viewer_of

Citizen = Annotated[Principal, any_of(Role.CITIZEN)]
_PAGE = 100


class Person(BaseModel):
    """``data.json``."""

    made_at: datetime
    account: Me
    registered_at: datetime
    accesses: list[Access]
    sessions: list[Session]


class Case(BaseModel):
    """``laporan/<number>/laporan.json``."""

    complaint: Complaint
    tracking_code: str
    reports: list[Report] = Field(description="as first filed, and as corrected")
    timeline: Timeline
    photos: list[str] = Field(description="files beside this one")
    missing: list[str] = Field(description="photos that are in the report and no longer stored")


def router(intake: Intake, sessions: Sessions, exports: Exports, audit: AuditLog) -> APIRouter:
    """The route of the export."""
    api = APIRouter(tags=["people"])

    @api.get(
        "/v1/me/export",
        summary="All your data as a zip of JSON and photos",
        response_class=Response,
        responses={200: ZIP_ANSWER},
    )
    async def export(principal: Citizen) -> Response:
        account = await intake.accounts.find(principal.id)
        if account is None or not account["active"]:
            raise not_found("account")
        with exports.one(principal.id, too_often(5), busy()):
            await audit.record(Action.DATA_EXPORTED, principal.id, principal.id)
            archive = Archive()
            try:
                await _write(archive, account, principal)
                length = await archive.finish()
            except BaseException:
                archive.close()
                raise
        headers = {
            "Content-Length": str(length),
            "Content-Disposition": f'attachment; filename="lapor-data-{now():%Y-%m-%d}.zip"',
        }
        return StreamingResponse(archive.chunks(), media_type="application/zip", headers=headers)

    async def _write(archive: Archive, account: Document, principal: Principal) -> None:
        await archive.add_text("BACA-SAYA.txt", README)
        person = Person(
            made_at=now(),
            account=Me(**own_data(account)),
            registered_at=account["created_at"],
            accesses=[
                Access.model_validate(access)
                async for access in each(partial(intake.accesses.of_citizen, principal.id, _PAGE))
            ],
            sessions=await sessions_of(sessions, principal),
        )
        await archive.add_json("data.json", person)
        async for document in each(partial(intake.complaints.of_reporter, principal.id, None, None, _PAGE)):
            if document["title"]:
                await _add_case(archive, document)

    async def _add_case(archive: Archive, document: Document) -> None:
        folder = f"laporan/{document['number']}"
        reports = [event.report for event in history(document) if isinstance(event, Submitted | Resubmitted)]
        photos: dict[str, Photo] = {photo.id: photo for report in reports for photo in report.photos}
        names: list[str] = []
        missing: list[str] = []
        for photo_id in photos:
            stored = await intake.photos.store.get(photo_id)
            if stored is None:
                missing.append(photo_id)
                continue
            names.append(f"foto-{len(names) + 1}.jpg")
            await archive.add_photo(f"{folder}/{names[-1]}", stored)
        case = Case(
            complaint=complaint_of(intake, document, Role.CITIZEN),
            tracking_code=intake.codes.code(document["_id"]),
            reports=reports,
            timeline=timeline_of(intake, document, viewer_of(Role.CITIZEN)),
            photos=names,
            missing=missing,
        )
        await archive.add_json(f"{folder}/laporan.json", case)

    return api
