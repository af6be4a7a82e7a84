"""One's sessions over HTTP: which there are, and ending them here or everywhere."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field

from services.intake.sessions import By, Sessions
from shared.audit import Action, AuditLog
from shared.auth import Principal
from shared.ended_sessions import PATH, EndedSessions
from shared.http import any_of, not_found
from shared.scopes import PEOPLE

Person = Annotated[Principal, any_of(scope=PEOPLE)]
SessionId = Annotated[str, Path(max_length=100)]


class Session(BaseModel):
    """A sign-in that goes on. ``current``: the one that asks."""

    id: str
    by: By = Field(description="how it began")
    began_at: datetime
    used_at: datetime = Field(description="when it was refreshed last")
    current: bool


class SessionList(BaseModel):
    items: list[Session]


def router(sessions: Sessions, audit: AuditLog) -> APIRouter:
    """The routes of sessions."""
    api = APIRouter(tags=["people"])

    @api.get("/v1/me/sessions", summary="Where you are signed in")
    async def mine(principal: Person) -> SessionList:
        return SessionList(items=await sessions_of(sessions, principal))

    @api.post("/v1/sign-out", summary="End the session that asks", status_code=204)
    async def sign_out(principal: Person) -> Response:
        if principal.session:
            await sessions.end(principal.session, principal.id)
        return Response(status_code=204)

    @api.delete("/v1/me/sessions", summary="Sign out everywhere", status_code=204)
    async def sign_out_everywhere(principal: Person) -> Response:
        await audit.record(Action.SESSIONS_ENDED, principal.id, principal.id, reason="asked")
        await sessions.end_all(principal.id)
        return Response(status_code=204)

    @api.delete("/v1/me/sessions/{session_id}", summary="End one session", status_code=204)
    async def end_one(session_id: SessionId, principal: Person) -> Response:
        if not await sessions.end(session_id, principal.id):
            raise not_found("session")
        return Response(status_code=204)

    @api.get(PATH, summary="Sessions that were ended lately, for the other services")
    async def ended(response: Response) -> EndedSessions:
        response.headers["Cache-Control"] = "public, max-age=1"
        return sessions.ended

    return api


async def sessions_of(sessions: Sessions, principal: Principal) -> list[Session]:
    """The sessions of the caller's account."""
    return [
        Session(
            id=session["_id"],
            by=session["by"],
            began_at=session["began_at"],
            used_at=session["used_at"],
            current=session["_id"] == principal.session,
        )
        for session in await sessions.of_account(principal.id)
    ]
