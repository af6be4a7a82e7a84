"""Citizens take their data along: all that there is about them, and nothing of anybody else."""

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.servers import Servers
from services.intake.api import export
from services.intake.export import Archive, Exports
from shared.sop import Role, Transition
from tests.support import tokens
from tests.support.intake import Citizen, Intake, intake_at_work

OPERATOR = tokens.bearer(Role.CENTRAL_OPERATOR, "operator-1")


@pytest.fixture
async def intake(servers: Servers, namespace: str, tmp_path: Path) -> AsyncIterator[Intake]:
    """The service at work."""
    async with intake_at_work(servers, namespace, tmp_path) as at_work:
        yield at_work


async def taken_along(citizen: Citizen) -> dict[str, bytes]:
    """The files of a citizen's export."""
    answer = await citizen.get("/v1/me/export")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["cache-control"] == "no-store"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


async def test_all_that_the_routes_show_is_in_it(intake: Intake) -> None:
    siti = await intake.citizen(phone="0812-9999-0001")
    photo = await siti.photo()
    filed = await siti.files(photos=[photo])
    hidden = await siti.files(visibility="anonim")
    await intake.continues(filed, siti.id, Transition.FORWARDED, Transition.RETURNED)
    path = f"/v1/complaints/{filed['complaint_id']}"
    fixed = await siti.report(title="Jalan berlubang, sudah diperbaiki alamatnya", photos=[photo])
    assert (await siti.post(f"{path}/resubmit", fixed)).status_code == 201
    why = {"reason": "Menanyakan patokan lokasi kepada pelapor."}
    assert (await intake.client.post(f"{path}/reporter", json=why, headers=OPERATOR)).status_code == 201

    files = await taken_along(siti)
    person = json.loads(files["data.json"])
    assert person["account"] == (await siti.get("/v1/me")).json()
    assert person["accesses"] == (await siti.get("/v1/me/accesses")).json()["items"]
    assert person["sessions"] == (await siti.get("/v1/me/sessions")).json()["items"]
    for receipt in (filed, hidden):
        own = f"/v1/complaints/{receipt['complaint_id']}"
        case = json.loads(files[f"laporan/{receipt['number']}/laporan.json"])
        assert case["complaint"] == (await siti.get(own)).json()
        assert case["timeline"] == (await siti.get(f"{own}/timeline")).json()
        assert case["tracking_code"] == receipt["tracking_code"]
    case = json.loads(files[f"laporan/{filed['number']}/laporan.json"])
    titles = [report["title"] for report in case["reports"]]
    assert titles == ["Jalan berlubang di Gajah Mada", "Jalan berlubang, sudah diperbaiki alamatnya"]
    assert (case["photos"], case["missing"]) == (["foto-1.jpg"], [])
    shown = await siti.get(f"{path}/photos/{photo}", size="original")
    assert files[f"laporan/{filed['number']}/foto-1.jpg"] == shown.content
    assert "salinan data Anda" in files["BACA-SAYA.txt"].decode()


async def test_nothing_of_anybody_else_is_in_it(intake: Intake) -> None:
    siti, budi = await intake.citizen(), await intake.citizen(name="Kenari Qzxvkw")
    await siti.files()
    theirs = await budi.files(title="Kenari Qzxvkw melaporkan jalan rusak")
    await intake.continues(theirs, budi.id, Transition.FORWARDED)
    files = await taken_along(siti)
    assert len([name for name in files if name.endswith("laporan.json")]) == 1
    for name, content in files.items():
        for secret in ("Qzxvkw", budi.id, budi.email, theirs["number"], theirs["tracking_code"]):
            assert secret.encode() not in content, name
            assert secret not in name


async def test_more_than_a_page_is_there_and_a_lost_photo_is_named(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_PAGE", 5)
    siti = await intake.citizen()
    photo, lost = await siti.photo(), await siti.photo()
    filed = [await siti.files(photos=[photo]) for _ in range(12)]
    last = await siti.files(photos=[lost])
    await intake.database["photos"].delete_one({"_id": lost})
    files = await taken_along(siti)
    cases = {name.split("/")[1] for name in files if name.endswith("laporan.json")}
    assert cases == {receipt["number"] for receipt in (*filed, last)}
    assert json.loads(files[f"laporan/{last['number']}/laporan.json"])["missing"] == [lost]


async def test_one_at_a_time(intake: Intake) -> None:
    siti = await intake.citizen()
    for _ in range(20):
        await siti.files()
    answers = await asyncio.gather(*(siti.get("/v1/me/export") for _ in range(4)))
    assert sorted({answer.status_code for answer in answers}) == [200, 429]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) > 0
    await taken_along(siti)


def test_so_many_at_a_time_and_one_of_a_person() -> None:
    exports = Exports(at_a_time=2)
    again, busy = ValueError("again"), LookupError("busy")

    def made(citizen: str) -> Any:
        return exports.one(citizen, again, busy)

    with made("siti"), made("budi"):
        with pytest.raises(ValueError, match="again"), made("siti"):
            pass
        with pytest.raises(LookupError, match="busy"), made("tono"):
            pass
    with made("tono"):
        pass


async def test_what_nobody_reads_to_its_end_is_gone() -> None:
    archive = Archive()
    await archive.add_text("a.txt", "x" * 3_000_000)
    assert await archive.finish() > 0
    chunks = archive.chunks()
    await anext(chunks)
    await chunks.aclose()  # type: ignore[attr-defined]  # it is a generator
    with pytest.raises(ValueError, match="closed"):
        archive._file.read()
