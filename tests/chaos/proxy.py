"""A TCP proxy between the services and a server, which cuts, delays, or swallows the reply to what the server has
done."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

from deploy.local.ports import LOOPBACK

Recognise = Callable[[bytes], bool]
"""Whether what a client has sent is a request of a kind; it is given what came in one read."""

_READ_BYTES = 2**16
_AT_ONCE = struct.pack("ii", 1, 0)
"""Of SO_LINGER: what is closed is gone."""


def mongo_insert(sent: bytes) -> bool:
    """An insert into a journal (OP_MSG, whose first element names the command)."""
    return b"\x02insert\x00\x08\x00\x00\x00journal\x00" in sent


def mongo_write(sent: bytes) -> bool:
    """Any insert or update."""
    return b"\x02insert\x00" in sent or b"\x02update\x00" in sent


def kafka_produce(sent: bytes) -> bool:
    """A Produce request: API key 0 after the four bytes of the length."""
    return len(sent) > 8 and sent[4:6] == b"\x00\x00"


def kafka_commit(sent: bytes) -> bool:
    """An OffsetCommit request: API key 8."""
    return len(sent) > 8 and sent[4:6] == b"\x00\x08"


class Proxy:
    """Listens on ``port`` of loopback and passes everything on to ``target``, until it is told otherwise."""

    def __init__(self, port: int, target: int) -> None:
        self.port, self.target = port, target
        self.dropped = 0
        """Replies swallowed so far."""
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._open = True
        self._delay = 0.0
        self._swallow: Recognise | None = None
        self._swallow_left = 0

    async def start(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port)

    async def stop(self) -> None:
        """Close everything; nothing of it is left to the event loop."""
        if self._server:
            self._server.close()
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def cut(self, *, reset: bool = False) -> None:
        """Break all connections and refuse new ones; ``reset``: without the farewell of TCP (RST in place of FIN)."""
        self._open = False
        for writer in list(self._links):
            if reset:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            writer.transport.abort()

    def delay(self, seconds: float) -> None:
        """Hold back everything, both ways, so long."""
        self._delay = seconds

    def drop_replies(self, to: Recognise, count: int) -> None:
        """Pass the next ``count`` requests of a kind on, swallow what the server answers, and break the connection."""
        self._swallow, self._swallow_left = to, count

    def clear(self) -> None:
        """Behave."""
        self._open, self._delay, self._swallow = True, 0.0, None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)
        try:
            if self._open:
                with contextlib.suppress(asyncio.CancelledError):  # Python 3.11's streams trip over a cancelled task
                    await self._link(reader, writer)
        finally:
            writer.transport.abort()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self.target)
        except OSError:
            return
        marked = asyncio.Event()
        ends = (writer, far_writer)
        self._links.update(ends)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._requests(reader, far_writer, marked, ends))
                both.create_task(self._replies(far_reader, writer, marked, ends))
        finally:
            self._links.difference_update(ends)
            far_writer.transport.abort()

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        marked: asyncio.Event,
        ends: tuple[asyncio.StreamWriter, ...],
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_READ_BYTES):
                if self._swallow and self._swallow_left > 0 and self._swallow(data):
                    self._swallow_left -= 1
                    marked.set()
                await self._pass(data, writer)
        for end in ends:
            end.transport.abort()

    async def _replies(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        marked: asyncio.Event,
        ends: tuple[asyncio.StreamWriter, ...],
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_READ_BYTES):
                if marked.is_set():
                    self.dropped += 1
                    break
                await self._pass(data, writer)
        for end in ends:
            end.transport.abort()

    async def _pass(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if self._delay:
            await asyncio.sleep(self._delay)
        writer.write(data)
        await writer.drain()
