"""Guessing of passwords and codes is slowed, and nobody can lock others out by it (OWASP ASVS 5.0, 6.1.1 and 6.3.1).

Each login has two counters. One is for each address that tries it: after some wrong tries (`Attempts.free`) the next
has to wait a second, then two, four, up to a quarter of an hour. The other is for all addresses together, and slows
only addresses from which nobody has signed in as this login before, one try of theirs at a time; what one address
adds to it is bounded, below where it begins to slow, and forgotten before the address can add more. So one guesser is
stopped where he is and nowhere else; many at once slow strangers, and the owner still signs in from where he has
before. No account is ever closed. A right password begins its address's counter anew.

A login that nobody has is counted as any other. What is stored tells neither login nor address: both go through a keyed
hash.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from math import ceil
from pathlib import Path
from typing import NamedTuple

from starlette.types import Scope

from services.intake.attempt_store import AttemptStore
from shared.events import now
from shared.http import Problem
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
_NONE = {"n": 0}


class _Keys(NamedTuple):
    """The counters of a login at an address and everywhere, and the mark that it has signed in there."""

    here: str
    everywhere: str
    known: str


class Try:
    """One try that was let in: say how it ended. ``number`` is the how manieth it is from its address; ``turn``: it is
    a stranger's, counted everywhere already."""

    def __init__(self, attempts: "Attempts", keys: _Keys, number: int, *, turn: bool) -> None:
        self._attempts, self._keys, self._number, self._turn = attempts, keys, number, turn
        self.judged = False

    async def ended(self, *, right: bool) -> None:
        """It was right or wrong."""
        self.judged = True
        if right:
            await self._attempts.right(self._keys, turn=self._turn)
        elif self._number <= self._attempts.free and not self._turn:
            await self._attempts.wrong(self._keys)


class Attempts:
    """The counters; replicas share them. ``free`` tries are let in from an address before the next has to wait."""

    def __init__(self, store: AttemptStore, addresses: Addresses, key_file: Path, free: int) -> None:
        self.free = free
        self._store = store
        self._addresses = addresses
        self._key = derived_key(key_file, b"lapor tries to sign in", 32)

    @asynccontextmanager
    async def trying(self, login: str, request: Scope) -> AsyncIterator[Try]:
        """Let a try in: as ``login`` (normal form), by whoever sends this request. One that ends without `Try.ended` by
        an exception is not counted. Raises 429."""
        address = self._addresses.of(request)
        keys = _Keys(self._of("pair", login, address), self._of("login", login), self._of("known", login, address))
        number, turn = await self._let_in(keys)
        attempt = Try(self, keys, number, turn=turn)
        try:
            yield attempt
        except Exception:
            if not attempt.judged:
                await self._give_back(keys, turn=turn)
            raise

    async def _let_in(self, keys: _Keys) -> tuple[int, bool]:
        """Which try it is from its address, and whether it is a stranger's turn. Raises 429."""
        found = await self._store.find(keys)
        stand_against = (keys.here,) if keys.known in found else (keys.here, keys.everywhere)
        moment = now()
        if any(found[key]["until"] > moment for key in stand_against if key in found):
            raise self._refused([found[key]["until"] for key in stand_against if key in found])
        turn = len(stand_against) == 2 and found.get(keys.everywhere, _NONE)["n"] >= _ADDRESSES * self.free
        number = await self._store.take(keys.here, moment, self.free, LONGEST_WAIT, KEPT)
        if number is not None and turn and not await self._count_everywhere(keys, always=False):
            await self._store.give_back(keys.here)
            number = None
        if number is None:  # another try at the same time has taken the turn
            found = await self._store.find(stand_against)
            raise self._refused([document["until"] for document in found.values()])
        return number, turn

    async def right(self, keys: _Keys, *, turn: bool) -> None:
        """Somebody has signed in."""
        if turn:
            await self._store.give_back(keys.everywhere)
        await asyncio.gather(self._store.forget(keys.here), self._store.know(keys.known, now() + KNOWN))

    async def wrong(self, keys: _Keys) -> None:
        """A try was wrong that counts everywhere."""
        await self._count_everywhere(keys, always=True)

    async def _count_everywhere(self, keys: _Keys, *, always: bool) -> bool:
        free, longest = _ADDRESSES * self.free, LONGEST_WAIT_OF_STRANGERS
        return await self._store.take(keys.everywhere, now(), free, longest, KEPT_OF_ALL, always=always) is not None

    async def _give_back(self, keys: _Keys, *, turn: bool) -> None:
        await self._store.give_back(keys.here)
        if turn:
            await self._store.give_back(keys.everywhere)

    def _refused(self, waits: Iterable[datetime]) -> Problem:
        LIMITED.labels(_RATE).inc()
        left = max(waits, default=now()) - now()
        return too_often(max(1, ceil(left.total_seconds())))

    def _of(self, kind: str, *named: str) -> str:
        text = "\n".join(named).encode("utf-8", "surrogatepass")
        return f"{kind}:{hashlib.blake2b(text, key=self._key, digest_size=16).hexdigest()}"
