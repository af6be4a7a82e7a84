"""Registering, signing in, one's own data and the accounts of staff: the intake service alone on real servers."""

import asyncio
import base64
import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from prometheus_client import REGISTRY

from deploy.local.servers import Servers
from services.intake.accounts import Staff, add_staff, disable_staff, list_staff
from services.intake.identity import IdentityRefused
from shared.auth import AUDIENCE, ISSUER
from shared.events import CitizenContact
from shared.sop import Role
from tests.conftest import fresh_namespace
from tests.support import tokens
from tests.support.intake import PASSWORD, Intake, intake_at_work
from tests.support.running import read_topics, until


@pytest.fixture(scope="module")
async def intake(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Intake]:
    async with (
        fresh_namespace(servers) as namespace,
        intake_at_work(servers, namespace, tmp_path_factory.mktemp("intake")) as service,
    ):
        yield service


def a_person(**changes: Any) -> dict[str, Any]:
    return {"name": "Budi Santoso", "email": f"{secrets.token_hex(6)}@warga.example", "password": PASSWORD} | changes


async def contacts(intake: Intake, citizen_id: str) -> list[CitizenContact]:
    found = await read_topics(intake.settings, "citizen.contact")
    return [event for event in found if isinstance(event, CitizenContact) and event.citizen_id == citizen_id]


async def test_a_citizen_registers_signs_in_and_reads_his_own_data(intake: Intake) -> None:
    phone = f"0812-{secrets.randbelow(10**4):04}-{secrets.randbelow(10**4):04}"
    body = a_person(email="  Budi.Santoso@Warga.Example", phone=phone, language="en")
    made = await intake.registers(body)
    (pending,) = made["pending"]
    assert (pending["field"], pending["sent_to"]) == ("phone", f"+62***{phone[-3:]}")
    headers = {"Authorization": f"Bearer {made['access_token']}"}
    assert (await intake.client.get("/v1/me", headers=headers)).json()["phone"] is None, "not shown to be his yet"
    early = await intake.client.post("/v1/tokens", json={"login": phone, "password": PASSWORD})
    assert early.status_code == 401
    assert (await intake.confirms(pending, headers)).status_code == 200
    for login in ("budi.santoso@warga.example", "BUDI.SANTOSO@WARGA.EXAMPLE ", phone, "+62" + phone[1:]):
        me = await intake.client.get("/v1/me", headers=await intake.sign_in(login, PASSWORD))
        assert me.status_code == 200
    assert me.json() == {
        "id": made["citizen_id"],
        "role": "citizen",
        "name": "Budi Santoso",
        "email": "budi.santoso@warga.example",
        "phone": "+62" + phone[1:].replace("-", ""),
        "language": "en",
        "agency": None,
        "restricted_at": None,
    }
    stored = await intake.database["accounts"].find_one({"_id": made["citizen_id"]})
    assert stored is not None
    assert PASSWORD not in json.dumps(stored, default=str)


async def test_a_token_is_short_verifiable_by_the_published_keys_and_names_nobody(intake: Intake) -> None:
    siti = await intake.citizen()
    answer = await intake.client.post("/v1/tokens", json={"login": siti.email, "password": PASSWORD})
    assert answer.json()["token_type"] == "Bearer"
    assert answer.json()["expires_in"] == 600
    token = answer.json()["access_token"]
    published = await intake.client.get("/.well-known/jwks.json")
    assert all("d" not in key for key in published.json()["keys"]), "a private key is published"
    key = {k.key_id: k for k in jwt.PyJWKSet.from_dict(published.json()).keys}[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key.key, algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER)
    assert claims.pop("exp") - claims.pop("iat") == 600
    assert claims.pop("sid")
    assert claims == {"iss": ISSUER, "aud": AUDIENCE, "sub": siti.id, "role": "citizen"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": " "}, "body.name"),
        ({"name": "x" * 101}, "body.name"),
        ({"email": "not an address"}, "body.email"),
        ({"email": "a@b.id\r\nBcc: all@b.id"}, "body.email"),
        ({"email": None}, "body.email"),
        ({"phone": "12"}, "body.phone"),
        ({"password": "short"}, "body.password"),
        ({"password": "x1" * 65}, "body.password"),
        ({"password": "pontianak"}, "body.password"),
        ({"password": "Budi Santoso"}, "body.password"),
        ({"language": "fr"}, "body.language"),
    ],
)
async def test_what_cannot_be_registered_is_refused_with_its_field(
    intake: Intake, changes: dict[str, Any], field: str
) -> None:
    answer = await intake.client.post("/v1/citizens", json=a_person(**changes))
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["field"] == field
    assert answer.json()["message"]


async def test_twenty_registrations_under_one_key_are_one_registration(intake: Intake) -> None:
    body, headers = a_person(), {"Idempotency-Key": secrets.token_hex(16)}
    answers = await asyncio.gather(*(intake.client.post("/v1/citizens", json=body, headers=headers) for _ in range(20)))
    assert [answer.status_code for answer in answers] == [202] * 20
    assert len({answer.json()["registration_id"] for answer in answers}) == 1
    for other in (body | {"name": "Orang Lain"}, body | {"password": "lain lain lain lain"}):
        answer = await intake.client.post("/v1/citizens", json=other, headers=headers)
        assert answer.status_code == 422
        assert answer.json()["type"] == "urn:lapor:problem:idempotency-key-reused"


async def test_a_sign_in_that_fails_does_not_tell_why(intake: Intake) -> None:
    siti = await intake.citizen()
    login = f"dulu.{secrets.token_hex(4)}"
    await add_staff(intake.settings, Staff(login, Role.ADMIN, "Dulu", PASSWORD))
    assert await disable_staff(intake.settings, login)

    def refused() -> float:
        return REGISTRY.get_sample_value("lapor_sign_ins_total", {"outcome": "refused"}) or 0

    before = refused()
    answers = [
        await intake.client.post("/v1/tokens", json={"login": who, "password": password})
        for who, password in ((siti.email, "salah salah"), ("nobody@warga.example", PASSWORD), (login, PASSWORD))
    ]
    assert {(answer.status_code, answer.text) for answer in answers} == {(401, answers[0].text)}
    assert refused() == before + 3


async def test_a_password_that_was_hashed_weaker_is_hashed_anew_at_sign_in(intake: Intake) -> None:
    from argon2 import PasswordHasher

    siti = await intake.citizen()
    weaker = PasswordHasher(time_cost=1, memory_cost=8192).hash(PASSWORD)
    await intake.database["accounts"].update_one({"_id": siti.id}, {"$set": {"password_hash": weaker}})
    await intake.sign_in(siti.email, PASSWORD)
    stored = await intake.database["accounts"].find_one({"_id": siti.id})
    assert stored is not None
    assert stored["password_hash"] != weaker
    await intake.sign_in(siti.email, PASSWORD)


async def test_a_change_of_ones_data_is_told_to_notify_by_version(intake: Intake) -> None:
    siti = await intake.citizen()
    new = f"baru.{secrets.token_hex(4)}@warga.example"
    changed = await intake.client.patch("/v1/me", json={"email": new, "language": "en"}, headers=siti.headers)
    assert changed.status_code == 200
    assert (changed.json()["email"], changed.json()["language"]) == (siti.email, "en"), "the address waits for its code"
    (pending,) = changed.json()["pending"]
    assert (pending["field"], pending["sent_to"]) == ("email", "b***@warga.example")
    confirmed = await intake.confirms(pending, siti.headers)
    assert (confirmed.json()["email"], confirmed.json()["name"]) == (new, "Siti Aminah")
    assert (await intake.confirms(pending, siti.headers)).status_code == 422, "once"
    await intake.sign_in(new, PASSWORD)
    old = await intake.client.post("/v1/tokens", json={"login": siti.email, "password": PASSWORD})
    assert old.status_code == 401

    async def both() -> list[CitizenContact]:
        found = await contacts(intake, siti.id)
        return found if len(found) == 3 else []

    first, second, third = sorted(await until(both), key=lambda contact: contact.version)
    assert (first.version, first.email, first.language) == (1, siti.email, "id")
    assert (second.version, second.email, second.language) == (2, siti.email, "en")
    assert (third.version, third.email, third.language) == (3, new, "en")
    assert third.id == f"contact:{siti.id}:3"


async def test_nobody_takes_anothers_address(intake: Intake) -> None:
    siti, budi = await intake.citizen(), await intake.citizen(name="Budi Santoso")
    await intake.forget_counts()
    free = await intake.client.patch("/v1/me", json={"email": "bebas@warga.example"}, headers=budi.headers)
    taken = await intake.client.patch("/v1/me", json={"email": siti.email}, headers=budi.headers)
    assert (taken.status_code, set(taken.json()["pending"][0])) == (200, set(free.json()["pending"][0]))
    (pending,) = taken.json()["pending"]
    assert (await intake.confirms(pending, budi.headers)).status_code == 422, "no code fits"
    assert (await intake.confirms(free.json()["pending"][0], siti.headers)).status_code == 422, "another's challenge"
    for who in (siti, budi):
        assert (await who.get("/v1/me")).json()["email"] == who.email


async def test_two_changes_at_once_are_both_told_or_one_is_refused(intake: Intake) -> None:
    siti = await intake.citizen()
    answers = await asyncio.gather(
        *(intake.client.patch("/v1/me", json={"name": f"Siti {i}"}, headers=siti.headers) for i in range(6))
    )
    done = [answer for answer in answers if answer.status_code == 200]
    assert done
    assert {answer.status_code for answer in answers} <= {200, 409}
    account = await intake.database["accounts"].find_one({"_id": siti.id})
    assert account is not None
    assert account["version"] == 1 + len(done)

    async def in_force() -> bool:
        return max((c.version, c.name) for c in await contacts(intake, siti.id)) == (
            account["version"],
            account["name"],
        )

    assert await until(in_force)


async def test_a_contact_that_a_crash_kept_back_is_told_after_all(intake: Intake) -> None:
    siti = await intake.citizen()
    # What a crash between account and journal leaves: the account is at version 2, and nobody was told.
    crashed = {"$set": {"name": "Siti Nurhaliza", "contact_due": True}, "$inc": {"version": 1}}
    await intake.database["accounts"].update_one({"_id": siti.id}, crashed)

    async def told() -> bool:
        return any(c.version == 2 and c.name == "Siti Nurhaliza" for c in await contacts(intake, siti.id))

    assert await until(told, within=25)
    account = await intake.database["accounts"].find_one({"_id": siti.id})
    assert account is not None
    assert account["contact_due"] is False


async def test_a_token_of_nobody_or_of_another_role_gets_nothing(intake: Intake) -> None:
    assert (await intake.client.get("/v1/me")).status_code == 401
    unknown = await intake.client.get("/v1/me", headers=tokens.bearer(Role.CITIZEN, "nobody"))
    assert unknown.status_code == 404
    admin = tokens.bearer(Role.ADMIN)
    assert (await intake.client.patch("/v1/me", json={"name": "Lain"}, headers=admin)).status_code == 403
    assert (await intake.client.get("/v1/me/accesses", headers=admin)).status_code == 403


async def test_staff_accounts_are_made_once_changed_and_ended(intake: Intake) -> None:
    login = f"operator.{secrets.token_hex(4)}"
    operator = Staff(login, Role.AGENCY_OPERATOR, "Operator PUPR", PASSWORD, "DPUPR")
    assert await add_staff(intake.settings, operator) == 1
    assert await add_staff(intake.settings, operator) == 0
    headers = await intake.sign_in(login.upper(), PASSWORD)
    me = (await intake.client.get("/v1/me", headers=headers)).json()
    assert (me["role"], me["agency"]) == ("agency_operator", "DPUPR")
    claims = json.loads(base64.urlsafe_b64decode(headers["Authorization"].split(".")[1] + "=="))
    assert (claims["role"], claims["agency"]) == ("agency_operator", "DPUPR")
    assert await add_staff(intake.settings, Staff(login, Role.ADMIN, "Admin", "sandi baru sekali")) == 1
    assert (await intake.client.get("/v1/me", headers=await intake.sign_in(login, "sandi baru sekali"))).json()[
        "role"
    ] == "admin"
    assert [a["role"] for a in await list_staff(intake.settings) if a["logins"] == [login]] == ["admin"]
    assert await disable_staff(intake.settings, login)
    assert not await disable_staff(intake.settings, "nobody")


@pytest.mark.parametrize(
    "staff",
    [
        Staff("x", Role.CITIZEN, "X", PASSWORD),
        Staff("x", Role.AGENCY_OPERATOR, "X", PASSWORD),
        Staff("x", Role.COORDINATOR, "X", PASSWORD, "DPUPR"),
        Staff("x", Role.ADMIN, "X", "password1"),
        Staff("x", Role.ADMIN, "X", "short"),
    ],
)
async def test_staff_accounts_that_cannot_be_are_refused(intake: Intake, staff: Staff) -> None:
    with pytest.raises(IdentityRefused):
        await add_staff(intake.settings, staff)


async def test_a_citizens_account_is_not_made_staff_by_command(intake: Intake) -> None:
    siti = await intake.citizen()
    with pytest.raises(IdentityRefused, match="citizen's login"):
        await add_staff(intake.settings, Staff(siti.email, Role.ADMIN, "Siti", PASSWORD))
    assert not await disable_staff(intake.settings, siti.email)
    await intake.sign_in(siti.email, PASSWORD)


async def test_the_command_line_makes_lists_and_ends_accounts(intake: Intake) -> None:
    environment = {
        **os.environ,
        "LAPOR_NAMESPACE": intake.settings.namespace,
        "LAPOR_MONGO_URL": intake.settings.mongo_url,
        "LAPOR_AUDIT_KEY_FILE": str(intake.settings.audit_key_file),
    }

    async def command(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "services.intake", "staff", *arguments],
            input=given, capture_output=True, text=True, env=environment, timeout=60, check=False,
        )  # fmt: skip

    login = f"daerah.{secrets.token_hex(4)}"
    added = await command("add", login, "--role", "regional_operator", "--password-stdin", given=PASSWORD + "\n")
    assert (added.returncode, added.stderr) == (0, "")
    await intake.sign_in(login, PASSWORD)
    assert f"regional_operator\t{login}" in (await command("list")).stdout
    refused = await command("add", login, "--role", "agency_operator", "--password-stdin", given=PASSWORD + "\n")
    assert refused.returncode == 1
    assert "agency" in refused.stderr
    assert (await command("disable", login)).returncode == 0
    assert (await command("disable", "nobody")).returncode == 1
    answer = await intake.client.post("/v1/tokens", json={"login": login, "password": PASSWORD})
    assert answer.status_code == 401
