"""Photos are prepared in processes of their own, off the event loop, so that no photo holds up or takes down a
service.

A worker process that goes beyond its limits (``shared.media_sandbox``) is ended by the system; a fresh one takes its
place, and only the photo that it had in hand is refused. For that, each worker is an executor of its own: in a shared
one, the death of one process fails every photo that waits.
"""

import asyncio
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import structlog

from shared import media_sandbox
from shared.journal import Overloaded
from shared.media import CleanPhoto, Limits, check_size, damaged

log = structlog.get_logger()


class PhotoWorkers:
    """``prepare`` for coroutines: at most ``workers`` photos at a time, at most ``waiting`` more in line.

    A photo that takes more than ``cpu_seconds`` of CPU time or ``memory_bytes`` of address space is refused as
    damaged. The largest that the default limits admit (40 megapixels with transparency) take 1.5 s and 0.7 GB.
    """

    def __init__(
        self,
        workers: int = 2,
        waiting: int = 32,
        limits: Limits = Limits(),
        cpu_seconds: float = 20.0,
        memory_bytes: int = 2 * 2**30,
    ) -> None:
        self._workers = workers
        self._max_waiting = waiting
        self._limits = limits
        self._cpu_seconds = cpu_seconds
        self._memory_bytes = memory_bytes
        # forkserver: forking a process that has threads can deadlock, and a fresh worker is there in milliseconds
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([media_sandbox.__name__])
        self._idle: asyncio.Queue[ProcessPoolExecutor] = asyncio.Queue()
        self._running = False
        self.waiting = 0

    async def start(self) -> None:
        """Start the processes, so that the first photo does not wait for them. Repeating it does nothing."""
        if self._running:
            return
        loop = asyncio.get_running_loop()
        executors = [self._new_executor() for _ in range(self._workers)]
        await asyncio.gather(*(loop.run_in_executor(executor, os.getpid) for executor in executors))
        for executor in executors:
            self._idle.put_nowait(executor)
        self._running = True

    async def stop(self) -> None:
        """Let the photos that were accepted finish, then end the processes, if they were started."""
        if not self._running:
            return
        self._running = False
        for _ in range(self._workers):
            executor = await self._idle.get()
            await asyncio.to_thread(executor.shutdown)

    async def prepare(self, data: bytes) -> CleanPhoto:
        """``shared.media.prepare`` in a worker. Raises PhotoRefused, or Overloaded (also when not running)."""
        check_size(data, self._limits)
        if not self._running or (self._idle.empty() and self.waiting >= self._max_waiting):
            raise Overloaded("too many photos wait to be prepared")
        self.waiting += 1
        try:
            executor = await self._idle.get()
        finally:
            self.waiting -= 1
        # shielded: a caller that goes away must not free a worker that is still busy
        return await asyncio.shield(asyncio.create_task(self._prepare_on(executor, data)))

    async def _prepare_on(self, executor: ProcessPoolExecutor, data: bytes) -> CleanPhoto:
        loop = asyncio.get_running_loop()
        try:
            for attempt in (1, 2):  # twice: the process may have been ended for a reason that is not in the photo
                try:
                    return await loop.run_in_executor(
                        executor, media_sandbox.prepare_within, self._cpu_seconds, data, self._limits
                    )
                except BrokenProcessPool:
                    log.warning("photo worker ended", attempt=attempt, photo_bytes=len(data))
                    executor.shutdown(wait=False)
                    executor = self._new_executor()
            raise damaged()
        finally:
            self._idle.put_nowait(executor)

    def _new_executor(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            1, mp_context=self._context, initializer=media_sandbox.confine, initargs=(self._memory_bytes,)
        )
