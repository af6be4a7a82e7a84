"""The door of a service: as many requests at a time as it can serve soon, and a quick, clear no to the others.

Whoever waits in a queue that is too long has gone by the time of the answer, and the service has done the work for
nobody. So what is beyond the bound is told at once when to come again (RFC 9110, section 15.6.4), which costs next to
nothing, and those inside are served as fast as ever. Health and metrics are not bounded: they are asked for most when
it is crowded.
"""

from prometheus_client import Counter
from starlette.types import ASGIApp, Receive, Scope, Send

REFUSED = Counter("lapor_http_requests_refused_total", "Requests refused at the door, since too many were inside.")

_UNBOUNDED = ("/health/", "/metrics")


class Admission:
    """ASGI middleware: at most ``most`` requests inside; ``refusal`` answers the others."""

    def __init__(self, app: ASGIApp, most: int, refusal: ASGIApp) -> None:
        self._app = app
        self._most = most
        self._refusal = refusal
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_UNBOUNDED):
            await self._app(scope, receive, send)
            return
        if self._inside >= self._most:
            REFUSED.inc()
            await self._refusal(scope, receive, send)
            return
        self._inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1
