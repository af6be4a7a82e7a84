"""What every answer says to browsers (OWASP's list for APIs), and the one page that is made for them.

An answer that says nothing about caching may hold personal data and is not kept; photos say for themselves how long.
"""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared import docs_page

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-site"),
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains"),  # browsers heed it over TLS only
)
_NOTHING = b"default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_SENT = ("Authorization", "Content-Type", "Idempotency-Key", "traceparent")
_READ = ("Retry-After", "RateLimit", "RateLimit-Policy", "x-trace-id")


class SecurityHeaders:
    """ASGI layer, the outermost: the headers of every answer, but for those that the answer has itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._docs = docs_page.policy()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        policy = self._docs if scope["path"] == docs_page.PATH else _NOTHING

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = message.get("headers", ())
                there = {name.lower() for name, _ in own}
                added = [(name, value) for name, value in _HEADERS if name not in there]
                added.append((b"content-security-policy", policy))
                if b"cache-control" not in there:
                    added.append((b"cache-control", b"no-store"))
                message["headers"] = [*own, *added]
            await send(message)

        await self._app(scope, receive, with_headers)


def cross_origin(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """The application, for pages of these origins too (CORS); without any, browsers let no other page read it."""
    if not origins:
        return app
    return CORSMiddleware(app, origins, _METHODS, _SENT, expose_headers=_READ, max_age=600)
