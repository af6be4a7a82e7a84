"""Who sees what of a complaint: tracking without sign-in, photos, staff, and the reporter's data."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from deploy.local.servers import Servers
from shared.sop import Role, Transition
from tests.conftest import fresh_namespace
from tests.support import tokens
from tests.support.events import STRAIGHT
from tests.support.intake import Intake, intake_at_work

T = Transition
REASON = {"reason": "Menanyakan patokan lokasi kepada pelapor."}


@pytest.fixture(scope="module")
async def intake(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Intake]:
    async with (
        fresh_namespace(servers) as namespace,
        intake_at_work(servers, namespace, tmp_path_factory.mktemp("intake")) as service,
    ):
        yield service


async def track(intake: Intake, number: str, code: str) -> Any:
    return await intake.client.post("/v1/tracking", json={"number": number, "tracking_code": code})


async def test_number_and_code_show_the_way_of_a_complaint_and_nobodys_words(intake: Intake) -> None:
    siti = await intake.citizen()
    filed = await siti.files(description="Lubang di depan rumah Siti Aminah nomor 12, telepon 08123456789.")
    await intake.continues(
        filed, siti.id, T.FORWARDED, T.RETURNED, reason="incomplete", explanation="Bu Siti, sebutkan nama gangnya."
    )
    answer = await track(intake, f" {filed['number'].lower()} ", filed["tracking_code"].lower())
    assert answer.status_code == 200
    line = answer.json()
    assert (line["number"], line["status"], line["holder"]) == (filed["number"], "returned", "intake")
    assert [entry["event"] for entry in line["entries"]][-1] == "complaint.returned"
    assert "Siti" not in answer.text
    assert siti.id not in answer.text
    assert filed["complaint_id"] not in answer.text
    full = await siti.get(f"/v1/complaints/{filed['complaint_id']}/timeline")
    assert full.json()["entries"][-1]["note"] == "Bu Siti, sebutkan nama gangnya."


async def test_a_wrong_number_and_a_wrong_code_look_alike(intake: Intake) -> None:
    siti = await intake.citizen()
    one, other = await siti.files(), await siti.files()
    answers = [
        await track(intake, one["number"], other["tracking_code"]),
        await track(intake, "LP-0000-0000-0", one["tracking_code"]),
        await track(intake, "nonsense", one["tracking_code"]),
        await track(intake, one["number"], ""),
        await track(intake, one["number"], "kode-salah-é"),
    ]
    assert {(answer.status_code, answer.text) for answer in answers} == {(404, answers[0].text)}


async def test_photos_are_shown_to_who_may_see_the_case_and_to_nobody_else(intake: Intake) -> None:
    siti, budi = await intake.citizen(), await intake.citizen()
    filed = await siti.files()
    case = f"/v1/complaints/{filed['complaint_id']}"
    photo_id = (await siti.get(case)).json()["report"]["photos"][0]["id"]
    path = f"{case}/photos/{photo_id}"

    own = await siti.get(path)
    assert own.status_code == 200
    assert own.headers["content-type"] == "image/jpeg"
    assert own.content[:3] == b"\xff\xd8\xff"
    assert own.headers["x-content-type-options"] == "nosniff"
    assert own.headers["cache-control"].startswith("private")
    assert (await siti.get(path, size="small")).status_code == 200
    assert (await siti.get(path, size="huge")).status_code == 422
    assert (await intake.client.get(path)).status_code == 401
    assert (await budi.get(path)).status_code == 404
    for role in (Role.CENTRAL_OPERATOR, Role.REGIONAL_OPERATOR, Role.COORDINATOR):
        assert (await intake.as_staff(role, path)).status_code == 200
    assert (await intake.as_staff(Role.ADMIN, path)).status_code == 404

    assert (await intake.as_staff(Role.AGENCY_OPERATOR, path, "DPUPR")).status_code == 404, "not assigned yet"
    await intake.continues(filed, siti.id, T.FORWARDED, T.ASSIGNED)
    assert (await intake.as_staff(Role.AGENCY_OPERATOR, path, "DPUPR")).status_code == 200
    assert (await intake.as_staff(Role.AGENCY_OPERATOR, path, "DLH")).status_code == 404
    await intake.continues(filed, siti.id, T.DECLINED)
    assert (await intake.as_staff(Role.AGENCY_OPERATOR, path, "DPUPR")).status_code == 404, "declined"

    another = await siti.files()
    elsewhere = f"/v1/complaints/{another['complaint_id']}/photos/{photo_id}"
    assert (await siti.get(elsewhere)).status_code == 404, "a photo is shown as part of its own complaint only"


async def test_staff_read_a_complaint_without_its_reporter(intake: Intake) -> None:
    siti = await intake.citizen()
    filed = await siti.files()
    path = f"/v1/complaints/{filed['complaint_id']}"
    for role in (Role.CENTRAL_OPERATOR, Role.REGIONAL_OPERATOR, Role.COORDINATOR):
        answer = await intake.as_staff(role, path)
        assert answer.status_code == 200
        assert siti.id not in answer.text
        assert siti.email not in answer.text
        assert (await intake.as_staff(role, f"{path}/timeline")).status_code == 200
    central = (await intake.as_staff(Role.CENTRAL_OPERATOR, path)).json()
    assert central["allowed"] == ["forwarded"]
    assert (await intake.as_staff(Role.AGENCY_OPERATOR, path, "DPUPR")).status_code == 404


async def test_a_confidential_report_is_seen_at_the_desk_that_holds_it_only(intake: Intake) -> None:
    siti = await intake.citizen()
    filed = await siti.files(visibility="rahasia")
    path = f"/v1/complaints/{filed['complaint_id']}"
    assert (await intake.as_staff(Role.CENTRAL_OPERATOR, path)).status_code == 200
    assert (await intake.as_staff(Role.REGIONAL_OPERATOR, path)).status_code == 404
    await intake.continues(filed, siti.id, T.FORWARDED, T.ASSIGNED)
    assert (await intake.as_staff(Role.CENTRAL_OPERATOR, path)).status_code == 404
    assert (await intake.as_staff(Role.AGENCY_OPERATOR, path, "DPUPR")).status_code == 200
    assert (await intake.as_staff(Role.COORDINATOR, path)).status_code == 200


async def test_each_look_at_a_reporters_data_is_recorded_and_shown_to_him(intake: Intake) -> None:
    siti = await intake.citizen(phone="0812-0000-1111")
    filed = await siti.files()
    path = f"/v1/complaints/{filed['complaint_id']}/reporter"
    for role in (Role.CENTRAL_OPERATOR, Role.REGIONAL_OPERATOR, Role.COORDINATOR):
        answer = await intake.client.post(path, json=REASON, headers=tokens.bearer(role, f"{role}-1"))
        assert answer.status_code == 201
        assert answer.json() == {"name": "Siti Aminah", "email": siti.email, "phone": "+6281200001111"}
    accesses = (await siti.get("/v1/me/accesses")).json()["items"]
    assert [access["role"] for access in accesses] == ["coordinator", "regional_operator", "central_operator"]
    assert {(a["number"], a["reason"]) for a in accesses} == {(filed["number"], REASON["reason"])}
    assert "-1" not in str([access["role"] for access in accesses]), "the citizen is told the role, not the person"
    first = (await siti.get("/v1/me/accesses", limit=2)).json()
    rest = (await siti.get("/v1/me/accesses", limit=2, cursor=first["next"])).json()
    assert first["items"] + rest["items"] == accesses
    stored = await intake.database["identity_accesses"].find_one({"citizen_id": siti.id, "role": "coordinator"})
    assert stored is not None
    assert stored["staff_id"] == "coordinator-1"


async def test_a_reporters_data_are_refused_and_the_refusal_leaves_no_access(intake: Intake) -> None:
    siti = await intake.citizen()
    hidden, secret = await siti.files(visibility="anonim"), await siti.files(visibility="rahasia")

    async def ask(filed: Any, role: Role, body: Any = REASON, agency: str | None = None) -> Any:
        path = f"/v1/complaints/{filed['complaint_id']}/reporter"
        return await intake.client.post(path, json=body, headers=tokens.bearer(role, "x", agency))

    for role in (Role.CENTRAL_OPERATOR, Role.REGIONAL_OPERATOR, Role.COORDINATOR):
        answer = await ask(hidden, role)
        assert answer.status_code == 403
        assert answer.json()["type"] == "urn:lapor:problem:reporter-anonymous"
    assert (await ask(hidden, Role.AGENCY_OPERATOR, agency="DPUPR")).status_code == 403
    assert (await ask(secret, Role.ADMIN)).status_code == 403
    assert (await ask(secret, Role.REGIONAL_OPERATOR)).status_code == 404
    assert (await ask(secret, Role.CENTRAL_OPERATOR, {})).status_code == 422
    assert (await ask(secret, Role.CENTRAL_OPERATOR, {"reason": "x"})).status_code == 422
    assert (await ask({"complaint_id": "unknown"}, Role.COORDINATOR)).status_code == 404
    assert (await siti.get("/v1/me/accesses")).json()["items"] == []


async def test_no_event_names_the_reporter(intake: Intake) -> None:
    from tests.support.running import read_topics

    siti = await intake.citizen(name="Nama Yang Dicari")
    filed = await siti.files()
    await intake.continues(filed, siti.id, *STRAIGHT[1:])
    await siti.post(f"/v1/complaints/{filed['complaint_id']}/rate", {"rating": 5})
    for event in await read_topics(intake.settings, *(f"complaint.{t}" for t in T)):
        assert siti.email not in event.model_dump_json()
        assert "Nama Yang Dicari" not in event.model_dump_json()


async def test_health_metrics_and_documents(intake: Intake) -> None:
    ready = await intake.client.get("/health/ready")
    assert ready.json()["status"] == "ready"
    metrics = (await intake.client.get("/metrics")).text
    for name in (
        'lapor_sign_ins_total{outcome="accepted"}',
        "lapor_registrations_total",
        'lapor_photos_total{outcome="accepted"}',
        'lapor_complaints{status="submitted"}',
        'lapor_transitions_total{transition="submitted"}',
        "lapor_http_request_duration_seconds_count",
    ):
        assert name in metrics, name
    openapi = (await intake.client.get("/openapi.json")).json()
    assert "/v1/complaints/{complaint_id}/reporter" in openapi["paths"]
    assert all("summary" in action for path in openapi["paths"].values() for action in path.values())
    asyncapi = (await intake.client.get("/asyncapi.json")).json()
    assert asyncapi["asyncapi"].startswith("3.")
