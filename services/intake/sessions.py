"""Sessions at work: they begin at sign-in, go on by refresh tokens that are good once, and end (RFC 9700, 4.14).

A refresh token is ``<session id>.<256 random bits>``, of which only the SHA-256 is kept. An access token names its
session (``sid``), so that services can refuse those of a session that was ended (`shared.ended_sessions`).
"""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

import structlog
from prometheus_client import Counter

from services.intake.account_store import AccountStore
from services.intake.keys import SigningKeys
from services.intake.session_store import SessionStore
from shared.auth import Principal, Verifier, named
from shared.ended_sessions import EndedSessions
from shared.events import now
from shared.projection import Document
from shared.sop import Role

log = structlog.get_logger()

REFRESHED = Counter("lapor_session_refreshes_total", "Refresh tokens that were presented.", ["outcome"])
REFRESHED.labels("renewed"), REFRESHED.labels("refused"), REFRESHED.labels("reused")

By = Literal["password", "code", "registration"]


class SessionRefused(Exception):
    """The refresh token is of no session that goes on."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long a session may rest and last: citizens' and staff's."""

    idle: timedelta
    citizen: timedelta
    staff: timedelta

    def of(self, role: Role) -> timedelta:
        """The longest that a session of this role lasts."""
        return self.citizen if role is Role.CITIZEN else self.staff


@dataclass(frozen=True, slots=True)
class Grant:
    """What somebody who has signed in gets; ``expires_in`` is the access token's life in seconds."""

    access_token: str
    expires_in: int
    refresh_token: str


class Sessions:
    """Begins, renews and ends sessions."""

    def __init__(
        self, store: SessionStore, accounts: AccountStore, keys: SigningKeys, lifetimes: Lifetimes, verifier: Verifier
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._keys = keys
        self._lifetimes = lifetimes
        self._verifier = verifier
        self.ended = EndedSessions(ended=[], seconds=keys.lifetime.total_seconds())
        """For the other services; as of the last look."""

    async def begin(self, principal: Principal, by: By) -> Grant:
        """A new session of somebody who has proven who they are."""
        session_id, secret, at = secrets.token_urlsafe(16), secrets.token_urlsafe(32), now()
        until = at + self._lifetimes.of(principal.role)
        await self._store.add(
            {
                "_id": session_id,
                "account_id": principal.id,
                "by": by,
                "began_at": at,
                "used_at": at,
                "until": until,
                "expires_at": min(until, at + self._lifetimes.idle),
                "current": _hash(secret),
                "previous": None,
                "ended_at": None,
            }
        )
        return self._grant(principal, session_id, secret)

    async def refresh(self, token: str) -> Grant:
        """The next pair for a refresh token. One that was used before, and whose successor was used, is in wrong
        hands: it ends the session. Raises SessionRefused."""
        session_id, _, secret = token.partition(".")
        session = await self._store.find(session_id)
        account = await self._accounts.find(session["account_id"]) if session else None
        if session is None or account is None or not account["active"]:
            if session is not None:
                await self.end(session_id)
            REFRESHED.labels("refused").inc()
            raise SessionRefused
        new, until = secrets.token_urlsafe(32), session["until"]
        expires_at = min(until, now() + self._lifetimes.idle)
        if await self._store.rotate(session_id, _hash(secret), _hash(new), expires_at):
            REFRESHED.labels("renewed").inc()
            return self._grant(person(account), session_id, new)
        if await self.end(session_id):
            log.warning("a refresh token came again; its session is ended", account=account["_id"])
            REFRESHED.labels("reused").inc()
        raise SessionRefused

    async def end(self, session_id: str, account_id: str | None = None) -> bool:
        """End one session; False if there is none such."""
        ended = await self._store.end(session_id, account_id)
        if ended:
            self._forget([session_id])
        return ended

    async def end_all(self, account_id: str, but: str | None = None) -> None:
        """End an account's sessions, but for one if it is named."""
        self._forget(await self._store.end_all(account_id, but))

    async def of_account(self, account_id: str) -> list[Document]:
        """The sessions of an account that go on, the newest first."""
        return await self._store.of_account(account_id)

    async def began(self, session_id: str) -> tuple[By, datetime] | None:
        """How and when a session began; None if it does not go on."""
        session = await self._store.find(session_id)
        return (session["by"], session["began_at"]) if session else None

    async def learn(self) -> None:
        """Periodic work: what any replica has ended is told to the other services, and not accepted here either."""
        ended = await self._store.ended_since(now() - self._keys.lifetime)
        self._forget(ended)
        self.ended = EndedSessions(ended=[named(one) for one in ended], seconds=self._keys.lifetime.total_seconds())

    def _forget(self, session_ids: Iterable[str]) -> None:
        self._verifier.end((named(one) for one in session_ids), self._keys.lifetime.total_seconds())

    def _grant(self, principal: Principal, session_id: str, secret: str) -> Grant:
        token, seconds = self._keys.token(replace(principal, session=session_id))
        return Grant(token, seconds, f"{session_id}.{secret}")


def person(account: Document) -> Principal:
    """Whoever an account is of."""
    return Principal(account["_id"], Role(account["role"]), account["agency"])


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
