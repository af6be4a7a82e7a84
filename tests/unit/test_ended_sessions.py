"""How services hear of sessions that were ended: from a real server, over one connection, and never in vain."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request

from deploy.local.ports import free_ports
from shared.auth import Verifier
from shared.ended_sessions import EVERY, PATH, EndedSessions, EndedSessionsReader
from tests.support.running import until

ENDED = "ab" * 32


class Listener(Verifier):
    """A verifier that writes down what it is told."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1/keys")
        self.heard: list[tuple[list[str], float]] = []

    def end(self, sessions: Iterable[str], seconds: float) -> None:
        self.heard.append((list(sessions), seconds))


@asynccontextmanager
async def intake(port: int) -> AsyncIterator[set[int]]:
    """Who tells of ended sessions; yields the callers' ports, one for each connection."""
    app, callers = FastAPI(), set[int]()

    @app.get(PATH)
    async def told(request: Request) -> EndedSessions:
        assert request.client is not None
        callers.add(request.client.port)
        return EndedSessions(ended=[ENDED], seconds=900)

    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, timeout_keep_alive=60))

    async def started() -> bool:
        return server.started

    serving = asyncio.create_task(server.serve())
    try:
        await until(started)
        yield callers
    finally:
        server.should_exit = True
        await serving


async def test_one_connection_lasts_from_one_look_to_the_next() -> None:
    (port,), verifier = free_ports(1), Listener()
    reader = EndedSessionsReader(f"http://127.0.0.1:{port}", verifier)
    async with intake(port) as callers:
        await reader.read()
        await asyncio.sleep(EVERY.total_seconds() + 0.3)
        await reader.read()
        assert len(callers) == 1
        assert verifier.heard == [([ENDED], 900.0)] * 2
        await reader.close()


async def test_without_intake_it_goes_on_and_hears_again_once_intake_is_back() -> None:
    (port,), verifier = free_ports(1), Listener()
    reader = EndedSessionsReader(f"http://127.0.0.1:{port}", verifier)
    for _ in range(2):
        await reader.read()
        assert verifier.heard == []
        async with intake(port):
            await reader.read()
        assert verifier.heard.pop() == ([ENDED], 900.0)
    await reader.close()
