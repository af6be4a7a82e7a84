"""Who is asking: short ES256 tokens (RFC 7519, RFC 7518 section 3.4), signed by intake, verified here by its JWKS (RFC
7517).

Only verification is shared. Signing, passwords and accounts are intake's alone (``services/intake/identity.py``).
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
from cachetools import LRUCache

from shared.sop import Role

ISSUER = "lapor-intake"
AUDIENCE = "lapor"
ALGORITHM = "ES256"
_PAUSE_SECONDS = 1.0


class InvalidToken(Exception):
    """The token is not valid; the text says why, without repeating the token."""


class KeysUnavailable(TimeoutError):
    """The keys of sign-in cannot be fetched now; the request may be repeated."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The account that is asking: an opaque id, its one role, and for agency operators the code of their agency."""

    id: str
    role: Role
    agency: str | None = None


class Verifier:
    """Verifies tokens by the issuer's published keys, which it fetches when it meets an unknown key id.

    Verified tokens are remembered until they expire, so that a client's next request costs no signature check.
    """

    def __init__(self, jwks_url: str, *, remembered: int = 10_000, refetch_seconds: float = 10.0) -> None:
        self._url = jwks_url
        self._keys: dict[str, jwt.PyJWK] = {}
        self._verified: LRUCache[str, tuple[Principal, float]] = LRUCache(remembered)
        self._refetch = refetch_seconds
        self._fetched_at = self._failed_at = float("-inf")
        self._lock = asyncio.Lock()

    async def verify(self, token: str) -> Principal:
        """The token's account. Raises `InvalidToken`, or `KeysUnavailable` if the issuer cannot be asked."""
        known = self._verified.get(token)
        if known and known[1] > time.time():
            return known[0]
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") != ALGORITHM:
                raise InvalidToken("its algorithm is not ES256")
            key = await self._key(str(header.get("kid")))
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": ["exp", "iat", "sub", "aud", "iss"]},
            )
            principal = Principal(claims["sub"], Role(claims["role"]), claims.get("agency"))
        except jwt.PyJWTError as error:
            raise InvalidToken(str(error)) from None
        except (KeyError, ValueError):
            raise InvalidToken("it names no role of this system") from None
        self._verified[token] = (principal, float(claims["exp"]))
        return principal

    async def _key(self, kid: str) -> jwt.PyJWK:
        if kid not in self._keys:
            async with self._lock:
                if kid not in self._keys and time.monotonic() - self._fetched_at > self._refetch:
                    await self._fetch()
        try:
            return self._keys[kid]
        except KeyError:
            raise InvalidToken("its key is unknown") from None

    async def _fetch(self) -> None:
        if time.monotonic() - self._failed_at < _PAUSE_SECONDS:  # those who waited for the same failure share it
            raise KeysUnavailable(f"the keys at {self._url} could not be read a moment ago")
        try:
            async with httpx.AsyncClient(timeout=5) as client:
                answer = await client.get(self._url)
                answer.raise_for_status()
                self._keys = {str(k.key_id): k for k in jwt.PyJWKSet.from_dict(answer.json()).keys}
        except (httpx.HTTPError, ValueError, TypeError, AttributeError, jwt.PyJWTError) as error:
            self._failed_at = time.monotonic()
            raise KeysUnavailable(f"the keys at {self._url} cannot be read: {error!r}") from None
        self._fetched_at = time.monotonic()

    def trust(self, key: jwt.PyJWK) -> None:
        """Know a key without fetching: for the issuer itself."""
        self._keys[str(key.key_id)] = key
