"""The door of a service: as many requests at a time as it can serve soon, none while its database is away, and a quick,
clear no to the others.

Whoever waits in a queue that is too long has gone by the time of the answer, and the service has done the work for
nobody. So what is beyond the bound is told at once when to come again (RFC 9110, section 15.6.4), which costs next to
nothing, and those inside are served as fast as ever. Health and metrics are not bounded: they are asked for most when
it is crowded.
"""

import asyncio
from collections.abc import Callable

from prometheus_client import Counter
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REFUSED = Counter(
    "lapor_http_requests_refused_total", "Requests refused at the door: too many were inside, or the database was away."
)

TOO_LARGE = "The request's body is larger than {} bytes. Send less."
_LEAVE = {"Connection": "close"}
"""Who sends more, or more slowly, than is taken is not read any further."""

_UNBOUNDED = ("/health/", "/metrics", "/.well-known/")
_WITHOUT_BODY = ("GET", "HEAD", "OPTIONS")
_UPLOADS = "/photos"


class Admission:
    """ASGI middleware: at most ``most`` requests inside, and none while ``away()``; ``refusal`` answers the others."""

    def __init__(self, app: ASGIApp, most: int, refusal: ASGIApp, away: Callable[[], bool] = lambda: False) -> None:
        self._app = app
        self._most = most
        self._away = away
        self._refusal = refusal
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_UNBOUNDED):
            await self._app(scope, receive, send)
            return
        if self._inside >= self._most or self._away():
            REFUSED.inc()
            await self._refusal(scope, receive, send)
            return
        self._inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1


class BodyLimit:
    """ASGI middleware: bodies of at most ``most`` bytes that are there within ``seconds``; ``refusal`` answers what
    says that it is larger, and what turns out to be so is broken off with 413, or 408 if it takes too long. Uploads
    have limits of their own (`shared.photos`)."""

    def __init__(self, app: ASGIApp, most: int, refusal: ASGIApp, seconds: float = 30) -> None:
        self._app = app
        self._most = most
        self._seconds = seconds
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _WITHOUT_BODY or scope["path"].endswith(_UPLOADS):
            await self._app(scope, receive, send)
            return
        told = next((value for name, value in scope["headers"] if name == b"content-length"), None)
        if told is not None and int(told) > self._most:  # the server has seen that it is a number
            await self._refusal(scope, receive, send)
        else:
            await self._app(scope, self._bounded(receive), send)

    def _bounded(self, receive: Receive) -> Receive:
        taken, ended = 0, False
        until = asyncio.get_running_loop().time() + self._seconds

        async def bounded() -> Message:
            nonlocal taken, ended
            if ended:
                return await receive()
            message = await within(until, receive)
            taken += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if taken > self._most:
                raise HTTPException(413, TOO_LARGE.format(self._most), _LEAVE)
            return message

        return bounded


async def within(until: float, receive: Receive) -> Message:
    """The next message of a body that must be whole by a moment of the loop's clock. Raises 408."""
    try:
        async with asyncio.timeout_at(until):
            return await receive()
    except TimeoutError:
        raise HTTPException(408, "The request's body came too slowly. Send it again.", _LEAVE) from None
