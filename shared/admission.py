"""The door of a service: as many requests at a time as it can serve soon, none while its database is away, and a quick,
clear no to the others.

Whoever waits in a queue that is too long has gone by the time of the answer, and the service has done the work for
nobody. So what is beyond the bound is told at once when to come again (RFC 9110, section 15.6.4), which costs next to
nothing, and those inside are served as fast as ever. Health and metrics are not bounded: they are asked for most when
it is crowded.
"""

from collections.abc import Callable

from prometheus_client import Counter
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REFUSED = Counter(
    "lapor_http_requests_refused_total", "Requests refused at the door: too many were inside, or the database was away."
)

TOO_LARGE = "The request's body is larger than {} bytes. Send less."

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
    """ASGI middleware: bodies of at most ``most`` bytes; ``refusal`` answers what says that it is larger, and what
    turns out to be so is broken off with 413. Uploads have a limit of their own (`shared.photos`)."""

    def __init__(self, app: ASGIApp, most: int, refusal: ASGIApp) -> None:
        self._app = app
        self._most = most
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _WITHOUT_BODY or scope["path"].endswith(_UPLOADS):
            await self._app(scope, receive, send)
            return
        told = next((value for name, value in scope["headers"] if name == b"content-length"), None)
        if told is None:
            await self._app(scope, self._counted(receive), send)
        elif int(told) > self._most:  # the server has seen that it is a number
            await self._refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _counted(self, receive: Receive) -> Receive:
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most:
                raise HTTPException(413, TOO_LARGE.format(self._most))
            return message

        return counted
