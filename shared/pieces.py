"""A lot of work in pieces: while the database takes one, the next is made ready."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

P = TypeVar("P")
T = TypeVar("T")


def pieces(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in their order, ``size`` of them in each piece but the last."""
    rest = iter(items)
    while piece := list(islice(rest, size)):
        yield piece


async def side_by_side(do: Callable[[P], Coroutine[Any, Any, None]], parts: Iterable[P], most: int = 4) -> None:
    """Do each part. Each is begun when the one before has come to its first wait, ``most`` of them at a time, and
    between two the event loop has its turn: a backlog must not keep a service from answering.

    Raises the first error, of ``parts`` itself or of one that was done, when all that were begun have ended: nothing
    goes on behind the back of who tries again. Cancelled, it cancels them."""
    begun: list[asyncio.Task[None]] = []
    under_way: set[asyncio.Task[None]] = set()
    try:
        for part in parts:
            if begun:
                await asyncio.sleep(0)
            if len(under_way) >= most:
                _, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            begun.append(asyncio.create_task(do(part)))
            under_way.add(begun[-1])
    except asyncio.CancelledError:
        for task in under_way:
            task.cancel()
        raise
    finally:
        outcomes = await asyncio.gather(*begun, return_exceptions=True)
    for outcome in outcomes:
        if outcome is not None:
            raise outcome
