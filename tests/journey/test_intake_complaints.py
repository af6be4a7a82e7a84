"""Filing and following complaints: the intake service alone on real servers, other desks' events published to it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from deploy.local.servers import Servers
from shared.events import ChainEvent, Submitted, now
from shared.sop import Clock, Role, Transition
from tests.conftest import fresh_namespace
from tests.support import tokens
from tests.support.events import STRAIGHT
from tests.support.intake import Intake, intake_at_work
from tests.support.running import read_topics, until

T = Transition
ANSWERING = STRAIGHT[1:]
RETURNING = (T.FORWARDED, T.RETURNED)
UNKNOWN = "01930000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
async def intake(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Intake]:
    async with (
        fresh_namespace(servers) as namespace,
        intake_at_work(servers, namespace, tmp_path_factory.mktemp("intake")) as service,
    ):
        yield service


async def events(intake: Intake, complaint_id: str, *topics: str) -> list[ChainEvent]:
    found = await read_topics(intake.settings, *topics)
    return [event for event in found if isinstance(event, ChainEvent) and event.complaint_id == complaint_id]


async def test_a_report_is_filed_published_and_read_back_at_once(intake: Intake) -> None:
    siti = await intake.citizen()
    body = await siti.report(title="  Jalan berlubang\n di Gajah Mada ")
    answer = await siti.post("/v1/complaints", body)
    assert answer.status_code == 201
    receipt = answer.json()
    assert re.fullmatch(r"LP-\w{4}-\w{4}-\w", receipt["number"])
    assert len(receipt["tracking_code"]) == 26
    read = (await siti.get(f"/v1/complaints/{receipt['complaint_id']}")).json()
    assert read["report"]["title"] == "Jalan berlubang di Gajah Mada"
    assert read["report"]["place"]["district"]
    assert (read["status"], read["seq"], read["holder"], read["allowed"]) == ("submitted", 1, "routing", [])
    assert read["due_at"] == receipt["due_at"]
    (event,) = await events(intake, receipt["complaint_id"], "complaint.submitted")
    assert isinstance(event, Submitted)
    assert intake.settings.deadlines.due_at(Clock.FORWARD, event.occurred_at).isoformat() == receipt["due_at"].replace(
        "Z", "+00:00"
    )
    assert event.reporter_id == siti.id
    assert siti.email not in event.model_dump_json()
    journal = await intake.database["journal"].find_one({"_id": event.id})
    assert receipt["tracking_code"] not in str(journal)
    assert receipt["tracking_code"] not in str(
        await intake.database["complaints"].find_one({"_id": event.complaint_id})
    )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"title": "Jalan"}, "body.title"),
        ({"title": " " * 40}, "body.title"),
        ({"title": "x" * 151}, "body.title"),
        ({"title": None}, "body.title"),
        ({"title": "Jalan berlubang \ud800"}, "body.title"),
        ({"description": "Ada lubang"}, "body.description"),
        ({"description": "x" * 5001}, "body.description"),
        ({"category": "unknown"}, "body.category"),
        ({"place": {}}, "body.place.address"),
        ({"place": {"longitude": 109.3425}}, "body.place.latitude"),
        ({"place": {"longitude": 106.8, "latitude": -6.2}}, "body.place.longitude"),
        ({"place": {"longitude": 300, "latitude": 0}}, "body.place.longitude"),
        ({"place": {"address": "Jl. A"}}, "body.place.address"),
        ({"seen_at": "yesterday"}, "body.seen_at"),
        ({"seen_at": "2026-11-20T07:30:00"}, "body.seen_at"),
        ({"seen_at": (now() + timedelta(hours=1)).isoformat()}, "body.seen_at"),
        ({"seen_at": (now() - timedelta(days=400)).isoformat()}, "body.seen_at"),
        ({"photos": []}, "body.photos"),
        ({"photos": ["a" * 64] * 6}, "body.photos"),
        ({"photos": ["a" * 64]}, "body.photos.0"),
        ({"photos": ["../../etc/passwd"]}, "body.photos.0"),
        ({"visibility": "secret"}, "body.visibility"),
    ],
)
async def test_a_report_that_cannot_be_taken_is_refused_with_its_field(
    intake: Intake, changes: dict[str, Any], field: str
) -> None:
    siti = await intake.citizen()
    body = await siti.report(**changes)
    content = json.dumps(body)  # as clients in other languages can send it: the driver refuses what is no Unicode
    answer = await intake.client.post(
        "/v1/complaints", content=content, headers={**siti.headers, "Content-Type": "application/json"}
    )
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["field"] == field
    assert (await siti.get("/v1/complaints")).json()["items"] == []


@pytest.mark.parametrize("missing", ["title", "description", "category", "place", "seen_at", "photos"])
async def test_a_report_without_one_of_its_parts_is_refused(intake: Intake, missing: str) -> None:
    siti = await intake.citizen()
    body = await siti.report()
    del body[missing]
    answer = await siti.post("/v1/complaints", body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == f"body.{missing}"


async def test_another_citizens_photo_is_no_photo(intake: Intake) -> None:
    siti, budi = await intake.citizen(), await intake.citizen()
    photo = await siti.photo()
    answer = await budi.post("/v1/complaints", await budi.report(photos=[photo]))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "body.photos.0"


async def test_an_old_upload_is_good_only_for_what_shows_it(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    siti = await intake.citizen()
    photo, other = await siti.photo(), await siti.photo()
    filed = await siti.files(photos=[photo])
    await intake.continues(filed, siti.id, Transition.FORWARDED, Transition.RETURNED)
    monkeypatch.setattr("shared.photos.USABLE", timedelta(0))  # all are old
    path = f"/v1/complaints/{filed['complaint_id']}/resubmit"
    answer = await siti.post(path, await siti.report(photos=[photo, other]))
    assert answer.status_code == 422, answer.text
    assert [fault["field"] for fault in answer.json()["errors"]] == ["body.photos.1"]
    corrected = await siti.post(path, await siti.report(photos=[photo]))
    assert corrected.status_code == 201, corrected.text


async def test_what_is_no_photo_is_refused(intake: Intake) -> None:
    siti = await intake.citizen()
    for content, status in ((b"Jalan berlubang.\n" * 50, 415), (b"", 422), (b"\xff" * (10 * 2**20 + 1), 413)):
        answer = await intake.client.post("/v1/photos", content=content, headers=siti.headers)
        assert answer.status_code == status, answer.text


async def test_only_a_citizen_who_has_signed_in_files(intake: Intake) -> None:
    siti = await intake.citizen()
    body = await siti.report()
    assert (await intake.client.post("/v1/complaints", json=body)).status_code == 401
    for role in (role for role in Role if role is not Role.CITIZEN):
        agency = "DPUPR" if role is Role.AGENCY_OPERATOR else None
        answer = await intake.client.post("/v1/complaints", json=body, headers=tokens.bearer(role, "x", agency))
        assert answer.status_code == 403
        assert answer.json()["type"] == "urn:lapor:problem:role-not-allowed"


async def test_twenty_requests_under_one_key_are_one_complaint(intake: Intake) -> None:
    siti = await intake.citizen()
    body = await siti.report()
    answers = await asyncio.gather(*(siti.post("/v1/complaints", body, "kunci-yang-sama") for _ in range(20)))
    assert [answer.status_code for answer in answers] == [201] * 20
    assert len({answer.text for answer in answers}) == 1, "the tracking code is among what is repeated"
    assert len((await siti.get("/v1/complaints")).json()["items"]) == 1
    assert len(await events(intake, answers[0].json()["complaint_id"], "complaint.submitted")) == 1
    other = await siti.post("/v1/complaints", body | {"visibility": "rahasia"}, "kunci-yang-sama")
    assert other.status_code == 422
    assert other.json()["type"] == "urn:lapor:problem:idempotency-key-reused"
    budi = await intake.citizen()
    assert (await budi.post("/v1/complaints", await budi.report(), "kunci-yang-sama")).status_code == 201


async def test_ones_list_is_paged_and_filtered(intake: Intake) -> None:
    siti = await intake.citizen()
    filed = [await siti.files(category=category) for category in ("roads", "waste", "roads", "waste", "roads")]
    await intake.continues(filed[0], siti.id, T.FORWARDED)
    seen, cursor = [], None
    while True:
        page = (await siti.get("/v1/complaints", limit=2, **({"cursor": cursor} if cursor else {}))).json()
        seen += [item["number"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [receipt["number"] for receipt in reversed(filed)]
    waste = (await siti.get("/v1/complaints", category="waste")).json()["items"]
    assert [item["number"] for item in waste] == [filed[3]["number"], filed[1]["number"]]
    forwarded = (await siti.get("/v1/complaints", status="forwarded")).json()["items"]
    assert [item["number"] for item in forwarded] == [filed[0]["number"]]
    assert (await siti.get("/v1/complaints", cursor="nonsense")).status_code == 422
    assert (await siti.get("/v1/complaints", status="nonsense")).status_code == 422


async def test_another_citizens_complaint_looks_like_none(intake: Intake) -> None:
    siti, budi = await intake.citizen(), await intake.citizen()
    filed = await siti.files()
    photo = (await siti.get(f"/v1/complaints/{filed['complaint_id']}")).json()["report"]["photos"][0]["id"]
    report = await budi.report()
    for suffix, body in (
        ("", None),
        ("/timeline", None),
        (f"/photos/{photo}", None),
        ("/resubmit", report),
        ("/rate", {"rating": 5}),
        ("/withdraw", {}),
        ("/reopen", {"reason": "Belum selesai juga."}),
    ):
        forbidden, unknown = (f"/v1/complaints/{i}{suffix}" for i in (filed["complaint_id"], UNKNOWN))
        answers = [await (budi.get(path) if body is None else budi.post(path, body)) for path in (forbidden, unknown)]
        assert [answer.status_code for answer in answers] == [404, 404], suffix
        assert answers[0].text == answers[1].text


async def test_a_returned_report_is_corrected_and_goes_back_to_the_desk_that_asked(intake: Intake) -> None:
    siti = await intake.citizen()
    filed = await siti.files()
    path = f"/v1/complaints/{filed['complaint_id']}"
    early = await siti.post(f"{path}/resubmit", await siti.report())
    assert early.status_code == 409
    assert early.json()["state"] == {"status": "submitted", "seq": 1, "allowed": []}
    await intake.continues(filed, siti.id, *RETURNING)
    read = (await siti.get(path)).json()
    assert (read["holder"], read["allowed"]) == ("intake", ["resubmitted", "closed"])
    assert (await siti.post(f"{path}/resubmit", await siti.report(category="unknown"))).status_code == 422
    body = await siti.report(title="Jalan rusak di Gang Kenari")
    answers = await asyncio.gather(*(siti.post(f"{path}/resubmit", body, "kunci-perbaikan") for _ in range(8)))
    assert [answer.status_code for answer in answers] == [201] * 8
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].json()["seq"] == 4
    again = await siti.post(f"{path}/resubmit", body)
    assert again.status_code == 409
    read = (await siti.get(path)).json()
    assert (read["status"], read["report"]["title"]) == ("forwarded", "Jalan rusak di Gang Kenari")
    assert [e.seq for e in await events(intake, filed["complaint_id"], "complaint.resubmitted")] == [4]


async def test_a_returned_report_is_withdrawn(intake: Intake) -> None:
    siti = await intake.citizen()
    filed = await siti.files()
    await intake.continues(filed, siti.id, *RETURNING)
    answer = await siti.post(f"/v1/complaints/{filed['complaint_id']}/withdraw", {"comment": "Sudah diperbaiki warga."})
    assert answer.status_code == 201
    read = (await siti.get(f"/v1/complaints/{filed['complaint_id']}")).json()
    assert (read["status"], read["holder"], read["due_at"], read["allowed"]) == ("closed", None, None, [])


async def test_an_answer_is_reopened_answered_again_and_rated(intake: Intake) -> None:
    siti = await intake.citizen()
    filed = await siti.files()
    path = f"/v1/complaints/{filed['complaint_id']}"
    await intake.continues(filed, siti.id, *ANSWERING)
    read = (await siti.get(path)).json()
    assert (read["status"], read["allowed"]) == ("answered", ["reopened", "closed"])
    assert read["evidence"][0]["held_by"] == "opd"
    assert read["agency"]["code"] == "DPUPR"
    assert (await siti.post(f"{path}/reopen", {"reason": "x"})).status_code == 422
    assert (await siti.post(f"{path}/reopen", {"reason": "Amblas lagi setelah hujan."})).status_code == 201
    await intake.continues(filed, siti.id, *STRAIGHT[2:])
    for rating in (0, 6, "lima"):
        assert (await siti.post(f"{path}/rate", {"rating": rating})).status_code == 422
    assert (await siti.post(f"{path}/rate", {"rating": 4, "comment": "Akhirnya baik."})).status_code == 201
    line = (await siti.get(f"{path}/timeline")).json()
    moves = [entry["event"].removeprefix("complaint.") for entry in line["entries"]]
    assert moves == [*STRAIGHT, "reopened", *STRAIGHT[2:], "closed"]
    assert line["entries"][-1]["text"] == "Laporan ditutup dengan penilaian 4 dari 5."
    assert {entry["by"] for entry in line["entries"]} == {
        "citizen", "central_operator", "regional_operator", "Dinas Pekerjaan Umum dan Penataan Ruang", "system",
    }  # fmt: skip
    assert siti.id not in str(line)


async def test_of_two_moves_at_once_one_wins_and_the_other_is_told_the_fresh_state(intake: Intake) -> None:
    siti = await intake.citizen()
    filed = await siti.files()
    path = f"/v1/complaints/{filed['complaint_id']}"
    await intake.continues(filed, siti.id, *ANSWERING)
    answers = await asyncio.gather(
        siti.post(f"{path}/rate", {"rating": 5}), siti.post(f"{path}/reopen", {"reason": "Amblas lagi setelah hujan."})
    )
    assert sorted(answer.status_code for answer in answers) == [201, 409]
    loser = next(answer for answer in answers if answer.status_code == 409).json()
    assert loser["type"] == "urn:lapor:problem:move-not-allowed-from-status"
    assert loser["state"]["seq"] == 8
    assert loser["state"]["status"] in ("closed", "forwarded")
    assert len(await events(intake, filed["complaint_id"], "complaint.closed", "complaint.reopened")) == 1


async def test_after_its_window_an_answer_is_not_reopened_but_closed_by_the_clock_once(intake: Intake) -> None:
    siti = await intake.citizen()
    answered, returned, fresh = [await siti.files() for _ in range(3)]
    long_ago = now() - timedelta(days=60)
    await intake.continues(returned, siti.id, *RETURNING, at=long_ago)
    await intake.continues(answered, siti.id, *ANSWERING, at=long_ago)
    await intake.continues(fresh, siti.id, *RETURNING)
    late = await siti.post(f"/v1/complaints/{answered['complaint_id']}/reopen", {"reason": "Amblas lagi, tolong."})
    assert late.status_code == 409
    assert late.json()["type"].rsplit(":", 1)[1] in ("window-passed", "move-not-allowed-from-status")

    async def both_closed() -> bool:
        found = [(await siti.get(f"/v1/complaints/{f['complaint_id']}")).json() for f in (answered, returned)]
        return [read["status"] for read in found] == ["closed", "closed"]

    assert await until(both_closed, within=25)
    for filed in (answered, returned):
        (closed,) = await events(intake, filed["complaint_id"], "complaint.closed")
        assert closed.actor.role is Role.SYSTEM
    assert (await siti.get(f"/v1/complaints/{fresh['complaint_id']}")).json()["status"] == "returned"


async def test_several_processes_close_what_lapsed_only_once(intake: Intake, servers: Servers) -> None:
    from services.intake.app import build
    from tests.support.running import running

    siti = await intake.citizen()
    filed = [await siti.files() for _ in range(5)]
    async with running(build(intake.settings)):
        for one in filed:
            await intake.continues(one, siti.id, *RETURNING, at=now() - timedelta(days=60))

        async def all_closed() -> bool:
            items = (await siti.get("/v1/complaints", status="closed")).json()["items"]
            return len(items) == 5

        assert await until(all_closed, within=25)
    found = await read_topics(intake.settings, "complaint.closed")
    ids = [event.id for event in found if isinstance(event, ChainEvent) and event.reporter_id == siti.id]
    assert sorted(ids) == sorted(f"{one['complaint_id']}:4" for one in filed)


async def test_categories_are_listed_in_both_languages(intake: Intake) -> None:
    found = (await intake.client.get("/v1/categories")).json()
    assert {"code": "roads", "name": "Jalan dan jembatan rusak", "name_en": "Roads and bridges"} in found
    assert len({category["code"] for category in found}) == len(found) >= 10
