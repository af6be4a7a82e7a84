"""Reading together: callers that ask for one thing each at the same time share one query.

A round trip to the database costs a service about the same whether it brings one document or fifty, so under load this
is to reading what the journal's group commit is to writing. Nothing is remembered: a query begins after each of its
callers has asked.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

MOST = 500
"""Keys of one query."""


class Together(Generic[K, V]):
    """``read`` is asked for many keys at once and gives what exists of them."""

    def __init__(self, read: Callable[[Collection[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._read = read
        self._asked: dict[K, asyncio.Future[V | None]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """What ``key`` stands for now, or None. It may be shared with other callers: do not change it. Raises what
        ``read`` raises."""
        answer = self._asked.get(key)
        if answer is None:
            answer = self._asked[key] = asyncio.get_running_loop().create_future()
        if self._reading is None:
            self._reading = asyncio.create_task(self._rounds())
        return await asyncio.shield(answer)  # the others' as well: one caller who leaves must not cancel it

    async def _rounds(self) -> None:
        try:
            while self._asked:
                keys = list(self._asked)[:MOST]
                asked = {key: self._asked.pop(key) for key in keys}
                await self._round(asked)
        finally:
            self._reading = None

    async def _round(self, asked: Mapping[K, asyncio.Future[V | None]]) -> None:
        try:
            found = await self._read(asked.keys())
        except Exception as error:  # noqa: BLE001 - whatever it is, each caller must hear it
            for answer in asked.values():
                answer.set_exception(error)
                answer.exception()  # heard, even where the caller has left
        except BaseException:
            for answer in asked.values():
                answer.cancel()
            raise
        else:
            for key, answer in asked.items():
                answer.set_result(found.get(key))
