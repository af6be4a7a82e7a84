"""Machine accounts (RFC 6749, section 2): agencies' systems and frontends, which are made by command and sign in by a
secret of their own for tokens of some scopes.

A secret has 256 random bits, so that one fast hash keeps it and nobody guesses it. Rotating gives a new one and lets
the one before live on for a while, so that a system can be moved from one to the other without a pause.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from services.intake.client_store import ClientStore
from services.intake.identity import IdentityRefused
from shared.audit import Action, operator
from shared.audit_store import audit_log
from shared.auth import Principal
from shared.events import new_id, now
from shared.issuers import GIVABLE
from shared.projection import Document
from shared.scopes import GRANTABLE
from shared.settings import ServiceSettings
from shared.sop import Role
from shared.storage import connect

ROLES = GIVABLE | {Role.SYSTEM}
"""What a machine can be: what staff are, and notify's own account, which fetches photos for the e-mails."""
LONGEST_OVERLAP = timedelta(days=30)
_ID = re.compile(r"[a-z0-9][a-z0-9-]{1,63}")


@dataclass(frozen=True, slots=True)
class Client:
    """A machine account to be made. ``agency`` is the code of an agency, for its systems and only for them."""

    name: str
    role: Role
    scopes: Collection[str]
    agency: str | None = None
    id: str = field(default_factory=lambda: f"client-{new_id()}")

    def check(self) -> None:
        """Raises IdentityRefused for what cannot be."""
        if self.role not in ROLES:
            raise IdentityRefused("role", "No machine has this role.", "Peran ini bukan untuk mesin.")
        if (self.role is Role.AGENCY_OPERATOR) != bool(self.agency):
            raise IdentityRefused(
                "agency", "An agency's system has the agency's code, and no other has.", "Kode OPD tidak sesuai peran."
            )
        unknown = sorted(set(self.scopes) - GRANTABLE)
        if unknown or not self.scopes:
            what = f"There is no scope {unknown[0]}" if unknown else "A machine account needs a scope"
            raise IdentityRefused("scope", f"{what}; choose of {', '.join(sorted(GRANTABLE))}.", "Cakupan salah.")
        if not 2 <= len(self.name) <= 100 or not self.name.isprintable():
            raise IdentityRefused("name", "A name is one line of 2 to 100 characters.", "Nama 2 sampai 100 karakter.")
        if not _ID.fullmatch(self.id):
            raise IdentityRefused("id", "An id has small letters, digits and hyphens.", "Id tidak benar.")


def hashed(secret: str) -> str:
    """A secret as it is stored."""
    return hashlib.sha256(secret.encode()).hexdigest()


def admitted(client: Document | None, secret: str) -> Principal | None:
    """The account of a client whose secret this is, with all of its scopes; None if it is not, or the account is
    closed. One that does not exist (None) costs the same."""
    moment, given = now(), hashed(secret)
    known: list[Document] = client["secrets"] if client else [{"sha256": hashed(""), "ends": None}]
    fits = False
    for kept in known:
        right = hmac.compare_digest(kept["sha256"], given)
        fits = fits or (right and (kept["ends"] is None or moment < kept["ends"]))
    if client is None or not fits or not client["active"]:
        return None
    return Principal(client["_id"], Role(client["role"]), client["agency"], scopes=frozenset(client["scopes"]))


async def add_client(settings: ServiceSettings, client: Client) -> str:
    """Make a machine account; its secret, which is kept nowhere. Raises IdentityRefused, and UnusableKey without the
    audit log's key."""
    client.check()
    secret = secrets.token_urlsafe(32)
    scopes = "/".join(sorted(client.scopes))  # in an audit entry no fact has a space
    await _recorded(settings, Action.CLIENT_MADE, client.id, scopes=scopes, agency=client.agency)
    await put_client(settings, client, secret)
    return secret


async def put_client(settings: ServiceSettings, client: Client, secret: str) -> None:
    """Make a machine account with a secret that its user has already, or bring it up to date. Raises IdentityRefused
    before anything is changed."""
    client.check()
    fields = {
        "name": client.name,
        "role": client.role.value,
        "agency": client.agency,
        "scopes": sorted(client.scopes),
        "secrets": [{"sha256": hashed(secret), "ends": None}],
    }
    async with _store(settings) as store:
        await store.put(client.id, fields)


async def list_clients(settings: ServiceSettings) -> list[Document]:
    """All machine accounts, without their secrets."""
    async with _store(settings) as store:
        return await store.all()


async def disable_client(settings: ServiceSettings, client_id: str) -> bool:
    """End an account; False if there is none. Tokens that were given end by themselves."""
    async with _store(settings) as store:
        client = await store.find(client_id)
        if client is None:
            return False
        await _recorded(settings, Action.CLIENT_DISABLED, client_id)
        return await store.change(client, {"active": False})


async def rotate_client(settings: ServiceSettings, client_id: str, overlap: timedelta) -> str | None:
    """A new secret; the one in force until now lives on for ``overlap`` (at most `LONGEST_OVERLAP`), any older one ends
    now. None if there is no such account, or somebody else changed it at the same time."""
    secret = secrets.token_urlsafe(32)
    async with _store(settings) as store:
        client = await store.find(client_id)
        if client is None:
            return None
        await _recorded(settings, Action.CLIENT_ROTATED, client_id)
        before = [{**kept, "ends": now() + overlap} for kept in client["secrets"] if kept["ends"] is None]
        in_force = [{"sha256": hashed(secret), "ends": None}, *(before if overlap else [])]
        return secret if await store.change(client, {"secrets": in_force}) else None


async def _recorded(settings: ServiceSettings, action: Action, client_id: str, **facts: str | None) -> None:
    """Write down what is about to be done to a machine account."""
    connection = connect(settings)
    try:
        audit = audit_log(connection[settings.database("intake")], "intake", settings.audit_key_file)
        await audit.record(action, operator(), client_id, **facts)
    finally:
        connection.close()


@asynccontextmanager
async def _store(settings: ServiceSettings) -> AsyncIterator[ClientStore]:
    connection = connect(settings)
    try:
        yield ClientStore(connection[settings.database("intake")])
    finally:
        connection.close()
