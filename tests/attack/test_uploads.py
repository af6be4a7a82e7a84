"""Bodies that do not end: cut off while they stream, at their limit in bytes and in time, on the running service."""

import asyncio
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from shared.sop import Role
from tests.attack.conftest import World
from tests.attack.raw import statuses
from tests.images import jpeg

MIB = 2**20
SECONDS = 4
"""LAPOR_BODY_SECONDS of the system under attack (conftest)."""


async def poured(
    world: World,
    path: str,
    most: int,
    *,
    pause: float = 0,
    piece: int = 65536,
    head: str = "",
    role: Role | None = None,
) -> tuple[bytes, int, float]:
    """Send a chunked body of up to ``most`` bytes for as long as the service takes it: its answer, the bytes that were
    sent, the seconds it took."""
    address = urlsplit(world.urls["intake"])
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    authorization = world.headers(role)["Authorization"] if role else "none"
    start = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\nContent-Type: application/json\r\n"
    writer.write((start + (head or "Transfer-Encoding: chunked\r\n") + "\r\n").encode())
    answer = asyncio.create_task(_answer(reader))
    sent, began = 0, time.monotonic()
    try:
        while sent < most and not answer.done():
            writer.write(b"%x\r\n%s\r\n" % (piece, b"x" * piece) if not head else b"x" * piece)
            async with asyncio.timeout(10):
                await writer.drain()
            sent += piece
            await asyncio.sleep(pause)
        async with asyncio.timeout(15):
            return await answer, sent, time.monotonic() - began
    except (ConnectionError, TimeoutError):
        return (answer.result() if answer.done() else b""), sent, time.monotonic() - began
    finally:
        answer.cancel()
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> bytes:
    received = b""
    while b'"errors":' not in received and (chunk := await reader.read(65536)):
        received += chunk
    return received


@pytest.mark.parametrize("path", ["/v1/complaints", "/v1/tokens", "/v1/complaints/0/rate"])
async def test_a_chunked_body_is_cut_off_at_the_limit(world: World, path: str) -> None:
    answer, sent, _ = await poured(world, path, 20 * MIB, pause=0.02, role=Role.CITIZEN)
    assert statuses(answer)[:1] == [413], answer[:300]
    assert b"application/problem+json" in answer
    assert sent < 8 * MIB, "the rest is not taken"


async def test_a_photo_without_a_length_is_cut_off_at_its_limit(world: World) -> None:
    answer, sent, _ = await poured(world, "/v1/photos", 100 * MIB, piece=MIB // 4, pause=0.02, role=Role.CITIZEN)
    assert statuses(answer)[:1] == [413], answer[:300]
    assert b"photo-too-large" in answer
    assert sent < 20 * MIB, "10 MiB are read, and what was under way"


async def test_a_photo_that_says_it_is_too_large_is_not_read_at_all(world: World) -> None:
    head = f"Content-Length: {100 * MIB}\r\n"
    answer, sent, _ = await poured(world, "/v1/photos", 100 * MIB, head=head, pause=0.05, role=Role.CITIZEN)
    assert statuses(answer)[:1] == [413], answer[:300]
    assert sent < MIB


@pytest.mark.parametrize("path", ["/v1/complaints", "/v1/photos"])
async def test_a_body_that_trickles_is_given_up(world: World, path: str) -> None:
    answer, _, took = await poured(world, path, MIB, piece=1, pause=0.2, role=Role.CITIZEN)
    assert statuses(answer)[:1] == [408], answer[:300]
    assert b"application/problem+json" in answer
    assert SECONDS - 1 < took < SECONDS + 4


async def test_trickling_photos_leave_room_for_others(world: World) -> None:
    slow = [
        asyncio.create_task(poured(world, "/v1/photos", 1000, piece=1, pause=0.3, role=Role.CITIZEN)) for _ in range(40)
    ]
    await asyncio.sleep(1)
    async with world.client("intake", Role.AGENCY_OPERATOR) as client:
        assert (await client.get("/v1/me")).status_code == 200
    async with world.client("opd", Role.AGENCY_OPERATOR) as client:
        assert (await client.post("/v1/photos", content=jpeg(64, 48))).status_code == 201
    answers = [statuses(answer)[:1] for answer, _, _ in await asyncio.gather(*slow)]
    assert {tuple(status) for status in answers} <= {(408,), (429,)}, "one person sends a few at a time"
    async with world.client("intake", Role.CITIZEN) as client:
        assert (await client.post("/v1/photos", content=jpeg(64, 48))).status_code == 201, "and then again"


async def test_a_report_has_five_photos_at_most_and_each_once(world: World) -> None:
    photos = []
    async with world.client("intake", Role.CITIZEN) as client:
        for seed in range(6):
            answer = await client.post("/v1/photos", content=jpeg(64, 48, seed=500 + seed))
            photos.append(answer.json()["id"])
        assert len(set(photos)) == 6
        with pytest.raises(Exception, match=r"422.*body\.photos"):
            await world.files(photos=photos)
        receipt = await world.files(photos=[photos[0]] * 5)
        report = (await client.get(f"/v1/complaints/{receipt['complaint_id']}")).json()["report"]
    assert [photo["id"] for photo in report["photos"]] == [photos[0]]


async def test_a_form_of_many_parts_is_no_photo(world: World) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(5000):
            yield f'--x\r\nContent-Disposition: form-data; name="f{number}"\r\n\r\ny\r\n'.encode()
        yield b"--x--"

    async with world.client("intake", Role.CITIZEN) as client:
        answer = await client.post(
            "/v1/photos", content=parts(), headers={"Content-Type": "multipart/form-data; boundary=x"}
        )
        assert answer.status_code == 415, answer.text
