"""Signing in over HTTP, by password or by a one-time code, and the public keys by which its tokens are verified."""

from dataclasses import asdict
from typing import Annotated, Any, Literal, Self

import structlog
from fastapi import APIRouter, Request, Response
from prometheus_client import Counter
from pydantic import BaseModel, Field
from starlette.types import Scope

from services.intake.account_store import AccountStore
from services.intake.api.contacts import Contacts
from services.intake.api.proof import Proof
from services.intake.attempts import Attempts
from services.intake.challenges import Address, Challenges, seconds_left
from services.intake.identity import Passwords, check_password, normal_login
from services.intake.keys import SigningKeys
from services.intake.password_rules import LONGEST, SHORTEST
from services.intake.second_factor import SecondFactors
from services.intake.sessions import Grant, SessionRefused, Sessions, person
from shared import telemetry
from shared.audit import Action, AuditLog
from shared.auth import Principal
from shared.http import Body, Problem, any_of, not_found
from shared.scopes import PEOPLE
from shared.sop import Role

Person = Annotated[Principal, any_of(scope=PEOPLE)]

log = structlog.get_logger()

SIGN_INS = Counter("lapor_sign_ins_total", "Attempts to sign in.", ["outcome"])
SIGN_INS.labels("accepted"), SIGN_INS.labels("refused")


class SignIn(Body):
    login: str = Field(max_length=254, description="e-mail address, phone number or staff username")
    password: str = Field(max_length=128)
    otp: str | None = Field(
        None, max_length=40, description="for accounts with a second factor: the app's code, or a recovery code"
    )


class SignInByCode(Body):
    challenge_id: str = Field(max_length=100)
    code: str = Field(max_length=20, description="the six digits that were sent", examples=["042137"])


class AskCode(Body):
    login: str = Field(max_length=254, description="e-mail address or phone number")


class Challenge(BaseModel):
    """If the login is a citizen's, a code is on its way; the answer is the same if it is nobody's."""

    challenge_id: str
    expires_in: int = Field(description="seconds")


class Token(BaseModel):
    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - RFC 6750's name of the scheme
    expires_in: int = Field(description="seconds")
    refresh_token: str | None = Field(
        None, description="good once, for the next pair; none where a second factor has to be set up first"
    )

    @classmethod
    def of(cls, grant: Grant) -> Self:
        """As it is answered."""
        return cls(**asdict(grant))


class Refresh(Body):
    refresh_token: str = Field(max_length=200)


class NewPassword(Body):
    """Without ``current_password`` it takes a session that began by a code a moment ago."""

    new_password: str = Field(min_length=SHORTEST, max_length=LONGEST)
    current_password: str | None = Field(None, max_length=128)


def router(
    accounts: AccountStore,
    passwords: Passwords,
    keys: SigningKeys,
    sessions: Sessions,
    challenges: Challenges,
    contacts: Contacts,
    proof: Proof,
    attempts: Attempts,
    second_factors: SecondFactors,
    audit: AuditLog,
) -> APIRouter:
    """The routes of sign-in."""
    api = APIRouter(tags=["people"])

    @api.post("/v1/tokens", summary="Sign in, by password or by a code that was sent")
    async def sign_in(body: SignIn | SignInByCode, request: Request) -> Token:
        if isinstance(body, SignIn):
            admitted = await _by_password(body, request.scope)
            detail = "Login or password is wrong, or the account is closed."
            message = "Nama pengguna atau kata sandi salah."
        else:
            admitted = await _by_code(body)
            detail = "The code is wrong, used or expired, or it was tried too often. Ask for a new one."
            message = "Kode salah atau sudah tidak berlaku. Mintalah kode baru."
        SIGN_INS.labels("refused" if admitted is None else "accepted").inc()
        if admitted is None:
            raise Problem(401, "sign-in-refused", detail, message)
        telemetry.bind_account(admitted.id)
        log.info("signed in", by="password" if isinstance(body, SignIn) else "code", role=admitted.role.value)
        if admitted.scopes is not None:  # to set a second factor up and for nothing else: no session
            token, seconds = keys.token(admitted)
            return Token(access_token=token, expires_in=seconds)
        return Token.of(await sessions.begin(admitted, "password" if isinstance(body, SignIn) else "code"))

    @api.post("/v1/codes", summary="Have a code sent, to sign in without a password", status_code=202)
    async def ask_code(body: AskCode) -> Challenge:
        login = normal_login(body.login)
        address = Address.of(login)
        if address is not None:
            contacts.reachable(address.channel, "body.login")
        account = await accounts.by_login(login)
        fits = account is not None and account["active"] and account["role"] == Role.CITIZEN.value
        with contacts.problems():
            challenge = await challenges.make(
                "sign_in",
                login,
                fits=fits,
                message="sign_in" if fits else None,
                language=account["language"] if account and fits else "id",
                account_id=account["_id"] if account and fits else None,
            )
        return Challenge(challenge_id=challenge["_id"], expires_in=seconds_left(challenge))

    @api.post("/v1/tokens/refresh", summary="The next pair of tokens for a refresh token")
    async def refresh(body: Refresh) -> Token:
        try:
            return Token.of(await sessions.refresh(body.refresh_token))
        except SessionRefused:
            detail = "The session has ended, or this refresh token was used before. Sign in again."
            raise Problem(401, "session-ended", detail, "Sesi Anda telah berakhir. Silakan masuk kembali.") from None

    @api.put("/v1/me/password", summary="Set a new password; all other sessions end", status_code=204)
    async def new_password(body: NewPassword, principal: Person) -> Response:
        account = await accounts.find(principal.id)
        if account is None:
            raise not_found("account")
        with contacts.problems():
            check_password(body.new_password, account["name"], account["email"], account["phone"])
        await proof.of(account, principal, body.current_password)
        hashed = await passwords.hash(body.new_password)
        await audit.record(Action.PASSWORD_CHANGED, principal.id, principal.id)
        if not await accounts.change(account["_id"], account["version"], {"password_hash": hashed}):
            raise Problem(409, "changed-meanwhile", "Your data were changed at the same time; try again.")
        await sessions.end_all(account["_id"], but=principal.session)
        if login := account["email"] or account["phone"]:
            await challenges.tell("password_changed", login, account["language"])
        return Response(status_code=204)

    @api.get("/.well-known/jwks.json", summary="The keys that tokens are verified by (RFC 7517)")
    async def jwks() -> dict[str, list[dict[str, Any]]]:
        return keys.jwks

    async def _by_password(body: SignIn, scope: Scope) -> Principal | None:
        """Who it is whose password it is, and whose second factor where there is one. Raises 401 without that, 429."""
        login = normal_login(body.login)
        principal = None
        async with attempts.trying(login, scope) as attempt:
            account = await accounts.by_login(login)
            usable = account if account and account["active"] else None
            if usable is not None:
                telemetry.bind_account(usable["_id"])
            right = await passwords.verify(usable["password_hash"] if usable else None, body.password)
            if usable is not None and right:
                principal = await second_factors.admit(usable, body.otp)
            await attempt.ended(right=principal is not None)
        if usable is not None and principal is not None and passwords.outdated(usable["password_hash"]):
            await accounts.rehashed(usable["_id"], await passwords.hash(body.password))
        return principal

    async def _by_code(body: SignInByCode) -> Principal | None:
        challenge = await challenges.answered(body.challenge_id, "sign_in", body.code)
        if challenge and challenge["account_id"]:
            telemetry.bind_account(challenge["account_id"])
        account = await accounts.find(challenge["account_id"]) if challenge else None
        if challenge is None or account is None or not account["active"] or not await challenges.use_up(challenge):
            return None
        return person(account)

    return api
