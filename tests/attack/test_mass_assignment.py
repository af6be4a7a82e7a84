"""Fields that nobody asked for, in every body: they change nothing and are stored nowhere."""

import re
import secrets
from typing import Any

import pytest
from pymongo import MongoClient

from deploy.demo.people import DemoFailed, register
from shared.sop import Role
from tests.attack.conftest import World
from tests.attack.operations import operations
from tests.attack.test_injection import SERVICES
from tests.journey.test_canaries import documents

MARK = f"diselundupkan{secrets.token_hex(4)}"
SMUGGLED: dict[str, Any] = {
    name: f"{MARK}-{name}"
    for name in [
        "_id",
        "id",
        "complaint_id",
        "event_id",
        "citizen_id",
        "reporter_id",
        "actor",
        "account_id",
        "owner",
        "number",
        "tracking_code",
        "role",
        "agency_code",
        "password_hash",
        "logins",
        "version",
        "submitted_at",
        "due_at",
        "held_by",
        "topic",
        "namespace",
        "transition",
        "history",
        "revision",
        "holder",
        "__proto__",
        "constructor",
    ]
}
PRIVILEGED = {"is_admin": True, "seq": 999, "published": True, "allowed": ["closed"], "binding": True}


@pytest.mark.parametrize("service", SERVICES)
async def test_what_nobody_asked_for_is_refused_by_name_and_stored_nowhere(world: World, service: str) -> None:
    sent = 0
    for operation in await operations(service, world.urls[service]):
        if operation.body is None:
            continue
        at = {"forward": "submitted", "return": "forwarded", "assign": "forwarded", "start": "assigned"}
        move = operation.path.rsplit("/", 1)[1]
        case = world.cases[at.get(move, "documented")]["complaint_id"]
        path = re.sub(r"\{.*?\}", "DINASUJI" if "{code}" in operation.path else case, operation.path)
        extra = {**PRIVILEGED, **{k: v for k, v in SMUGGLED.items() if k not in operation.body}}
        nested = {k: v | SMUGGLED if isinstance(v, dict) else v for k, v in operation.body.items()}
        for body in (operation.body | extra, nested):
            if body == operation.body:
                continue
            named = 0
            for role in SERVICES[service]:
                async with world.client(service, role) as client:
                    answer = await client.request(operation.method, path, json=body)
                assert answer.status_code in (401, 403, 422), f"{operation.name}: {answer.text}"
                assert MARK not in answer.text, f"{operation.name} gives it back: {answer.text}"
                faults = {fault["field"].rsplit(".", 1)[-1] for fault in answer.json()["errors"]}
                named += bool(faults & {*extra, *SMUGGLED})
                sent += 1
            assert named, f"{operation.name}: no role was told which field is none"
    assert sent or service == "sla", "nothing was sent"
    assert [where for where, content in documents(world.target) if MARK.encode() in content] == []


def account(world: World, account_id: str) -> dict[str, Any]:
    """A stored account."""
    with MongoClient[dict[str, Any]](world.target.mongo_url) as client:
        stored = client[f"{world.target.namespace}_intake"]["accounts"].find_one({"_id": account_id})
    assert stored is not None
    return stored


async def test_a_citizen_stays_a_citizen(world: World) -> None:
    email, password = f"naik.{secrets.token_hex(4)}@warga.example", "kuda parit lampu senja"
    higher = {"role": "admin", "agency": "DPUPR", "active": False, "verified": True, "logins": ["admin"], "version": 9}
    async with world.client("intake") as client:
        body = {"name": "Naik Pangkat", "email": email, "password": password}
        raised = await client.post("/v1/citizens", json=body | higher | {"_id": "x", "id": "x"})
        assert raised.status_code == 422, raised.text
        before = account(world, (await register(world.target, body))["citizen_id"])
        token = (await client.post("/v1/tokens", json={"login": email, "password": password})).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        for change in (higher, {"password_hash": "x"}, {"name": "Naik Lagi", "role": "admin"}):
            assert (await client.patch("/v1/me", json=change, headers=headers)).status_code == 422
        me = (await client.get("/v1/me", headers=headers)).json()
    assert (me["role"], me["agency"], me["name"]) == ("citizen", None, "Naik Pangkat")
    assert account(world, before["_id"]) == before
    assert (before["role"], before["agency"], before["active"]) == ("citizen", None, True)


async def test_a_report_is_its_authors_and_begins_at_the_beginning(world: World) -> None:
    with MongoClient[dict[str, Any]](world.target.mongo_url) as client:
        complaints = client[f"{world.target.namespace}_intake"]["complaints"]
        before = complaints.count_documents({})
        chosen = {"reporter_id": "orang-lain", "status": "closed", "number": "LP-AAAA-AAAA-A", "seq": 7}
        for field, value in chosen.items():
            with pytest.raises(DemoFailed, match=f"body.{field}"):
                await world.files(**{field: value})
        assert complaints.count_documents({}) == before
        stored = complaints.find_one({"_id": (await world.files())["complaint_id"]})
    assert stored is not None
    mine = (await world.people[Role.CITIZEN].get("intake", "/v1/me"))["id"]
    assert (stored["reporter_id"], stored["status"]) == (mine, "submitted")
