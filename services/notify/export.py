"""A citizen takes along what notify has about them (UU PDP 27/2022, articles 7 and 13): how they are reached, what they
chose, and their inbox. What intake has, it exports itself."""

from collections.abc import AsyncIterator
from datetime import datetime

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from services.notify.api import Audience, Citizen, Entry, Preferences, entry_of, preferences_of
from services.notify.store import CitizenStore, InboxStore
from services.notify.texts import Language, Texts
from shared.audit import Action, AuditLog
from shared.events import now
from shared.queries import each

_PAGE = 100


class Contact(BaseModel):
    """How notices reach the citizen, as intake told it."""

    name: str | None
    email: str | None
    phone: str | None
    language: Language
    restricted: bool


class About(BaseModel):
    """Who it is about and what they chose: the beginning of the export."""

    made_at: datetime
    contact: Contact | None = Field(description="null while intake has told of none")
    preferences: Preferences


class Export(About):
    """The whole of it, oldest entry last."""

    inbox: list[Entry]


def router(inbox: InboxStore, citizens: CitizenStore, texts: Texts, audit: AuditLog) -> APIRouter:
    """The route of the export."""
    api = APIRouter(tags=["notices"])

    @api.get("/v1/me/export", summary="All that notify has about you, as a file", response_model=Export)
    async def export(principal: Citizen, audience: Audience) -> StreamingResponse:
        known = (await citizens.contacts([principal.id])).get(principal.id)
        contact = Contact.model_validate(known) if known and not known.get("erased") else None
        chosen = (await citizens.preferences([principal.id])).get(principal.id, {})
        about = About(made_at=now(), contact=contact, preferences=preferences_of(chosen))
        await audit.record(Action.DATA_EXPORTED, principal.id, principal.id)
        headers = {"Content-Disposition": f'attachment; filename="lapor-kotak-masuk-{now():%Y-%m-%d}.json"'}
        return StreamingResponse(_written(about, audience), media_type="application/json", headers=headers)

    async def _written(about: About, audience: str) -> AsyncIterator[str]:
        """An `Export`, a page of the inbox at a time: it may be long."""
        language = about.contact.language if about.contact else "id"
        yield f'{about.model_dump_json()[:-1]},"inbox":['
        between = ""
        async for document in each(lambda cursor: inbox.read(audience, limit=_PAGE, cursor=cursor)):
            yield between + entry_of(document, texts, language).model_dump_json()
            between = ","
        yield "]}"

    return api
