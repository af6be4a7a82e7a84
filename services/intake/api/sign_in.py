"""Signing in over HTTP, and the public keys by which its tokens are verified."""

from dataclasses import asdict
from typing import Any, Literal, Self

from fastapi import APIRouter
from prometheus_client import Counter
from pydantic import BaseModel, Field

from services.intake.account_store import AccountStore
from services.intake.identity import Passwords, normal_login
from services.intake.keys import SigningKeys
from services.intake.sessions import Grant, SessionRefused, Sessions
from shared.http import Problem

SIGN_INS = Counter("lapor_sign_ins_total", "Attempts to sign in.", ["outcome"])
SIGN_INS.labels("accepted"), SIGN_INS.labels("refused")


class SignIn(BaseModel):
    login: str = Field(max_length=254, description="e-mail address, phone number or staff username")
    password: str = Field(max_length=128)


class Token(BaseModel):
    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - RFC 6750's name of the scheme
    expires_in: int = Field(description="seconds")
    refresh_token: str = Field(description="good once, for the next pair")

    @classmethod
    def of(cls, grant: Grant) -> Self:
        return cls(**asdict(grant))


class Refresh(BaseModel):
    refresh_token: str = Field(max_length=200)


def router(accounts: AccountStore, passwords: Passwords, keys: SigningKeys, sessions: Sessions) -> APIRouter:
    """The routes of sign-in."""
    api = APIRouter(tags=["people"])

    @api.post("/v1/tokens", summary="Sign in")
    async def sign_in(body: SignIn) -> Token:
        account = await accounts.by_login(normal_login(body.login))
        usable = account if account and account["active"] else None
        if not await passwords.verify(usable["password_hash"] if usable else None, body.password) or usable is None:
            SIGN_INS.labels("refused").inc()
            detail = "Login or password is wrong, or the account is closed."
            raise Problem(401, "sign-in-refused", detail, "Nama pengguna atau kata sandi salah.")
        if passwords.outdated(usable["password_hash"]):
            await accounts.rehashed(usable["_id"], await passwords.hash(body.password))
        SIGN_INS.labels("accepted").inc()
        return Token.of(await sessions.begin(usable, "password"))

    @api.post("/v1/tokens/refresh", summary="The next pair of tokens for a refresh token")
    async def refresh(body: Refresh) -> Token:
        try:
            return Token.of(await sessions.refresh(body.refresh_token))
        except SessionRefused:
            detail = "The session has ended, or this refresh token was used before. Sign in again."
            raise Problem(401, "session-ended", detail, "Sesi Anda telah berakhir. Silakan masuk kembali.") from None

    @api.get("/.well-known/jwks.json", summary="The keys that tokens are verified by (RFC 7517)")
    async def jwks() -> dict[str, list[dict[str, Any]]]:
        return keys.jwks

    return api
