"""Proof that it is really the account's owner who asks, for what cannot be undone."""

from datetime import timedelta

from services.intake.identity import Passwords
from services.intake.sessions import Sessions
from shared.auth import Principal
from shared.events import now
from shared.http import Problem
from shared.projection import Document

PROVEN_FOR = timedelta(minutes=10)
"""How long a sign-in by a code stands for the password."""


class Proof:
    """Judges it: the current password, or a session that began by a code a moment ago."""

    def __init__(self, passwords: Passwords, sessions: Sessions) -> None:
        self._passwords = passwords
        self._sessions = sessions

    async def of(self, account: Document, principal: Principal, current_password: str | None) -> None:
        """Raises 403 without it."""
        if current_password is not None:
            proven = await self._passwords.verify(account["password_hash"], current_password)
        else:
            began = await self._sessions.began(principal.session) if principal.session else None
            proven = began is not None and began[0] == "code" and now() - began[1] <= PROVEN_FOR
        if not proven:
            detail = (
                "Give your current password. If you have forgotten it, sign in by a code and ask again within "
                f"{PROVEN_FOR.seconds // 60} minutes."
            )
            raise Problem(403, "proof-needed", detail, "Kata sandi saat ini salah atau belum diisi.")
