"""A real SMTP server for one machine: every mail that it takes becomes an .eml file, for people and tests to read.

Run as `python -m deploy.local.smtp --port 10250 --folder data/mail`.
"""

import argparse
import asyncio
import itertools
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

from deploy.local import ports
from deploy.local.processes import Child, Children

WITHIN = 20.0


class Mailbox:
    """Keeps mail in `folder`, one file each, named so that sorting by name sorts by time of arrival."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """Write the mail with its envelope (RFC 5321) as X- headers; it is there in full or not at all."""
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{next(self._numbers):06}"
        head = [f"X-Envelope-From: {envelope.mail_from}", *(f"X-Envelope-To: {to}" for to in envelope.rcpt_tos)]
        body = envelope.content if isinstance(envelope.content, bytes) else str(envelope.content).encode()
        unfinished = self._folder / f"{name}.part"
        unfinished.write_bytes("".join(f"{line}\r\n" for line in head).encode() + body)
        unfinished.rename(self._folder / f"{name}.eml")
        return f"250 kept as {name}.eml"


async def serve(host: str, port: int, folder: Path) -> None:
    """Take mail at `host` until SIGTERM or SIGINT. Raises OSError when the port or folder cannot be used."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    mailbox = Mailbox(folder)
    server = await loop.create_server(
        lambda: SMTP(mailbox, hostname="localhost", enable_SMTPUTF8=True, loop=loop), host, port
    )
    async with server:
        print(f"SMTP on {host}:{port}, mail kept in {folder}", flush=True)
        await stop.wait()


def start(children: Children, port: int, folder: Path) -> Child:
    """Start the server as a child process and wait until it takes connections. Raises CannotRun."""
    command = [sys.executable, "-m", "deploy.local.smtp", "--port", str(port), "--folder", str(folder)]
    child = children.start("smtp", command, stop_within=5)
    wait(child, port)
    return child


def wait(child: Child, port: int) -> None:
    """Wait until a server that was just started takes connections. Raises CannotRun."""
    child.wait_until(lambda: ports.accepts(port), WITHIN)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m deploy.local.smtp", description=__doc__)
    parser.add_argument("--host", default=ports.LOOPBACK, help="another than loopback only inside a container")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    os.umask(0o077)  # mail is personal
    given.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(serve(given.host, given.port, given.folder))
