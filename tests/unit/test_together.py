"""Reading together: one query for all who ask at the same time, each with its own answer."""

import asyncio
from collections.abc import Collection

import pytest

from shared.together import Together


class Store:
    """Numbers and their squares; ``asked`` are the queries it got. It waits at ``gate``."""

    def __init__(self) -> None:
        self.asked: list[set[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = False

    async def read(self, keys: Collection[int]) -> dict[int, int]:
        self.asked.append(set(keys))
        await self.gate.wait()
        if self.fails:
            raise ConnectionError("away")
        return {key: key * key for key in keys if key < 100}


async def test_all_who_ask_at_once_share_a_query_and_get_their_own() -> None:
    store = Store()
    together = Together(store.read)
    assert await asyncio.gather(*(together.get(n) for n in (1, 2, 3, 2, 100))) == [1, 4, 9, 4, None]
    assert store.asked == [{1, 2, 3, 100}]


async def test_who_asks_while_a_query_is_under_way_is_answered_by_a_later_one() -> None:
    """Its answer may have changed since that query was made."""
    store = Store()
    together = Together(store.read)
    store.gate.clear()
    first = asyncio.create_task(together.get(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = asyncio.create_task(together.get(1))
    await asyncio.sleep(0)
    store.gate.set()
    assert (await first, await second) == (1, 1)
    assert store.asked == [{1}, {1}]


async def test_a_failure_reaches_each_and_the_next_query_is_made_anew() -> None:
    store = Store()
    together = Together(store.read)
    store.fails = True
    outcome = await asyncio.gather(together.get(1), together.get(2), return_exceptions=True)
    assert [type(failure) for failure in outcome] == [ConnectionError, ConnectionError]
    store.fails = False
    assert await together.get(1) == 1


async def test_who_leaves_takes_nobody_with_him() -> None:
    store = Store()
    together = Together(store.read)
    store.gate.clear()
    leaves, stays = asyncio.create_task(together.get(1)), asyncio.create_task(together.get(1))
    await asyncio.sleep(0)
    leaves.cancel()
    store.gate.set()
    assert await stays == 1
    with pytest.raises(asyncio.CancelledError):
        await leaves
