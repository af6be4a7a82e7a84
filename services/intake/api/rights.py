"""A citizen's rights over their data, over HTTP (UU PDP 27/2022): to have them kept and not used, and to have them
deleted. To see and correct them: `services.intake.api.people`."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from services.intake.account_store import AccountStore
from services.intake.api.contacts import Contacts
from services.intake.api.proof import Proof
from services.intake.erasure import Erasure
from services.intake.restrictions import Restrictions
from shared.audit import Action, AuditLog
from shared.auth import Principal
from shared.events import now
from shared.http import Body, Problem, any_of, not_found
from shared.projection import Document
from shared.sop import Role

Citizen = Annotated[Principal, any_of(Role.CITIZEN)]


class Restriction(BaseModel):
    """``restricted_at``: since when the data are kept and not used; null: they are used."""

    restricted_at: datetime | None


class Delete(Body):
    """Without ``current_password`` it takes a session that began by a code a moment ago."""

    current_password: str | None = Field(None, max_length=128)


class Deleted(BaseModel):
    """What was done, and what stays."""

    deleted_at: datetime
    message: str = Field(description="for the citizen's screen, in Indonesian")


_STAYS = (
    "Data diri Anda telah dihapus dan Anda telah keluar dari semua perangkat. Laporan Anda tetap tercatat tanpa nama "
    "dan kontak Anda; dengan nomor dan kode pelacakan, perkembangannya masih dapat dilihat."
)


def router(
    accounts: AccountStore,
    contacts: Contacts,
    restrictions: Restrictions,
    erasure: Erasure,
    proof: Proof,
    audit: AuditLog,
) -> APIRouter:
    """The routes of these rights."""
    api = APIRouter(tags=["people"])

    @api.put("/v1/me/restriction", summary="Have your data kept and not used: no e-mails, nobody looks you up")
    async def restrict(principal: Citizen) -> Restriction:
        return await _set(principal, now())

    @api.delete("/v1/me/restriction", summary="Let your data be used again")
    async def lift(principal: Citizen) -> Restriction:
        return await _set(principal, None)

    @api.post("/v1/me/deletion", summary="Delete your data; your cases stay, without you", status_code=202)
    async def delete(body: Delete, principal: Citizen) -> Deleted:
        account = await _own(principal)
        await proof.of(account, principal, body.current_password)
        await audit.record(Action.DATA_DELETED, principal.id, principal.id)
        if not await erasure.begin(account):
            raise _changed()
        return Deleted(deleted_at=now(), message=_STAYS)

    async def _own(principal: Principal) -> Document:
        account = await accounts.find(principal.id)
        if account is None or not account["active"]:
            raise not_found("account")
        return account

    async def _set(principal: Principal, at: datetime | None) -> Restriction:
        account = await _own(principal)
        known = account.get("restricted_at")
        if (known is None) == (at is None):
            return Restriction(restricted_at=known)
        await audit.record(Action.DATA_RESTRICTED, principal.id, principal.id, restricted=at is not None)
        changes = {"restricted_at": at, "contact_due": True}
        if not await accounts.change(account["_id"], account["version"], changes):
            raise _changed()
        restrictions.learn_one(account["_id"], restricted=at is not None)
        await contacts.tell({**account, **changes, "version": account["version"] + 1})
        return Restriction(restricted_at=at)

    return api


def _changed() -> Problem:
    return Problem(409, "changed-meanwhile", "Your data were changed at the same time; try again.")
