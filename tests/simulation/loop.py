"""An event loop of virtual time: no thread, no socket, no clock, and whose turn it is decided by a seed.

It carries several *processes*. Each has its callbacks in order, as a real event loop does; which process runs next is
drawn. When a process is killed, none of its callbacks runs again, not even to clean up: that is what ``kill -9`` does.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from itertools import count
from random import Random
from typing import Any, cast


class Strand:
    """The callbacks of one process (or of the world outside). ``alive`` is False once it has been killed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.ready: deque[Turn] = deque()
        self.doom: int | None = None
        """After how many more callbacks it dies; None: it does not."""


STRAND: ContextVar[Strand] = ContextVar("STRAND")


class Turn:
    """A callback that waits for its turn: what asyncio calls a handle."""

    __slots__ = ("_when", "args", "callback", "cancelled_", "context", "strand")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...], context: Context, when: float) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.strand = context[STRAND]
        self.cancelled_ = False
        self._when = when

    def cancel(self) -> None:
        self.cancelled_ = True

    def cancelled(self) -> bool:
        return self.cancelled_

    def when(self) -> float:
        return self._when


class Pause:
    """``asyncio.sleep`` in one step instead of three: its timer wakes the task itself. Most steps here are pauses."""

    __slots__ = ("_asyncio_future_blocking", "_cancelled", "_loop", "_turn", "_wake", "_when")

    def __init__(self, loop: "SimulatedLoop", seconds: float) -> None:
        self._loop = loop
        self._when = loop._now + seconds
        self._cancelled = False
        self._asyncio_future_blocking = False

    def __await__(self) -> Generator["Pause", None, None]:
        self._asyncio_future_blocking = True
        yield self

    def add_done_callback(self, wake: Callable[["Pause"], Any], *, context: Context) -> None:
        self._wake = (wake, context)
        self._turn = self._loop.call_at(self._when, wake, self, context=context)

    def cancel(self, msg: object = None) -> bool:
        if not self._cancelled:
            self._cancelled = True
            self._turn.cancel()
            wake, context = self._wake
            self._loop.call_soon(wake, self, context=context)
        return True

    def get_loop(self) -> "SimulatedLoop":
        return self._loop

    def result(self) -> None:
        del self._wake, self._turn  # which hold this in turn: nothing is left for the garbage collector
        if self._cancelled:
            raise asyncio.CancelledError


class SimulatedLoop:
    """As much of an event loop as tasks, futures, timers and threads need. ``steps`` counts the callbacks."""

    def __init__(self, random: Random, on_death: Callable[[Strand], None]) -> None:
        self._random = random
        self._on_death = on_death
        self._now = 0.0
        self._timers: list[tuple[float, int, Turn]] = []
        self._order = count()
        self._live: list[Strand] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self.steps = 0

    # What asyncio asks of a loop.
    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        turn = Turn(callback, args, context if context is not None else copy_context(), self._now)
        strand = turn.strand
        if strand.alive:
            if not strand.ready:
                self._live.append(strand)
            strand.ready.append(turn)
        return turn

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        turn = Turn(callback, args, context if context is not None else copy_context(), when)
        heapq.heappush(self._timers, (when, next(self._order), turn))
        return turn

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=cast(Any, self))

    def create_task(self, coro: Any, *, name: Any = None, context: Context | None = None) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=cast(Any, self), name=name or "-", context=context)
        self._tasks.append(task)  # or those of a killed process would be collected, and clean up after all
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """The work is done at once: what a thread does to time is a delay, and delays come with the calls."""
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - as a thread's future would hand it on
            done.set_exception(error)
        return done

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Tasks of killed processes end without having been awaited."""

    # What the simulation asks of it.
    def pause(self, seconds: float) -> Pause:
        """Awaited, it lasts so long."""
        return Pause(self, seconds)

    def run(self, main: Coroutine[Any, Any, None], context: Context, until: float) -> bool:
        """Run to the end of ``main``, or until virtual time is over (False)."""
        asyncio.events._set_running_loop(cast(Any, self))
        try:
            task = self.create_task(main, context=context)
            self._run(task, until)
            if not task.done():
                return False
            task.result()
            return True
        finally:
            asyncio.events._set_running_loop(None)

    def _run(self, task: asyncio.Task[None], until: float) -> None:
        timers, live, random = self._timers, self._live, self._random
        while not task.done():
            if not live:
                if not timers:
                    return
                when, _, turn = heapq.heappop(timers)
                if turn.cancelled_ or not turn.strand.alive:
                    continue
                if when > until:
                    return
                self._now = max(self._now, when)
                strand = turn.strand
            else:
                strand = live[0] if len(live) == 1 else live[int(random.random() * len(live))]
                turn = strand.ready.popleft()
                if not strand.ready:
                    live.remove(strand)
                if turn.cancelled_:
                    continue
            self.steps += 1
            turn.context.run(turn.callback, *turn.args)
            if strand.doom is not None:
                strand.doom -= 1
                if strand.doom < 0:
                    self.kill(strand)

    def discard(self) -> None:
        """Let go of what has not come to its end; nothing of it matters any more. To leave that to the garbage
        collector would let it happen in the middle of another seed, and has crashed the interpreter."""
        self._timers.clear()
        for task in self._tasks:
            if not task.done():
                with suppress(BaseException):
                    task.get_coro().close()
        self._tasks.clear()
        for strand in self._live:
            strand.ready.clear()

    def kill(self, strand: Strand) -> None:
        """Nothing of it runs any more."""
        if not strand.alive:
            return
        strand.alive, strand.doom = False, None
        strand.ready.clear()
        if strand in self._live:
            self._live.remove(strand)
        self._on_death(strand)
