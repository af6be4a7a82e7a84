"""Working on a lot in pieces: what is side by side, and what becomes of it where one fails."""

import asyncio
from collections.abc import Iterator

import pytest

from shared.pieces import pieces, side_by_side


def test_the_pieces_are_all_there_is_in_its_order() -> None:
    assert list(pieces(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(pieces((), 3)) == []


class Work:
    """Numbers that take a moment; ``under_way`` are those that have begun and not ended."""

    def __init__(self) -> None:
        self.under_way = 0
        self.most = 0
        self.ended: list[int] = []

    async def take(self, number: int) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0.01 / (number + 1))  # the later ones are done sooner
        self.under_way -= 1
        if number == 13:
            raise ZeroDivisionError
        self.ended.append(number)


def up_to(count: int) -> Iterator[int]:
    """Numbers, of which the last cannot be had."""
    yield from range(count)
    raise LookupError(count)


async def test_each_is_done_and_only_so_many_are_under_way() -> None:
    work = Work()
    await side_by_side(work.take, range(10), most=3)
    assert sorted(work.ended) == list(range(10))
    assert work.ended != sorted(work.ended)
    assert work.most == 3


async def test_nothing_to_do_is_done() -> None:
    work = Work()
    await side_by_side(work.take, ())
    assert not work.most


async def test_others_have_their_turn_in_between() -> None:
    turns: list[str] = []

    async def quick(number: int) -> None:
        turns.append(f"work {number}")

    async def other() -> None:
        while True:
            turns.append("other")
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    await side_by_side(quick, range(3))
    beside.cancel()
    first, last = turns.index("work 0"), turns.index("work 2")
    assert turns[first:last].count("other") == 2


async def test_what_was_begun_has_ended_when_an_error_is_told() -> None:
    work = Work()
    with pytest.raises(ZeroDivisionError):
        await side_by_side(work.take, range(20))
    assert work.under_way == 0
    assert sorted(work.ended) == [number for number in range(20) if number != 13]
    work = Work()
    with pytest.raises(LookupError):
        await side_by_side(work.take, up_to(5))
    assert work.under_way == 0
    assert sorted(work.ended) == [0, 1, 2, 3, 4]


async def test_who_is_cancelled_leaves_nothing_behind() -> None:
    under_way: set[int] = set()
    begun = asyncio.Semaphore(0)

    async def lasting(number: int) -> None:
        under_way.add(number)
        begun.release()
        try:
            await asyncio.Event().wait()
        finally:
            under_way.remove(number)

    doing = asyncio.create_task(side_by_side(lasting, range(5), most=3))
    for _ in range(3):
        await begun.acquire()
    doing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doing
    assert not under_way
