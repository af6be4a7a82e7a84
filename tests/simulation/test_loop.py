"""The loop of virtual time: it waits for nothing, and what is killed does nothing more."""

import asyncio
import time
from collections.abc import Coroutine
from contextvars import copy_context
from random import Random
from typing import Any

from tests.simulation.loop import STRAND, SimulatedLoop, Strand


def loop_and_deaths(seed: int = 1) -> tuple[SimulatedLoop, list[str]]:
    deaths: list[str] = []
    return SimulatedLoop(Random(seed), lambda strand: deaths.append(strand.name)), deaths


def run(loop: SimulatedLoop, main: Coroutine[Any, Any, None], until: float = 1000) -> bool:
    context = copy_context()
    context.run(STRAND.set, Strand("world"))
    return loop.run(main, context, until)


def start(loop: SimulatedLoop, strand: Strand, work: Coroutine[Any, Any, Any]) -> None:
    context = copy_context()
    context.run(STRAND.set, strand)
    loop.create_task(work, context=context)


def test_an_hour_passes_at_once_and_timers_keep_their_order() -> None:
    loop, _ = loop_and_deaths()
    seen: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append((name, loop.time()))

    async def main() -> None:
        await asyncio.gather(sleeper("late", 3600), sleeper("soon", 1), sleeper("middle", 60))

    began = time.monotonic()
    assert run(loop, main(), until=4000)
    assert time.monotonic() - began < 60
    assert seen == [("soon", 1), ("middle", 60), ("late", 3600)]


def test_time_that_is_over_ends_the_run() -> None:
    loop, _ = loop_and_deaths()

    async def main() -> None:
        await asyncio.sleep(20)

    assert not run(loop, main(), until=10)


def test_timeouts_and_threads_work_without_either() -> None:
    loop, _ = loop_and_deaths()
    outcome: list[str] = []

    async def main() -> None:
        try:
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        except TimeoutError:
            outcome.append(f"timed out at {loop.time()}")
        outcome.append(await asyncio.to_thread(str, 42))

    assert run(loop, main())
    assert outcome == ["timed out at 5.0", "42"]


def test_a_pause_lasts_and_can_be_cut_short() -> None:
    loop, _ = loop_and_deaths()
    seen: list[tuple[str, float]] = []

    async def main() -> None:
        await loop.pause(3)
        seen.append(("paused", loop.time()))
        try:
            async with asyncio.timeout(2):
                await loop.pause(100)
        except TimeoutError:
            seen.append(("timed out", loop.time()))
        await loop.pause(1)
        seen.append(("paused again", loop.time()))

    assert run(loop, main())
    assert seen == [("paused", 3), ("timed out", 5), ("paused again", 6)]


def test_a_killed_process_does_nothing_more_not_even_clean_up() -> None:
    loop, deaths = loop_and_deaths()
    victim, seen = Strand("victim"), []

    async def work() -> None:
        try:
            await asyncio.sleep(1)
            seen.append("worked")
            await asyncio.sleep(10)
            seen.append("never")
        finally:
            seen.append("cleaned up")

    async def main() -> None:
        start(loop, victim, work())
        await asyncio.sleep(5)
        loop.kill(victim)
        loop.kill(victim)
        await asyncio.sleep(100)
        assert seen == ["worked"]

    assert run(loop, main())
    assert deaths == ["victim"]


def test_a_doomed_process_dies_after_so_many_steps() -> None:
    loop, deaths = loop_and_deaths()
    victim, steps = Strand("victim"), []

    async def work() -> None:
        victim.doom = 3
        for number in range(10):
            steps.append(number)
            await asyncio.sleep(0)

    async def main() -> None:
        start(loop, victim, work())
        await asyncio.sleep(1)

    assert run(loop, main())
    assert steps == [0, 1, 2, 3]
    assert deaths == ["victim"]


def test_the_seed_decides_whose_turn_it_is_and_each_keeps_its_own_order() -> None:
    def order(seed: int) -> list[tuple[str, int]]:
        loop, _ = loop_and_deaths(seed)
        seen: list[tuple[str, int]] = []

        async def work(name: str) -> None:
            for number in range(5):
                seen.append((name, number))
                await asyncio.sleep(0)

        async def main() -> None:
            for name in "abc":
                start(loop, Strand(name), work(name))
            await asyncio.sleep(1)

        assert run(loop, main())
        return seen

    orders = [order(seed) for seed in range(20)]
    assert orders == [order(seed) for seed in range(20)]
    assert len({tuple(o) for o in orders}) > 10
    for seen in orders:
        for name in "abc":
            assert [n for who, n in seen if who == name] == list(range(5))
