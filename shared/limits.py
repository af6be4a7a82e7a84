"""How often one person, one address may ask (RFC 6585, section 4): beyond it 429 with ``Retry-After``; every counted
answer says what is left (``RateLimit`` and ``RateLimit-Policy``, IETF draft-ietf-httpapi-ratelimit-headers).

`shared.rates` has the table: a kind of request, by a person or by an address, to how many in how many seconds.
Who is over a limit is slowed; nobody else is, since every counter is one person's or one address's.

Replicas share their counters through the database, but no request waits for it: each process decides by the total that
it read last and what it has counted since, and exchanges both in the background, all counters in use at once. So a
limit can be overrun by what arrives within one exchange. Without the database a process goes on by what it knows, and
each replica then has the whole limit to itself.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple, Protocol

import structlog
from prometheus_client import Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.auth import InvalidToken, Principal, Verifier
from shared.http import Problem, bearer_token
from shared.rates import RATES, Kind, LimitSettings, Who
from shared.sop import Role

log = structlog.get_logger()

LIMITED = Counter("lapor_http_requests_limited_total", "Requests refused since one asks too often.", ["rate"])

_SIGN_IN = ("/v1/tokens", "/v1/citizens", "/v1/codes", "/v1/me/password", "/v1/me/deletion", "/oauth/token")
_REFRESH = "/v1/tokens/refresh"
"""Frequent, and nothing that could be guessed."""
_UNCOUNTED = ("/health/", "/metrics", "/.well-known/")
_DATABASE_SECONDS = 2.0


class Exchange(Protocol):
    """Where replicas meet (`shared.limit_store`)."""

    async def add(self, counted: Mapping[str, tuple[int, float]]) -> dict[str, int]:
        """Add to counters, and what they are then."""


class Rate(NamedTuple):
    """One row of the table, with what headers say of it."""

    name: str
    most: int
    seconds: int
    policy: bytes


class _Count:
    """One window of one counter: ``total`` as it was read last, ``since`` what was counted here after that, ``ends``
    as Unix time, ``used`` whether it was asked for since the last exchange."""

    __slots__ = ("ends", "rate", "since", "total", "used")

    def __init__(self, rate: Rate, ends: float) -> None:
        self.rate, self.ends = rate, ends
        self.total = self.since = 0
        self.used = True

    @property
    def left(self) -> int:
        return self.rate.most - self.total - self.since


class Limits:
    """The counters of one process."""

    def __init__(self, settings: LimitSettings, exchange: Exchange) -> None:
        self._settings = settings
        self._exchange = exchange
        self._counts: OrderedDict[tuple[str, str, int], _Count] = OrderedDict()
        self._away = False
        self._rates: dict[tuple[Kind, Who], Rate] = {}
        for (kind, who), (most, seconds) in RATES.items():
            if changed := settings.rates.get(f"{kind}/{who}"):
                most, seconds = (int(part) for part in changed.split("/"))
            name = f"{kind}-{who}"
            self._rates[kind, who] = Rate(name, most, seconds, f'"{name}";q={most};w={seconds}'.encode())

    def take(self, kind: Kind, person: str | None, address: str) -> tuple[_Count | None, bool]:
        """Count a request, if no limit stands against it: the counter of which least is left, and whether it is let
        in. A request that is refused is not counted."""
        now = time.time()
        counts = [
            self._count(rate, who, now)
            for rate, who in (
                (self._rates.get((kind, "person")), person),
                (self._rates.get((kind, "address")), address),
            )
            if rate is not None and who is not None
        ]
        if not counts:
            return None, True
        tightest = min(counts, key=lambda count: count.left / count.rate.most)
        if tightest.left <= 0:
            return tightest, False
        for count in counts:
            count.since += 1
        return tightest, True

    def _count(self, rate: Rate, who: str, now: float) -> _Count:
        window = int(now // rate.seconds)
        key = (rate.name, who, window)
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = _Count(rate, (window + 1) * rate.seconds)
            if len(self._counts) > self._settings.remembered:
                self._counts.popitem(last=False)
        else:
            count.used = True
            self._counts.move_to_end(key)
        return count

    async def exchange(self) -> None:
        """Tell the other replicas what was counted here and learn what they counted; forget windows that have ended.
        Periodic work; the database being away is no failure."""
        now = time.time()
        for key in [key for key, count in self._counts.items() if count.ends <= now]:
            del self._counts[key]
        used = {_name(key): count for key, count in self._counts.items() if count.used or count.since}
        if not used:
            return
        told = {name: (count.since, count.ends) for name, count in used.items()}
        for count in used.values():
            count.used = False
        try:
            async with asyncio.timeout(_DATABASE_SECONDS):
                totals = await self._exchange.add(told)
        except Exception as error:  # noqa: BLE001 - whatever it is, requests are decided by what is known here
            for count in used.values():
                count.used = True
            if not self._away:
                log.warning("limits are this process's own until the database is back", reason=type(error).__name__)
            self._away = True
            return
        self._away = False
        for name, count in used.items():
            count.total = max(count.total, totals.get(name, 0))
            count.since -= told[name][0]


@lru_cache(50_000)
def _name(key: tuple[str, str, int]) -> str:
    """A counter's name in the database. Who it is does not stand there, and the document lives as long as the
    window."""
    rate, who, window = key
    return f"{rate}:{window}:{hashlib.blake2b(who.encode(), digest_size=12).hexdigest()}"


def kind_of(method: str, path: str) -> Kind | None:
    """What kind of request it is; None: not counted."""
    if path.startswith(_UNCOUNTED):
        return None
    if method in ("GET", "HEAD", "OPTIONS"):
        return "read"
    if path == "/v1/tracking":
        return "guess"
    if path.startswith(_SIGN_IN) and path != _REFRESH:
        return "sign-in"
    if path.endswith("/photos"):
        return "upload"
    return "file" if path == "/v1/complaints" else "write"


class Addresses:
    """Whose request it is, by address: the peer's, or what a trusted proxy says that its own peer was."""

    def __init__(self, trusted: tuple[IPv4Network | IPv6Network, ...]) -> None:
        self._trusted = trusted

    def of(self, scope: Scope) -> str:
        """The client's address; of IPv6 the /64 network, which is what one subscriber has."""
        peer: str = scope["client"][0] if scope.get("client") else ""
        if self._trusted and self._trusts(peer):
            told = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
            for hop in reversed(b",".join(told).decode("latin-1").split(",")):
                if not _network(hop.strip()):
                    break
                peer = hop.strip()
                if not self._trusts(peer):
                    break
        return _network(peer) or peer

    def _trusts(self, text: str) -> bool:
        address = _parsed(text)
        return address is not None and any(address in network for network in self._trusted)


@lru_cache(10_000)
def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(10_000)
def _network(text: str) -> str:
    address = _parsed(text)
    if address is None:
        return ""
    return str(ip_network((address, 64), strict=False)) if address.version == 6 else str(address)


class Limiting:
    """ASGI layer: counts requests and refuses those beyond a limit."""

    def __init__(self, app: ASGIApp, limits: Limits, addresses: Addresses, verifier: Verifier) -> None:
        self._app = app
        self._limits = limits
        self._addresses = addresses
        self._verifier = verifier

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = kind_of(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if kind is None:
            await self._app(scope, receive, send)
            return
        caller = await self._caller(scope)
        if caller is not None and caller.role is Role.SYSTEM:  # another service: it asks as often as it must
            await self._app(scope, receive, send)
            return
        count, let_in = self._limits.take(kind, caller.id if caller else None, self._addresses.of(scope))
        if count is None:
            await self._app(scope, receive, send)
            return
        rate, wait = count.rate, max(1, round(count.ends - time.time()))
        told = (
            (b"ratelimit-policy", rate.policy),
            (b"ratelimit", f'"{rate.name}";r={max(count.left, 0)};t={wait}'.encode()),
        )

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *told]
            await send(message)

        if let_in:
            await self._app(scope, receive, telling)
        else:
            LIMITED.labels(rate.name).inc()
            await too_often(wait).response()(scope, receive, telling)

    async def _caller(self, scope: Scope) -> Principal | None:
        """Who asks, if a valid token says so. The service verifies it again, from what is remembered."""
        authorization = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        token = bearer_token(authorization.decode("latin-1"))
        if token is None:
            return None
        try:
            return await self._verifier.verify(token)
        except (InvalidToken, TimeoutError):
            return None


def too_often(seconds: int) -> Problem:
    """429: come again in so many seconds."""
    detail = f"Too many requests of this kind. Send it again in {seconds} seconds."
    message = f"Terlalu banyak permintaan. Silakan coba lagi dalam {seconds} detik."
    return Problem(429, "too-many-requests", detail, message, headers={"Retry-After": str(seconds)})
