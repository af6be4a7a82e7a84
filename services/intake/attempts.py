"""Guessing of passwords and codes is slowed, and nobody can lock others out by it (OWASP ASVS 5.0, 6.1.1 and 6.3.1).

Each login has two counters. One is for each address that tries it: after some wrong tries (`free_tries`) the next has
to wait a second, then two, four, up to a quarter of an hour. The other is for all addresses together, and slows only
addresses from which nobody has signed in as this login before; what one address adds to it is bounded, below where it
begins to slow, and forgotten before the address can add more. So one guesser is stopped where he is and nowhere else;
many at once slow strangers, and the owner still signs in from where he has before. No account is ever closed. A right
password begins its address's counter anew.

A login that nobody has is counted as any other. What is stored tells neither login nor address: both go through a keyed
hash.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from math import ceil
from pathlib import Path

from starlette.types import Scope

from services.intake.attempt_store import AttemptStore
from shared.events import now
from shared.keyfile import derived_key
from shared.limits import LIMITED, Addresses, too_often

LONGEST_WAIT = timedelta(minutes=15)
LONGEST_WAIT_OF_STRANGERS = timedelta(minutes=5)
KEPT = timedelta(hours=1)
"""How long after its last wait an address's counter is remembered."""
KEPT_OF_ALL = timedelta(minutes=30)
"""How long the counter of all addresses together: less, so that none of them adds to it twice."""
KNOWN = timedelta(days=90)
"""How long an address is known from which somebody has signed in."""
_ADDRESSES = 3
"""So many addresses have to guess, each as much as counts, before strangers are slowed."""
_RATE = "sign-in-tries"


class Try:
    """One try: say how it ended."""

    def __init__(self, attempts: "Attempts", login: str, address: str, number: int) -> None:
        self._attempts, self._login, self._address, self._number = attempts, login, address, number
        self.judged = False

    async def ended(self, *, right: bool) -> None:
        """It was right or wrong."""
        self.judged = True
        if right:
            await self._attempts.right(self._login, self._address)
        else:
            await self._attempts.wrong(self._login, self._number)


class Attempts:
    """The counters; replicas share them."""

    def __init__(self, store: AttemptStore, addresses: Addresses, key_file: Path, free_tries: int) -> None:
        self._store = store
        self._addresses = addresses
        self._key = derived_key(key_file, b"lapor tries to sign in", 32)
        self._free = free_tries

    @asynccontextmanager
    async def trying(self, login: str, request: Scope) -> AsyncIterator[Try]:
        """Let a try in: as ``login`` (normal form), by whoever sends this request. One that ends without `Try.ended` by
        an exception is not counted. Raises 429."""
        address = self._addresses.of(request)
        pair = self._of("pair", login, address)
        number = await self._let_in(login, address, pair)
        attempt = Try(self, login, address, number)
        try:
            yield attempt
        except Exception:
            if not attempt.judged:
                await self._store.give_back(pair)
            raise

    async def _let_in(self, login: str, address: str, pair: str) -> int:
        everywhere, here = self._of("login", login), self._of("known", login, address)
        found = await self._store.find((everywhere, here, pair))
        waits = [found[key]["until"] for key in (pair, *(() if here in found else (everywhere,))) if key in found]
        moment = now()
        number = None
        if all(until <= moment for until in waits):
            number = await self._store.take(pair, moment, self._free, LONGEST_WAIT, KEPT)
            if number is None:  # another try at the same time has taken the turn
                waits = [document["until"] for document in (await self._store.find((pair,))).values()]
        if number is None:
            LIMITED.labels(_RATE).inc()
            left = max(waits, default=moment) - moment
            raise too_often(max(1, ceil(left.total_seconds())))
        return number

    async def right(self, login: str, address: str) -> None:
        """Somebody has signed in."""
        await asyncio.gather(
            self._store.forget(self._of("pair", login, address)),
            self._store.know(self._of("known", login, address), now() + KNOWN),
        )

    async def wrong(self, login: str, number: int) -> None:
        """The try of this number from its address was wrong."""
        if number <= self._free:
            every, free = self._of("login", login), _ADDRESSES * self._free
            await self._store.take(every, now(), free, LONGEST_WAIT_OF_STRANGERS, KEPT_OF_ALL, always=True)

    def _of(self, kind: str, *named: str) -> str:
        text = "\n".join(named).encode("utf-8", "surrogatepass")
        return f"{kind}:{hashlib.blake2b(text, key=self._key, digest_size=16).hexdigest()}"
