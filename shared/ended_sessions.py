"""Sign-out reaches every service: intake tells which sessions were ended, and each service's verifier reads it in the
background, never while somebody waits.

Without intake a service goes on with what it knows: access tokens end by themselves within minutes. What is told is the
SHA-256 of a session's id, which is of use to nobody.
"""

import asyncio
from datetime import timedelta

import httpx
import structlog
from pydantic import BaseModel, Field

from shared.auth import Verifier

log = structlog.get_logger()

PATH = "/.well-known/ended-sessions"
EVERY = timedelta(seconds=5)
_SECONDS = 4.0


class EndedSessions(BaseModel):
    """Sessions that were ended within the last ``seconds``, the longest that a token of theirs lives."""

    ended: list[str] = Field(description="SHA-256 of each session's id, in hex")
    seconds: float


class EndedSessionsReader:
    """Keeps a verifier informed."""

    def __init__(self, intake_url: str, verifier: Verifier) -> None:
        self._url = intake_url + PATH
        self._verifier = verifier
        # by itself the client ends a connection after five seconds, just before it is used again
        lasting = httpx.Limits(keepalive_expiry=3 * EVERY.total_seconds())
        self._client = httpx.AsyncClient(timeout=_SECONDS, limits=lasting)
        self._away = False

    async def read(self) -> None:
        """Ask intake once. Periodic work; that it is away is no failure."""
        try:
            async with asyncio.timeout(_SECONDS):
                answer = await self._client.get(self._url)
            answer.raise_for_status()
            told = EndedSessions.model_validate_json(answer.content)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
            if not self._away:
                log.warning("sign-outs are not heard of until intake is back", reason=type(error).__name__)
            self._away = True
            return
        self._away = False
        self._verifier.end(told.ended, told.seconds)

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()
