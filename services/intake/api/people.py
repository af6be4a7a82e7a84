"""Accounts over HTTP: registering, and one's own data."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter, Header
from prometheus_client import Counter
from pydantic import BaseModel, Field

from services.intake.account_store import AccountStore, LoginTaken
from services.intake.api.forms import Line
from services.intake.identity import (
    IdentityRefused,
    NewAccount,
    Passwords,
    check_password,
    contact_of,
    normal_email,
    normal_phone,
)
from services.intake.password_rules import LONGEST, SHORTEST
from services.intake.store import AccessStore
from shared.auth import Principal
from shared.http import Caller, Cursor, Limit, Problem, any_of, invalid, not_found
from shared.journal import Idempotency, Journal, KeyReused, Taken
from shared.projection import Document
from shared.sop import Role

log = structlog.get_logger()

REGISTRATIONS = Counter("lapor_registrations_total", "Citizens that have registered.")

Citizen = Annotated[Principal, any_of(Role.CITIZEN)]
Name = Annotated[Line, Field(min_length=2, max_length=100, examples=["Siti Aminah"])]
Language = Literal["id", "en"]


class Register(BaseModel):
    """A citizen registers with an e-mail address, a phone number, or both."""

    name: Name
    email: str | None = Field(None, max_length=254, examples=["siti@warga.example"])
    phone: str | None = Field(None, max_length=30, examples=["0812-3456-7890"])
    password: str = Field(min_length=SHORTEST, max_length=LONGEST, examples=["sungai kapuas sore hari"])
    language: Language = "id"


class Registered(BaseModel):
    citizen_id: str


class Me(BaseModel):
    """One's own data, as the city holds them."""

    id: str
    role: Role
    name: str
    email: str | None
    phone: str | None
    language: Language
    agency: str | None


class ChangeMe(BaseModel):
    """What is left out stays as it is."""

    name: Name | None = None
    email: str | None = Field(None, max_length=254)
    phone: str | None = Field(None, max_length=30)
    language: Language | None = None


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


def healing(accounts: AccountStore, journal: Journal) -> Callable[[], Awaitable[None]]:
    """Periodic work: contacts that a crash kept from the journal are told after all."""

    async def tell() -> None:
        for account in await accounts.contacts_due():
            await _tell_contact(accounts, journal, account)

    return tell


async def _tell_contact(accounts: AccountStore, journal: Journal, account: Document) -> None:
    with suppress(Taken):  # told before; only the mark was missing
        await journal.append(contact_of(account))
    await accounts.contact_told(account["_id"], account["version"])


def router(accounts: AccountStore, accesses: AccessStore, journal: Journal, passwords: Passwords) -> APIRouter:
    """The routes about people."""
    api = APIRouter(tags=["people"])

    @api.post("/v1/citizens", summary="Register", status_code=201)
    async def register(
        body: Register,
        idempotency_key: Annotated[str | None, Header(min_length=8, max_length=200)] = None,
    ) -> Registered:
        email, phone = _contact(body.email, body.phone)
        if email is None and phone is None:
            raise invalid("body.email", "Give an e-mail address or a phone number.", "Isi surel atau nomor telepon.")
        once = None
        if idempotency_key:  # without the password: this hash is fast, and a stolen one must not serve to guess it
            asked = body.model_dump_json(exclude={"password"}).encode()
            once = Idempotency.of("anonymous", "POST /v1/citizens", idempotency_key, asked)
        with _problems():
            check_password(body.password, body.name, email, phone)
        logins = tuple(login for login in (email, phone) if login)
        hashed = await passwords.hash(body.password)
        account = NewAccount(logins, Role.CITIZEN, body.name, hashed, email, phone, body.language)
        try:
            stored = await accounts.add(account.document(), once)
        except LoginTaken:
            raise _login_taken() from None
        if stored["password_hash"] != hashed:
            if not await passwords.verify(stored["password_hash"], body.password):
                raise KeyReused
            return Registered(citizen_id=stored["_id"])
        await _tell_contact(accounts, journal, stored)
        REGISTRATIONS.inc()
        return Registered(citizen_id=stored["_id"])

    @api.get("/v1/me", summary="Your own data")
    async def me(principal: Caller) -> Me:
        return _me(await _own(principal))

    @api.patch("/v1/me", summary="Change your own data")
    async def change_me(body: ChangeMe, principal: Citizen) -> Me:
        account = await _own(principal)
        email, phone = _contact(body.email, body.phone)
        changes = {
            "name": body.name,
            "email": email,
            "phone": phone,
            "language": body.language,
        }
        changes = {name: value for name, value in changes.items() if value is not None}
        if not changes:
            return _me(account)
        after = {**account, **changes}
        logins = [login for login in (after["email"], after["phone"]) if login]
        try:
            done = await accounts.change(
                account["_id"], account["version"], {**changes, "logins": logins, "contact_due": True}
            )
        except LoginTaken:
            raise _login_taken() from None
        if not done:
            raise Problem(409, "changed-meanwhile", "Your data were changed at the same time; read them and try again.")
        changed = await _own(principal)
        await _tell_contact(accounts, journal, changed)
        return _me(changed)

    @api.get("/v1/me/accesses", summary="Who of the staff has looked up your data, when and why")
    async def my_accesses(principal: Citizen, limit: Limit = 20, cursor: Cursor = None) -> AccessPage:
        found, following = await accesses.of_citizen(principal.id, limit, cursor)
        return AccessPage(items=[Access.model_validate(access) for access in found], next=following)

    async def _own(principal: Principal) -> Document:
        account = await accounts.find(principal.id)
        if account is None:
            raise not_found("account")
        return account

    return api


class _problems:  # noqa: N801 - reads as the word it is: with _problems():
    """What is refused of an identity becomes a problem that names the field."""

    def __enter__(self) -> None: ...

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        if isinstance(error, IdentityRefused):
            raise invalid(error.field, error.detail, error.message) from None


def _contact(email: str | None, phone: str | None) -> tuple[str | None, str | None]:
    with _problems():
        return (normal_email(email) if email else None), (normal_phone(phone) if phone else None)


def _login_taken() -> Problem:
    return Problem(
        409,
        "login-taken",
        "An account with this e-mail address or phone number exists: sign in, or use another.",
        "Surel atau nomor telepon sudah terdaftar.",
    )


def _me(account: Document) -> Me:
    return Me(id=account["_id"], **{name: account[name] for name in Me.model_fields if name != "id"})
