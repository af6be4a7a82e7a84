"""Proving that an address is one's own: a challenge is made, notify sends its code there, and the code comes back.

A challenge that no code can fit (not ``fits``) is made where nobody, or somebody else, has the address: whoever asked
cannot tell the difference. A challenge is open for ten minutes and to five tries, and is used once.
"""

import asyncio
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from services.intake.challenge_store import LIVES, ChallengeStore
from services.intake.identity import IdentityRefused, normal_email, normal_phone
from shared.codes import OneTimeCodes
from shared.events import CitizenCode, now
from shared.journal import EventPublisher, Idempotency
from shared.projection import Document

Purpose = Literal["register", "sign_in", "contact", "notice"]
"""What a challenge is for; a notice is only told, and no code fits it."""
Message = Literal["register", "sign_in", "contact", "taken", "password_changed"]
Language = Literal["id", "en"]

_RETRY_SECONDS = 1.0
_LOOK_SECONDS = 2.0


class TooOften(Exception):
    """The address was written to lately, or often; ``wait`` is how long it rests."""

    def __init__(self, wait: timedelta) -> None:
        super().__init__("too often")
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Address:
    """An e-mail address or a phone number, in normal form."""

    channel: Literal["email", "sms"]
    text: str

    @classmethod
    def of(cls, login: str) -> "Address | None":
        """The address that a login is; None if it is a username."""
        with suppress(IdentityRefused):
            return cls("email", normal_email(login))
        with suppress(IdentityRefused):
            return cls("sms", normal_phone(login))
        return None

    @property
    def masked(self) -> str:
        """As it may be shown to whoever has typed it."""
        name, _, domain = self.text.partition("@")
        return f"{name[0]}***@{domain}" if self.channel == "email" else f"{name[:3]}***{name[-3:]}"


class Challenges:
    """Makes challenges, hands their messages to notify, and judges codes."""

    def __init__(self, store: ChallengeStore, codes: OneTimeCodes, publisher: EventPublisher) -> None:
        self._store = store
        self._codes = codes
        self._publisher = publisher
        self._news = asyncio.Event()

    async def make(
        self,
        purpose: Purpose,
        login: str,
        *,
        fits: bool,
        message: Message | None,
        language: Language = "id",
        once: Idempotency | None = None,
        **known: Any,
    ) -> Document:
        """A new challenge for a login in normal form, or the one that the same request made before. ``message`` is
        what is sent there (None: nothing); ``known`` is what will be needed when the code comes. Raises TooOften,
        KeyReused."""
        challenge_id = secrets.token_urlsafe(16)
        if wait := await self._store.count(self._codes.fingerprint(login), once.key if once else challenge_id):
            raise TooOften(wait)
        return await self._add(challenge_id, purpose, login, fits, message, language, once, known)

    async def tell(self, message: Message, login: str, language: Language) -> None:
        """Send a message that asks for nothing."""
        await self._add(secrets.token_urlsafe(16), "notice", login, False, message, language, None, {})

    async def _add(
        self,
        challenge_id: str,
        purpose: Purpose,
        login: str,
        fits: bool,
        message: Message | None,
        language: Language,
        once: Idempotency | None,
        known: dict[str, Any],
    ) -> Document:
        expires_at = now() + LIVES
        challenge: Document = {"_id": challenge_id, "purpose": purpose, "fits": fits, "tries": 0, **known}
        challenge["expires_at"] = expires_at
        address = Address.of(login) if message is not None else None
        challenge["message"] = {  # also where there is nobody to send it to: that must not be the quicker way
            "purpose": message or purpose,
            "channel": address.channel if address else "none",
            "address": address.text if address else "",
            "language": language,
            "expires_at": expires_at,
        }
        made = await self._store.add(challenge, once)
        self._news.set()
        return made

    async def made_by(self, once: Idempotency | None) -> Document | None:
        """The challenge that this request made before. Raises KeyReused."""
        return await self._store.made_by(once)

    async def answered(self, challenge_id: str, purpose: Purpose, code: str) -> Document | None:
        """The challenge, if the code fits and it is open; the try is counted. `use_up` ends it."""
        challenge = await self._store.attempt(challenge_id, purpose)
        right = self._codes.matches(challenge_id, code)
        return challenge if challenge is not None and right and challenge["fits"] else None

    async def use_up(self, challenge: Document) -> bool:
        """End a challenge; of several who do so, one is told True."""
        return await self._store.use_up(challenge["_id"])

    async def send(self) -> None:
        """Periodic work: bring to the brokers what waits, then wait for news. What a crash leaves is sent again, and
        notify takes each challenge once."""
        self._news.clear()
        waiting = await self._store.unsent()
        events = [
            CitizenCode(id=f"code:{one['_id']}", occurred_at=now(), challenge_id=one["_id"], **one["message"])
            for one in waiting
        ]
        if events:
            sent = set(await self._publisher.publish(events))
            await self._store.sent([event.challenge_id for event in events if event.id in sent])
            if len(sent) < len(events):
                await asyncio.sleep(_RETRY_SECONDS)
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._news.wait()


def seconds_left(challenge: Document) -> int:
    """How long a challenge is still open."""
    left: timedelta = challenge["expires_at"] - now()
    return max(0, round(left.total_seconds()))
