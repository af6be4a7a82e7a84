"""Bytes on a socket: what no HTTP client would send."""

import asyncio
from urllib.parse import urlsplit


async def exchanged(url: str, sent: bytes, within: float = 10) -> bytes:
    """All that a server answers to these bytes until it closes or says nothing more."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    received = b""
    try:
        writer.write(sent)
        await writer.drain()
        async with asyncio.timeout(within):
            while chunk := await reader.read(65536):
                received += chunk
                if b"\r\n\r\n" in received:
                    within_moment = asyncio.timeout(0.5)
                    async with within_moment:
                        received += await reader.read(65536)
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return received


def statuses(answer: bytes) -> list[int]:
    """The statuses of the answers in it, in order."""
    return [int(line.split()[1]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
