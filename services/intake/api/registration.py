"""Registering over HTTP: an account exists once a one-time code has shown that its address is the citizen's own.

Whether an address is taken is told to nobody but its owner, by a message in the place of the code.
"""

from contextlib import suppress
from typing import Annotated, Literal

from fastapi import APIRouter, Header
from prometheus_client import Counter
from pydantic import BaseModel, Field

from services.intake.account_store import AccountStore, LoginTaken
from services.intake.api.contacts import Contacts, Pending, code_refused, login_taken
from services.intake.api.forms import Language, Name
from services.intake.api.sign_in import Token
from services.intake.challenges import Address, Challenges, seconds_left
from services.intake.identity import NewAccount, Passwords, check_password
from services.intake.password_rules import LONGEST, SHORTEST
from services.intake.sessions import Sessions, person
from shared.events import now
from shared.http import Body, Problem, invalid
from shared.journal import Idempotency, KeyReused
from shared.projection import Document
from shared.sop import Role

REGISTRATIONS = Counter("lapor_registrations_total", "Citizens that have registered.")


class Register(Body):
    """A citizen registers with an e-mail address, a phone number, or both; of both, the e-mail address comes first."""

    name: Name
    email: str | None = Field(None, max_length=254, examples=["siti@warga.example"])
    phone: str | None = Field(None, max_length=30, examples=["0812-3456-7890"])
    password: str = Field(min_length=SHORTEST, max_length=LONGEST, examples=["sungai kapuas sore hari"])
    language: Language = "id"


class Registration(BaseModel):
    """A code is on its way, if nobody has the address yet."""

    registration_id: str
    channel: Literal["email", "sms"]
    sent_to: str = Field(description="the address, with most of it hidden")
    expires_in: int = Field(description="seconds")


class Confirm(Body):
    registration_id: str = Field(max_length=100)
    code: str = Field(max_length=20, description="the six digits that were sent", examples=["042137"])


class Registered(Token):
    """The account, signed in. ``pending``: a phone number that waits for a code of its own."""

    citizen_id: str
    pending: list[Pending]


def router(
    accounts: AccountStore, challenges: Challenges, contacts: Contacts, passwords: Passwords, sessions: Sessions
) -> APIRouter:
    """The routes of registration."""
    api = APIRouter(tags=["people"])

    @api.post("/v1/citizens", summary="Register: a code is sent to the address", status_code=202)
    async def register(
        body: Register,
        idempotency_key: Annotated[str | None, Header(min_length=8, max_length=200)] = None,
    ) -> Registration:
        email, phone = contacts.normal(body.email, body.phone)
        login = email or phone
        address = Address.of(login) if login else None
        if login is None or address is None:
            raise invalid("body.email", "Give an e-mail address or a phone number.", "Isi surel atau nomor telepon.")
        once = None
        if idempotency_key:  # without the password: this hash is fast, and a stolen one must not serve to guess it
            asked = body.model_dump_json(exclude={"password"}).encode()
            once = Idempotency.of("anonymous", "POST /v1/citizens", idempotency_key, asked)
        with contacts.problems():
            check_password(body.password, body.name, email, phone)
        hashed = await passwords.hash(body.password)
        challenge = await challenges.made_by(once)
        if challenge is None:
            taken = await accounts.by_login(login) is not None
            new = NewAccount((login,), Role.CITIZEN, body.name, hashed, email, None if email else phone, body.language)
            with contacts.problems():
                challenge = await challenges.make(
                    "register",
                    login,
                    fits=not taken,
                    message="taken" if taken else "register",
                    language=body.language,
                    once=once,
                    account=new.document(),
                    phone=phone if email else None,
                )
        stored = challenge["account"]["password_hash"]
        if stored != hashed and not await passwords.verify(stored, body.password):
            raise KeyReused
        return Registration(
            registration_id=challenge["_id"],
            channel=address.channel,
            sent_to=address.masked,
            expires_in=seconds_left(challenge),
        )

    @api.post("/v1/citizens/confirm", summary="Confirm the registration by the code", status_code=201)
    async def confirm(body: Confirm) -> Registered:
        challenge = await challenges.answered(body.registration_id, "register", body.code)
        if challenge is None:
            raise code_refused()
        account: Document = {**challenge["account"], "created_at": now()}
        try:
            await accounts.add(account)
        except LoginTaken:
            if await accounts.find(account["_id"]):  # the same code, a moment ago
                raise code_refused() from None
            raise login_taken() from None  # who has the code may know it
        await challenges.use_up(challenge)
        await contacts.tell(account)
        REGISTRATIONS.inc()
        pending: list[Pending] = []
        with suppress(Problem):  # the phone was written to a moment ago: it can be added later
            pending = await contacts.ask(account, {"phone": challenge["phone"]} if challenge["phone"] else {})
        grant = await sessions.begin(person(account), "registration")
        return Registered(**Token.of(grant).model_dump(), citizen_id=account["_id"], pending=pending)

    return api
