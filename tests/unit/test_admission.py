"""The door: what is beyond the bound is refused at once, and those inside are served; health is always let in."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Request

from shared import http
from shared.admission import Admission, BodyLimit
from tests.support.running import until


def crowded(gate: asyncio.Event) -> FastAPI:
    """An application whose one route waits at ``gate``."""
    app = FastAPI()

    @app.get("/slow")
    async def slow() -> str:
        await gate.wait()
        return "done"

    @app.get("/health/live")
    async def live() -> str:
        return "live"

    app.add_middleware(Admission, most=3, refusal=http.busy().response())
    return app


async def test_beyond_the_bound_the_answer_is_503_at_once_and_the_others_are_served() -> None:
    gate = asyncio.Event()
    transport = httpx.ASGITransport(crowded(gate))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        asked = [asyncio.create_task(client.get("/slow")) for _ in range(10)]

        async def seven_are_refused() -> bool:
            return sum(one.done() for one in asked) == 7

        await until(seven_are_refused, within=5)
        refused = [one.result() for one in asked if one.done()]
        assert {answer.status_code for answer in refused} == {503}
        assert {answer.headers["content-type"] for answer in refused} == {"application/problem+json"}
        assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
        assert refused[0].json()["type"] == "urn:lapor:problem:unavailable"
        assert (await client.get("/health/live")).status_code == 200
        gate.set()
        answers = [await one for one in asked]
        assert [answer.status_code for answer in answers].count(200) == 3
        assert (await client.get("/slow")).status_code == 200, "who has left makes room"


async def test_a_request_that_fails_makes_room_too() -> None:
    app = FastAPI()

    @app.get("/fails")
    async def fails() -> str:
        raise RuntimeError

    app.add_middleware(Admission, most=1, refusal=http.busy().response())
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        assert [(await client.get("/fails")).status_code for _ in range(3)] == [500, 500, 500]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_beyond_the_limit_is_refused_as_a_problem(chunked: bool) -> None:
    app = FastAPI()
    http.install(app)

    @app.post("/things")
    async def things(body: dict[str, str]) -> int:
        return len(body)

    @app.post("/v1/photos")
    async def photos(request: Request) -> int:
        return len(await request.body())

    app.add_middleware(BodyLimit, most=1000, refusal=http.too_large(1000).response())

    async def pieces(size: int) -> AsyncIterator[bytes]:
        yield b'{"text": "'
        for _ in range(size // 100):
            yield b"x" * 100
        yield b'"}'

    async def sent(path: str, size: int) -> httpx.Response:
        body = b"".join([piece async for piece in pieces(size)])
        content = pieces(size) if chunked else body
        return await client.post(path, content=content, headers={"Content-Type": "application/json"})

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        assert (await sent("/things", 900)).status_code == 200
        refused = await sent("/things", 2000)
        assert (refused.status_code, refused.headers["content-type"]) == (413, "application/problem+json")
        assert refused.json()["type"] == "urn:lapor:problem:content-too-large"
        assert "1000" in refused.json()["detail"]
        assert (await sent("/v1/photos", 2000)).status_code == 200, "photos have a limit of their own"
