"""What the services and commands record in the audit log, and that what cannot be recorded is not done."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import BulkWriteError

from deploy.commands.audit import verdict_on
from deploy.local.servers import Servers
from services.intake.accounts import Staff, add_staff, disable_staff, list_staff
from services.intake.app import build
from services.routing.agencies import import_agencies
from shared import topics
from shared.audit import Action
from shared.events import new_id, now
from shared.keyfile import UnusableKey
from shared.sop import Role
from shared.storage import Database, connect
from tests.conftest import fresh_namespace
from tests.support import tokens
from tests.support.intake import PASSWORD, Intake, intake_at_work, intake_settings
from tests.support.routing import Routing, routing_at_work
from tests.support.running import running, until

ACCOUNT = "petugas.audit"


@pytest.fixture(scope="module")
async def intake(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Intake]:
    async with (
        fresh_namespace(servers) as namespace,
        intake_at_work(servers, namespace, tmp_path_factory.mktemp("intake")) as service,
    ):
        yield service


@pytest.fixture(scope="module")
async def routing(servers: Servers) -> AsyncIterator[Routing]:
    async with routing_at_work(servers) as service:
        yield service


async def entries(database: Database, action: Action, subject: str) -> list[dict[str, Any]]:
    """What was recorded, oldest first."""
    return await database["audit"].find({"action": action, "subject": subject}).sort("_id", 1).to_list(None)


async def test_who_opens_an_identity_is_recorded_before_it_is_shown(intake: Intake) -> None:
    siti = await intake.citizen()
    filed = await siti.files()
    path, staff = f"/v1/complaints/{filed['complaint_id']}/reporter", tokens.bearer(Role.COORDINATOR, "koordinator-1")
    body = {"reason": "Menanyakan patokan lokasi kepada Siti."}
    assert (await intake.client.post(path, json=body, headers=staff)).status_code == 201
    (entry,) = await entries(intake.database, Action.IDENTITY_OPENED, filed["complaint_id"])
    assert (entry["actor"], entry["role"], entry["facts"]) == (
        "koordinator-1",
        "coordinator",
        {"number": filed["number"]},
    )
    assert "Siti" not in str(entry)
    assert siti.id not in str(entry)
    hidden = await siti.files(visibility="anonim")
    refused = await intake.client.post(f"/v1/complaints/{hidden['complaint_id']}/reporter", json=body, headers=staff)
    assert refused.status_code == 403
    assert await entries(intake.database, Action.IDENTITY_OPENED, hidden["complaint_id"]) == []


async def test_what_cannot_be_recorded_is_not_shown(intake: Intake) -> None:
    """Here: the log takes nothing, as if its number were always another's."""
    siti = await intake.citizen()
    filed = await siti.files()
    head = await intake.database["audit"].find_one({}, sort=[("_id", -1)])
    n = head["_id"] if head else 0
    command = {"collMod": "audit", "validator": {"never": True}, "validationLevel": "strict"}
    await intake.database.command(command)
    try:
        with pytest.raises(BulkWriteError):  # which is answered 500
            await intake.client.post(
                f"/v1/complaints/{filed['complaint_id']}/reporter",
                json={"reason": "Menanyakan patokan lokasi kepada pelapor."},
                headers=tokens.bearer(Role.COORDINATOR, "koordinator-1"),
            )
    finally:
        await intake.database.command({**command, "validator": {}})
    assert await intake.database["audit"].count_documents({"_id": {"$gt": n}}) == 0


async def test_what_commands_do_to_staff_accounts_is_recorded(intake: Intake) -> None:
    made = Staff(ACCOUNT, Role.AGENCY_OPERATOR, "Budi Santoso", PASSWORD, "DLH")
    assert await add_staff(intake.settings, made) == 1
    assert await add_staff(intake.settings, made) == 0, "which is no change"
    assert await add_staff(intake.settings, Staff(ACCOUNT, Role.ADMIN, "Budi", PASSWORD)) == 1
    assert await disable_staff(intake.settings, ACCOUNT)
    (account,) = [one for one in await list_staff(intake.settings) if ACCOUNT in one["logins"]]
    found = await intake.database["audit"].find({"subject": account["_id"]}).sort("_id", 1).to_list(None)
    assert [(entry["action"], entry["facts"]) for entry in found] == [
        ("staff_added", {"account_role": "agency_operator", "agency": "DLH"}),
        ("staff_changed", {"account_role": "admin", "agency": None}),
        ("staff_disabled", {}),
    ]
    assert all(entry["actor"].startswith("cli:") for entry in found)
    assert ACCOUNT not in str(found)
    assert "Budi" not in str(found)


async def test_without_a_key_no_account_is_made(intake: Intake) -> None:
    without = intake.settings.model_copy(update={"audit_key_file": None})
    with pytest.raises(UnusableKey, match="LAPOR_AUDIT_KEY_FILE"):
        await add_staff(without, Staff("tanpa.kunci", Role.ADMIN, "Tanpa", PASSWORD))
    assert "tanpa.kunci" not in str(await list_staff(intake.settings))


async def test_changes_of_the_directory_are_recorded(routing: Routing) -> None:
    body = {"name": "Dinas Audit", "categories": ["roads"], "units": [], "active": True}
    admin = tokens.bearer(Role.ADMIN, "admin-1")
    for active in (True, True, False):
        put = await routing.client.put("/v1/agencies/AUDIT", json=body | {"active": active}, headers=admin)
        assert put.status_code == 200
    found = await routing.database["audit"].find({"subject": "AUDIT"}).sort("_id", 1).to_list(None)
    assert [(e["action"], e["actor"], e["role"], e["facts"]) for e in found] == [
        ("agency_added", "admin-1", "admin", {"active": True}),
        ("agency_changed", "admin-1", "admin", {"active": False}),
    ]
    imported = await entries(routing.database, Action.AGENCY_ADDED, "DLH")
    assert [entry["actor"][:4] for entry in imported] == ["cli:"]
    before = await routing.database["audit"].estimated_document_count()
    await import_agencies(routing.settings)
    assert await routing.database["audit"].estimated_document_count() == before, "nothing has changed"
    refused = await routing.client.put("/v1/agencies/AUDIT", json=body, headers=tokens.bearer(Role.COORDINATOR))
    assert refused.status_code == 403
    assert await routing.database["audit"].estimated_document_count() == before


async def test_a_service_removes_what_is_old_by_itself_and_says_so(
    servers: Servers, namespace: str, tmp_path: Path
) -> None:
    settings = intake_settings(servers, namespace, tmp_path)
    await topics.create(settings)
    client = connect(settings)
    database = client[settings.database("intake")]
    old = {"_id": "00000000-0000-7000-8000-000000000000", "at": now() - timedelta(days=6 * 365)}
    young = {"_id": new_id(), "at": now()}
    await database["identity_accesses"].insert_many([old, young])
    async with running(build(settings)) as api:

        async def removed() -> bool:
            return await database["identity_accesses"].distinct("_id") == [young["_id"]]

        await until(removed)
        (run,) = await database["audit"].find({"action": Action.RETENTION_RUN}).to_list(None)
        assert (run["actor"], run["subject"], run["facts"]["due"]) == ("system", "identity_accesses", 1)
        metrics = (await api.get("/metrics")).text
    assert re.search(r'^lapor_retention_removed_total{class="identity_accesses"} [1-9]', metrics, re.MULTILINE)
    assert re.search(r'^lapor_retention_removed_total{class="audit"} \d', metrics, re.MULTILINE), "from the start on"
    client.close()


async def test_their_logs_are_whole(intake: Intake, routing: Routing) -> None:
    for service, settings in (("intake", intake.settings), ("routing", routing.settings)):
        verdict, anchors = await verdict_on(settings, service)
        assert verdict.fault == ""
        assert verdict.entries > 3
        assert anchors == (service == "routing"), "it found a log at its start; the other did not, a minute ago"
