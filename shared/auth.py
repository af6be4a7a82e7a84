"""Who is asking: signed tokens (RFC 7519) of intake's sign-in and of the issuers that the installation trusts besides
(`shared.issuers`), verified by their published keys (RFC 7517), with the care that RFC 8725 asks for.

Only verification is shared. Signing, passwords and accounts are intake's alone (``services/intake/identity.py``).
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
import jwt
from cachetools import LRUCache
from jwt.utils import base64url_decode

from shared.sop import Role

ISSUER = "lapor-intake"
AUDIENCE = "lapor"
ALGORITHM = "ES256"
LONGEST_TOKEN = 8192
"""Characters. What is longer is no token of ours, and is not read."""
_FETCH_SECONDS = 4.0
_PAUSE_SECONDS = 1.0
_ASYMMETRIC = frozenset({"RSA", "EC", "OKP"})


class InvalidToken(Exception):
    """The token is not valid; the text says why, without repeating the token."""


class KeysUnavailable(TimeoutError):
    """The keys of sign-in cannot be fetched now; the request may be repeated."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The account that is asking: an opaque id, its one role, for agency operators the code of their agency, and the
    session that the token belongs to, if it belongs to one of intake's.

    ``scopes``: all that it may do with its role (`shared.scopes`); None, as people's tokens have it: no less than that.
    """

    id: str
    role: Role
    agency: str | None = None
    session: str | None = None
    scopes: frozenset[str] | None = None


def named(session_id: str) -> str:
    """How services tell each other of a session without saying its id."""
    return hashlib.sha256(session_id.encode()).hexdigest()


class Issuer(Protocol):
    """Somebody whose tokens are accepted, and what is believed of them."""

    @property
    def issuer(self) -> str:
        """What its tokens say in ``iss``."""

    @property
    def audience(self) -> str:
        """What their ``aud`` must hold."""

    @property
    def algorithms(self) -> Sequence[str]:
        """How they may be signed: asymmetric algorithms only."""

    @property
    def leeway_seconds(self) -> float:
        """By how much its clock may differ from ours."""

    @property
    def longest_seconds(self) -> float:
        """The longest life that a token of its may have."""

    @property
    def may_name_no_key(self) -> bool:
        """Whether a token may leave out which key has signed it, where there is only one."""

    async def keys_at(self, client: httpx.AsyncClient) -> str:
        """The address of its key set. Raises ValueError or httpx.HTTPError."""

    def principal(self, claims: dict[str, Any]) -> Principal:
        """The account that verified claims name. Raises InvalidToken."""


@dataclass(frozen=True, slots=True)
class Intake:
    """The sign-in of this system: ``url`` is where its key set is served."""

    url: str
    issuer: str = ISSUER
    audience: str = AUDIENCE
    algorithms: Sequence[str] = (ALGORITHM,)
    leeway_seconds: float = 0
    longest_seconds: float = float("inf")
    may_name_no_key: bool = False

    async def keys_at(self, _: httpx.AsyncClient) -> str:
        return self.url

    def principal(self, claims: dict[str, Any]) -> Principal:
        agency, session, scope = (claims.get(name) for name in ("agency", "sid", "scope"))
        texts = all(isinstance(text, str | None) for text in (agency, session, scope))
        if not claims["sub"] or not texts:
            raise InvalidToken("it names no account of this system")
        scopes = None if "scope" not in claims else frozenset((scope or "").split())
        try:
            return Principal(claims["sub"], Role(claims["role"]), agency, session, scopes)
        except (KeyError, ValueError):
            raise InvalidToken("it names no role of this system") from None


class Keys:
    """One issuer's keys, fetched when an unknown key id is met, at most every ``refetch`` seconds."""

    def __init__(self, issuer: Issuer, refetch: float) -> None:
        self._issuer = issuer
        self._refetch = refetch
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._failed_at = float("-inf")
        self._lock = asyncio.Lock()

    def trust(self, key: jwt.PyJWK) -> None:
        """Know a key without fetching."""
        self._keys[str(key.key_id)] = key

    async def find(self, kid: str | None) -> jwt.PyJWK:
        """The key of this id, or the only one there is for a token that names none (OpenID Connect Core 1.0, section
        10.1). Raises InvalidToken, or KeysUnavailable if the issuer cannot be asked."""
        if kid is None and not self._issuer.may_name_no_key:
            raise InvalidToken("it names no key")
        if kid not in self._keys and time.monotonic() - self._fetched_at > self._refetch:
            await self._renew(kid)
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        try:
            return self._keys[kid or ""]
        except KeyError:
            raise InvalidToken("its key is unknown") from None

    async def _renew(self, kid: str | None) -> None:
        if self._lock.locked() and self._failed_at > self._fetched_at:  # one tries again; nobody queues behind it
            raise self._unavailable("is being asked again")
        async with self._lock:
            if kid not in self._keys and time.monotonic() - self._fetched_at > self._refetch:
                try:
                    await self._fetch()
                except KeysUnavailable:
                    if kid is not None or not self._keys:
                        raise

    async def _fetch(self) -> None:
        if time.monotonic() - self._failed_at < _PAUSE_SECONDS:  # those who waited for the same failure share it
            raise self._unavailable("could not be asked a moment ago")
        try:
            async with asyncio.timeout(_FETCH_SECONDS), httpx.AsyncClient(timeout=_FETCH_SECONDS) as client:
                answer = await client.get(await self._issuer.keys_at(client))
                answer.raise_for_status()
                found = jwt.PyJWKSet.from_dict(answer.json()).keys
        except (
            httpx.HTTPError,
            httpx.InvalidURL,
            TimeoutError,
            ValueError,
            TypeError,
            AttributeError,
            RecursionError,
            jwt.PyJWTError,
        ) as error:
            self._failed_at = time.monotonic()
            raise self._unavailable(repr(error)) from None
        self._keys = {str(key.key_id): key for key in found if key.key_type in _ASYMMETRIC}
        self._fetched_at = time.monotonic()

    def _unavailable(self, why: str) -> KeysUnavailable:
        return KeysUnavailable(f"the keys of {self._issuer.issuer} cannot be read: {why}")


class Verifier:
    """Verifies tokens, each by the keys of the issuer that it names and by no other's; which account it is, the issuer
    says within the limits that are set for it.

    Verified tokens are remembered until they expire, so that a client's next request costs no signature check.
    """

    def __init__(
        self,
        jwks_url: str,
        issuers: Iterable[Issuer] = (),
        *,
        remembered: int = 10_000,
        refetch_seconds: float = 10.0,
    ) -> None:
        trusted: tuple[Issuer, ...] = (Intake(jwks_url), *issuers)
        self._issuers = {issuer.issuer: (issuer, Keys(issuer, refetch_seconds)) for issuer in trusted}
        self._verified: LRUCache[str, tuple[Principal, float, str | None]] = LRUCache(remembered)
        self._ended: dict[str, float] = {}

    async def verify(self, token: str) -> Principal:
        """The token's account. Raises `InvalidToken`, or `KeysUnavailable` if the issuer cannot be asked."""
        known = self._verified.get(token)
        if known and known[1] > time.time() and known[2] not in self._ended:
            return known[0]
        header, payload = _unverified(token)
        name, algorithm, kid = payload.get("iss"), header.get("alg"), header.get("kid")
        issuer, keys = self._issuers.get(name, (None, None)) if isinstance(name, str) else (None, None)
        if issuer is None or keys is None:
            raise InvalidToken("nobody who is trusted here has issued it")
        if not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
            raise InvalidToken(f"its algorithm is not {' or '.join(issuer.algorithms)}")
        if not isinstance(kid, str | None):
            raise InvalidToken("it is not well-formed")
        key = await keys.find(kid)
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                audience=issuer.audience,
                issuer=issuer.issuer,
                leeway=issuer.leeway_seconds,
                options={"require": ["exp", "iat", "sub", "aud", "iss"]},
            )
            lasts, ends = float(claims["exp"]) - float(claims["iat"]), float(claims["exp"])
        except jwt.PyJWTError as error:
            raise InvalidToken(str(error)) from None
        except (TypeError, ValueError, OverflowError):  # a key of another kind; a time that is none
            raise InvalidToken("it is not well-formed") from None
        if lasts > issuer.longest_seconds:
            raise InvalidToken("it is valid for too long")
        principal = issuer.principal(claims)
        session = named(principal.session) if principal.session else None
        if session in self._ended:
            raise InvalidToken("its session has ended")
        self._verified[token] = (principal, ends, session)
        return principal

    def end(self, sessions: Iterable[str], seconds: float) -> None:
        """Accept no more tokens of these sessions (`named`), which live ``seconds`` at most."""
        at = time.time()
        for session in sessions:
            self._ended.setdefault(session, at + seconds)
        for session in [session for session, until in self._ended.items() if until < at]:
            del self._ended[session]

    def trust(self, key: jwt.PyJWK) -> None:
        """Know a key of intake's without fetching: for intake itself."""
        self._issuers[ISSUER][1].trust(key)


def _unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a token, of which nothing is verified yet. Raises InvalidToken."""
    parts = token.split(".")
    if len(token) > LONGEST_TOKEN or len(parts) != 3:
        raise InvalidToken("it is not well-formed")
    try:
        header, payload = (
            json.loads(base64url_decode(part.encode("ascii")), object_pairs_hook=_unrepeated) for part in parts[:2]
        )
    except (ValueError, RecursionError):
        raise InvalidToken("it is not well-formed") from None
    if not isinstance(header, dict) or not isinstance(payload, dict):
        raise InvalidToken("it is not well-formed")
    return header, payload


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names are unique: of two readers, each might believe another one of two (RFC 7519, 4)."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found
