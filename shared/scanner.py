"""A virus scanner beside the photos: clamd's INSTREAM, spoken directly (clamd(8), "COMMANDS").

The protocol is one command, the data in pieces with their lengths before them, and one line back. The packages for it
either block or know no Unix socket.
"""

import asyncio
import struct

_PIECE = 64 * 1024


class ScannerAway(Exception):
    """The scanner cannot be asked, or gave no verdict: whether the data are clean is not known."""


class Clamd:
    """A clamd at ``address``: ``host:port``, or the path of its Unix socket."""

    def __init__(self, address: str, seconds: float = 20) -> None:
        self._address = address
        self._seconds = seconds

    async def infected(self, data: bytes) -> bool:
        """Whether a signature was found in the data. Raises `ScannerAway`."""
        try:
            async with asyncio.timeout(self._seconds):
                verdict = await self._asked(data)
        except (OSError, EOFError) as error:  # a time-out is one of the first
            raise ScannerAway(type(error).__name__) from None
        if verdict.endswith(b" FOUND"):
            return True
        if verdict == b"stream: OK":
            return False
        raise ScannerAway("no verdict")

    async def _asked(self, data: bytes) -> bytes:
        if "/" in self._address:
            reader, writer = await asyncio.open_unix_connection(self._address)
        else:
            host, _, port = self._address.rpartition(":")
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        try:
            writer.write(b"zINSTREAM\0")
            for start in range(0, len(data), _PIECE):
                piece = data[start : start + _PIECE]
                writer.write(struct.pack(">I", len(piece)) + piece)
                await writer.drain()
            writer.write(struct.pack(">I", 0))
            await writer.drain()
            return (await reader.readuntil(b"\0"))[:-1]
        finally:
            writer.close()
