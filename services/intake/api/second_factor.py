"""Setting a second factor up and taking it away, over HTTP: for staff, by themselves."""

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from services.intake.account_store import AccountStore
from services.intake.attempts import Attempts
from services.intake.second_factor import SecondFactors
from services.intake.sessions import Sessions
from shared.audit import Action, AuditLog
from shared.auth import Principal
from shared.http import Body, Problem, any_of, invalid, not_found
from shared.issuers import GIVABLE
from shared.scopes import SECOND_FACTOR

Staff = Annotated[Principal, any_of(*GIVABLE, scope=SECOND_FACTOR)]


class Code(Body):
    """What the authenticator app shows; where one is in force, a recovery code as well."""

    code: str = Field(min_length=6, max_length=40, examples=["123456"])


class Begun(BaseModel):
    """A secret for the authenticator app, by hand or as a QR code of ``uri``. It is not in force yet."""

    secret: str = Field(description="base 32")
    uri: str = Field(description="otpauth://totp/…")


class Confirmed(BaseModel):
    """Shown once: each lets one in without the app, once."""

    recovery_codes: list[str]


def router(
    accounts: AccountStore, second_factors: SecondFactors, attempts: Attempts, sessions: Sessions, audit: AuditLog
) -> APIRouter:
    """The routes of the second factor."""
    api = APIRouter(prefix="/v1/me/second-factor", tags=["people"])

    @api.post("", summary="Begin a second factor: a secret for the authenticator app", status_code=201)
    async def begin(principal: Staff) -> Begun:
        account = await accounts.find(principal.id)
        if account is None:  # somebody of another issuer, which has factors of its own
            raise not_found("account")
        begun = await second_factors.begin(account)
        if begun is None:
            raise Problem(
                409,
                "second-factor-active",
                "A second factor is in force: take it away first (DELETE, with a code of it).",
                "Faktor kedua sudah aktif.",
            )
        return Begun(secret=begun[0], uri=begun[1])

    @api.post("/confirm", summary="Put it in force, by a code of it; gives the recovery codes, once")
    async def confirm(body: Code, principal: Staff) -> Confirmed:
        factor = await second_factors.find(principal.id)
        if factor is None or factor["active"]:
            raise Problem(
                409,
                "no-second-factor-begun",
                "There is none to confirm: POST /v1/me/second-factor gives a secret.",
                "Tidak ada faktor kedua yang perlu dikonfirmasi.",
            )
        await audit.record(Action.SECOND_FACTOR_ENABLED, principal.id, principal.id)
        codes = await second_factors.confirm(factor, body.code)
        if codes is None:
            raise _wrong_code()
        await sessions.end_all(principal.id, but=principal.session)
        return Confirmed(recovery_codes=codes)

    @api.delete("", summary="Take it away, by a code of it or a recovery code", status_code=204)
    async def remove(body: Code, principal: Staff, request: Request) -> None:
        factor = await second_factors.find(principal.id)
        if factor is None or not factor["active"]:
            raise not_found("second factor")
        async with attempts.trying(f"second factor of {principal.id}", request.scope) as attempt:
            await audit.record(Action.SECOND_FACTOR_DISABLED, principal.id, principal.id)
            removed = await second_factors.remove(factor, body.code)
            await attempt.ended(right=removed)
        if not removed:
            raise _wrong_code()
        await sessions.end_all(principal.id, but=principal.session)

    return api


def _wrong_code() -> Problem:
    return invalid(
        "body.code", "This code is wrong or was used; wait for the next one.", "Kode salah atau kedaluwarsa."
    )
