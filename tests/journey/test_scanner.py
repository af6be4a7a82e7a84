"""Photos before a real clamd: what it finds is refused, and without it nothing is taken unless that is allowed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.local.servers import Servers
from services.intake.app import build
from shared import topics
from shared.scanner import Clamd, ScannerAway
from shared.storage import connect
from tests.images import encoded, jpeg, picture
from tests.support.clamd import SIGNATURE, running_clamd
from tests.support.intake import Citizen, Intake, intake_settings
from tests.support.running import running


@asynccontextmanager
async def citizen_of(
    servers: Servers, namespace: str, folder: Path, clamd: str, *, required: bool = True
) -> AsyncIterator[Citizen]:
    """A citizen of an intake service that asks this scanner."""
    settings = intake_settings(servers, namespace, folder)
    settings = settings.model_copy(update={"clamd": clamd, "clamd_required": required})
    await topics.create(settings)
    database = connect(settings.mongo_url)[settings.database("intake")]
    async with running(build(settings)) as client:
        yield await Intake(settings, client, database).citizen()
    database.client.close()


def infected() -> bytes:
    """A picture with the tests' signature in its comment."""
    return encoded(picture(64, 48), "JPEG", comment=SIGNATURE)


async def test_what_the_scanner_finds_is_not_stored(servers: Servers, namespace: str, tmp_path: Path) -> None:
    with running_clamd(tmp_path) as socket:
        async with citizen_of(servers, namespace, tmp_path, str(socket)) as citizen:
            client, database = citizen.intake.client, citizen.intake.database
            refused = await client.post("/v1/photos", content=infected(), headers=citizen.headers)
            assert (refused.status_code, refused.json()["type"]) == (422, "urn:lapor:problem:photo-infected")
            assert "berbahaya" in refused.json()["message"]
            assert await database["photos.files"].count_documents({}) == 0
            large = encoded(picture(3000, 2000), "JPEG", quality=95)
            for clean in (jpeg(64, 48), large):
                taken = await client.post("/v1/photos", content=clean, headers=citizen.headers)
                assert taken.status_code == 201, taken.text
            assert await database["photos.files"].count_documents({}) > 0, "clean photos are"


@pytest.mark.parametrize(("required", "status"), [(True, 503), (False, 201)])
async def test_without_the_scanner_the_setting_decides(
    servers: Servers, namespace: str, tmp_path: Path, required: bool, status: int
) -> None:
    nowhere = str(tmp_path / "nobody.sock")
    async with citizen_of(servers, namespace, tmp_path, nowhere, required=required) as citizen:
        answer = await citizen.intake.client.post("/v1/photos", content=jpeg(64, 48), headers=citizen.headers)
        assert answer.status_code == status, answer.text


@pytest.mark.parametrize("said", [b"INSTREAM size limit exceeded. ERROR\0", b"stream: what? \0", b"", None])
async def test_what_is_no_verdict_is_none(said: bytes | None) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        if said is None:
            await asyncio.sleep(2)
        else:
            writer.write(said)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ScannerAway):
            await Clamd(f"127.0.0.1:{port}", seconds=1).infected(b"x")
