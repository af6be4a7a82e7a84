"""One's own data over HTTP. A new address counts once a code has shown that it is the citizen's own."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from services.intake.account_store import AccountStore, LoginTaken
from services.intake.api.contacts import ContactField, Contacts, Pending, code_refused, login_taken
from services.intake.api.forms import Language, Name
from services.intake.challenges import Challenges
from services.intake.store import AccessStore
from shared.auth import Principal
from shared.http import Body, Caller, Cursor, Limit, Problem, any_of, not_found
from shared.projection import Document
from shared.sop import Role

Citizen = Annotated[Principal, any_of(Role.CITIZEN)]


class Me(BaseModel):
    """One's own data, as the city holds them."""

    id: str
    role: Role
    name: str
    email: str | None
    phone: str | None
    language: Language
    agency: str | None
    restricted_at: datetime | None = Field(None, description="since when the data are kept and not used, if they are")


class ChangedMe(Me):
    """The data as they are now; ``pending``: addresses that wait for their codes."""

    pending: list[Pending] = []


class ChangeMe(Body):
    """What is left out stays as it is. A new address is sent a code (`POST /v1/me/contacts/confirm`)."""

    name: Name | None = None
    email: str | None = Field(None, max_length=254)
    phone: str | None = Field(None, max_length=30)
    language: Language | None = None


class ConfirmContact(Body):
    challenge_id: str = Field(max_length=100)
    code: str = Field(max_length=20, description="the six digits that were sent", examples=["042137"])


class Access(BaseModel):
    """Somebody of the staff has looked up your data."""

    at: datetime
    number: str
    complaint_id: str
    role: Role
    reason: str


class AccessPage(BaseModel):
    items: list[Access]
    next: str | None


def router(accounts: AccountStore, accesses: AccessStore, challenges: Challenges, contacts: Contacts) -> APIRouter:
    """The routes about one's own data."""
    api = APIRouter(tags=["people"])

    @api.get("/v1/me", summary="Your own data")
    async def me(principal: Caller) -> Me:
        return Me(**own_data(await _own(principal)))

    @api.patch("/v1/me", summary="Change your own data; a new address is sent a code")
    async def change_me(body: ChangeMe, principal: Citizen) -> ChangedMe:
        account = await _own(principal)
        email, phone = contacts.normal(body.email, body.phone)
        asked: dict[ContactField, str | None] = {"email": email, "phone": phone}
        new = {field: text for field, text in asked.items() if text is not None and text != account[field]}
        pending = await contacts.ask(account, new)
        changes = {"name": body.name, "language": body.language}
        changes = {name: value for name, value in changes.items() if value is not None}
        if changes:
            account = await _changed(account, changes)
        return ChangedMe(**own_data(account), pending=pending)

    @api.post("/v1/me/contacts/confirm", summary="Confirm a new address by its code")
    async def confirm(body: ConfirmContact, principal: Citizen) -> Me:
        challenge = await challenges.answered(body.challenge_id, "contact", body.code)
        if challenge is None or challenge["account_id"] != principal.id or not await challenges.use_up(challenge):
            raise code_refused()
        account = await _own(principal)
        contact = {"email": account["email"], "phone": account["phone"], challenge["field"]: challenge["text"]}
        logins = [login for login in contact.values() if login]
        return Me(**own_data(await _changed(account, {**contact, "logins": logins})))

    @api.get("/v1/me/accesses", summary="Who of the staff has looked up your data, when and why")
    async def my_accesses(principal: Citizen, limit: Limit = 20, cursor: Cursor = None) -> AccessPage:
        found, following = await accesses.of_citizen(principal.id, limit, cursor)
        return AccessPage(items=[Access.model_validate(access) for access in found], next=following)

    async def _own(principal: Principal) -> Document:
        account = await accounts.find(principal.id)
        if account is None or not account["active"]:
            raise not_found("account")
        return account

    async def _changed(account: Document, changes: Document) -> Document:
        """The account with the changes, which notify is told of. Raises 409."""
        try:
            done = await accounts.change(account["_id"], account["version"], {**changes, "contact_due": True})
        except LoginTaken:
            raise login_taken() from None
        if not done:
            raise Problem(409, "changed-meanwhile", "Your data were changed at the same time; read them and try again.")
        changed = {**account, **changes, "version": account["version"] + 1}
        await contacts.tell(changed)
        return changed

    return api


def own_data(account: Document) -> Document:
    """The fields of `Me`."""
    return {"id": account["_id"], **{name: account.get(name) for name in Me.model_fields if name != "id"}}
