"""The notify service over HTTP: inboxes, the citizen's choices, and the state of deliveries."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field, StrictBool

from services.notify.delivery_store import DeliveryStore
from services.notify.desk import State
from services.notify.notices import EMAILED_BY_DEFAULT, CitizenNotice, audience_of
from services.notify.store import COUNTED_TO, CitizenStore, InboxStore
from services.notify.texts import Language, Texts
from shared.auth import Principal
from shared.direct import Direct
from shared.events import Photo, now
from shared.http import Body, Caller, Cursor, Limit, any_of, not_found, refused
from shared.projection import Document
from shared.sop import Refusal, Role

Citizen = Annotated[Principal, any_of(Role.CITIZEN)]
Coordinator = Annotated[Principal, any_of(Role.COORDINATOR)]
"""Who sees every complaint: deliveries do not know which are confidential."""


def _audience(principal: Caller) -> str:
    """The caller's inbox. Raises 403 if their role has none."""
    audience = audience_of(principal)
    if audience is None:
        raise refused(Refusal.WRONG_ROLE)
    return audience


Audience = Annotated[str, Depends(_audience)]


class Entry(BaseModel):
    """One notice in an inbox."""

    id: str
    notice: str
    about: str = Field(description="id of the event that it tells of")
    complaint_id: str
    number: str
    at: datetime
    subject: str
    text: str = Field(description="plain text; blank lines part paragraphs")
    photos: list[Photo] = Field(description="of the finished work, with the reply; `held_by` serves them")
    read_at: datetime | None


class Inbox(BaseModel):
    """One page of an inbox, newest first; ``next`` is the cursor of the next, null at the end."""

    items: list[Entry]
    next: str | None


class Unread(BaseModel):
    unread: int = Field(le=COUNTED_TO, description=f"counted up to {COUNTED_TO}")


class Delivery(BaseModel):
    """An e-mail and what became of it. It says neither to whom nor to which address."""

    id: str
    notice: str
    about: str = Field(description="id of the event that it tells of")
    complaint_id: str
    number: str
    channel: Literal["email"]
    state: State
    attempts: int = Field(description="how often it was taken up")
    reason: str | None = Field(description="why it was not sent, or not yet", examples=["smtp-451"])
    created_at: datetime
    due_at: datetime | None = Field(description="when it is tried next; null once it is done")
    done_at: datetime | None


class Deliveries(BaseModel):
    """One page of deliveries, newest first; ``next`` is the cursor of the next, null at the end."""

    items: list[Delivery]
    next: str | None


class Preferences(Body):
    """Which notices also come by e-mail. The inbox gets all of them, whatever is chosen here."""

    email: dict[CitizenNotice, StrictBool] = Field(
        description="kinds that are left out keep their default",
        examples=[{"progress": False, "completed": True}],
    )


def router(inbox: InboxStore, deliveries: DeliveryStore, citizens: CitizenStore, texts: Texts) -> APIRouter:
    """The routes of one notify service."""
    api = APIRouter(prefix="/v1", tags=["notices"], route_class=Direct)

    async def language_of(principal: Principal, wanted: Language | None) -> Language:
        if wanted is None and principal.role is Role.CITIZEN:
            contact = (await citizens.contacts([principal.id])).get(principal.id)
            wanted = contact["language"] if contact else None
        return wanted or "id"

    @api.get("/inbox", summary="Your inbox: a citizen's own, or the one of your agency or role")
    async def read(
        principal: Caller,
        audience: Audience,
        unread: bool = False,
        language: Language | None = None,
        limit: Limit = 20,
        cursor: Cursor = None,
    ) -> Inbox:
        chosen = await language_of(principal, language)
        found, following = await inbox.read(audience, unread=unread, limit=limit, cursor=cursor)
        return Inbox(items=[entry_of(d, texts, chosen) for d in found], next=following)

    @api.get("/inbox/unread-count", summary="How many entries of your inbox are unread")
    async def count(audience: Audience) -> Unread:
        return Unread(unread=await inbox.count_unread(audience))

    @api.post("/inbox/{entry_id}/read", summary="Mark an entry as read, for all who share the inbox")
    async def mark(entry_id: str, principal: Caller, audience: Audience, language: Language | None = None) -> Entry:
        document = await inbox.mark_read(entry_id, audience, now())
        if document is None:
            raise not_found("entry")
        return entry_of(document, texts, await language_of(principal, language))

    @api.get("/deliveries", summary="E-mails and what became of them")
    async def delivered(
        _: Coordinator,
        complaint_id: str | None = None,
        state: State | None = None,
        limit: Limit = 20,
        cursor: Cursor = None,
    ) -> Deliveries:
        found, following = await deliveries.find(complaint_id, state, limit, cursor)
        return Deliveries(items=[_delivery(d) for d in found], next=following)

    @api.get("/preferences", summary="Which notices you get by e-mail")
    async def preferences(principal: Citizen) -> Preferences:
        return preferences_of((await citizens.preferences([principal.id])).get(principal.id, {}))

    @api.put("/preferences", summary="Choose which notices you get by e-mail")
    async def prefer(principal: Citizen, body: Preferences) -> Preferences:
        chosen = {kind.value: wanted for kind, wanted in body.email.items()}
        await citizens.prefer(principal.id, chosen, now())
        return preferences_of(chosen)

    return api


def entry_of(document: Document, texts: Texts, language: Language) -> Entry:
    """An entry as it is stored, in words."""
    text = texts.notice(document["notice"], language, document["number"], document["facts"])
    same = ("notice", "about", "complaint_id", "number", "at", "read_at")
    return Entry(
        id=document["_id"],
        **{name: document[name] for name in same},
        subject=text.subject,
        text=text.body,
        photos=document["facts"].get("evidence", []),
    )


def preferences_of(chosen: dict[str, bool]) -> Preferences:
    """What was chosen, completed by the defaults."""
    return Preferences(email={kind: chosen.get(kind, kind in EMAILED_BY_DEFAULT) for kind in CitizenNotice})


def _delivery(document: Document) -> Delivery:
    same = ("notice", "about", "complaint_id", "number", "channel", "state", "attempts", "reason", "created_at")
    return Delivery(
        id=document["_id"],
        **{name: document[name] for name in same},
        due_at=document["due_at"] if document["open"] else None,
        done_at=document["done_at"],
    )
