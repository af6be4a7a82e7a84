"""Signing in over HTTP, and the public keys by which its tokens are verified."""

from typing import Any, Literal

from fastapi import APIRouter, Request
from prometheus_client import Counter
from pydantic import BaseModel, Field

from services.intake.account_store import AccountStore
from services.intake.attempts import Attempts
from services.intake.identity import Passwords, normal_login
from services.intake.keys import SigningKeys
from services.intake.second_factor import SecondFactors
from shared.http import Problem

SIGN_INS = Counter("lapor_sign_ins_total", "Attempts to sign in.", ["outcome"])
SIGN_INS.labels("accepted"), SIGN_INS.labels("refused")


class SignIn(BaseModel):
    login: str = Field(max_length=254, description="e-mail address, phone number or staff username")
    password: str = Field(max_length=128)
    otp: str | None = Field(
        None, max_length=40, description="for accounts with a second factor: the app's code, or a recovery code"
    )


class Token(BaseModel):
    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - RFC 6750's name of the scheme
    expires_in: int = Field(description="seconds")


def router(
    accounts: AccountStore,
    passwords: Passwords,
    keys: SigningKeys,
    attempts: Attempts,
    second_factors: SecondFactors,
) -> APIRouter:
    """The routes of sign-in."""
    api = APIRouter(tags=["people"])

    @api.post("/v1/tokens", summary="Sign in")
    async def sign_in(body: SignIn, request: Request) -> Token:
        login = normal_login(body.login)
        principal = None
        async with attempts.trying(login, request.scope) as attempt:
            account = await accounts.by_login(login)
            usable = account if account and account["active"] else None
            right = await passwords.verify(usable["password_hash"] if usable else None, body.password)
            if usable is not None and right:
                principal = await second_factors.admit(usable, body.otp)
            await attempt.ended(right=principal is not None)
        if usable is None or principal is None:
            SIGN_INS.labels("refused").inc()
            detail = "Login or password is wrong, or the account is closed."
            raise Problem(401, "sign-in-refused", detail, "Nama pengguna atau kata sandi salah.")
        if passwords.outdated(usable["password_hash"]):
            await accounts.rehashed(usable["_id"], await passwords.hash(body.password))
        SIGN_INS.labels("accepted").inc()
        token, seconds = keys.token(principal)
        return Token(access_token=token, expires_in=seconds)

    @api.get("/.well-known/jwks.json", summary="The keys that tokens are verified by (RFC 7517)")
    async def jwks() -> dict[str, list[dict[str, Any]]]:
        return keys.jwks

    return api
