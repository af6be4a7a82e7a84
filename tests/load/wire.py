"""The load generator's HTTP client: as cheap as can be, since it shares the machine with what it measures.

Requests are bytes that were put together beforehand; of an answer it reads the status, the length and the body. It is
no general client: answers must carry ``content-length`` in small letters, as those of uvicorn do.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import cast

_LENGTH = b"\r\ncontent-length: "

Answer = tuple[int, bytes]
"""Status and body."""


class Lost(ConnectionError):
    """The server closed a connection on which an answer was awaited."""


class Connection(asyncio.Protocol):
    """One connection, kept alive; one request at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class does not descend from it

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            at = data.find(_LENGTH, 0, end) + len(_LENGTH)
            if at < len(_LENGTH):
                self.connection_lost(ValueError(f"an answer without content-length: {data[:200]!r}"))
                return
            stop = data.find(b"\r\n", at)
            total = end + 4 + int(data[at:stop])
            if len(data) >= total:
                self._rest = data[total:]
                waiting, self._waiting = self._waiting, None
                if waiting is not None and not waiting.done():
                    waiting.set_result((int(data[9:12]), data[end + 4 : total]))
                return
        self._rest = data

    def connection_lost(self, exc: Exception | None) -> None:
        waiting, self._waiting = self._waiting, None
        self._transport = None
        if waiting is not None and not waiting.done():
            waiting.set_exception(Lost(repr(exc)))

    def send(self, request: bytes) -> asyncio.Future[Answer]:
        """Send one request; the future is its answer. Raises `Lost` when the connection has gone."""
        if self._transport is None:
            raise Lost("the connection was closed before the request")
        self._waiting = self._loop.create_future()
        self._transport.write(request)
        return self._waiting

    @property
    def open(self) -> bool:
        """Whether it can be used."""
        return self._transport is not None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def connect(url: str) -> Connection:
    """A new connection to a base URL ``http://host:port``."""
    host, _, port = url.removeprefix("http://").partition(":")
    _, connection = await asyncio.get_running_loop().create_connection(Connection, host, int(port))
    return connection


class Pool:
    """Up to ``size`` connections to one server; whoever finds none free waits in turn."""

    def __init__(self, url: str, size: int) -> None:
        self._url = url
        self._free: asyncio.LifoQueue[Connection | None] = asyncio.LifoQueue()
        for _ in range(size):
            self._free.put_nowait(None)

    async def send(self, request: bytes) -> Answer:
        """One request on a free connection. A connection that was closed while it lay idle is made anew."""
        connection = await self._free.get()
        try:
            if connection is None or not connection.open:
                connection = await connect(self._url)
            return await connection.send(request)
        finally:
            self._free.put_nowait(connection)

    def close(self) -> None:
        while not self._free.empty():
            connection = self._free.get_nowait()
            if connection is not None:
                connection.close()


@asynccontextmanager
async def pool(url: str, size: int) -> AsyncIterator[Pool]:
    """A pool that is closed at the end."""
    opened = Pool(url, size)
    try:
        yield opened
    finally:
        opened.close()


def request(
    method: str, path: str, body: bytes = b"", *, token: str = "", headers: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of one request; a body is JSON unless ``headers`` say otherwise."""
    fields = {"Host": "127.0.0.1", "Content-Length": str(len(body)), "Content-Type": "application/json"}
    if token:
        fields["Authorization"] = f"Bearer {token}"
    fields |= headers or {}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body
