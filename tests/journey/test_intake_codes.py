"""One-time codes: registering, signing in and new passwords by them; replayed, guessed, late, and at once by many. What
is told is the same whoever exists. The intake service alone on real servers."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from deploy.local.servers import Servers
from services.intake.accounts import Staff, add_staff
from services.intake.api.proof import PROVEN_FOR
from services.intake.app import build
from shared import topics
from shared.events import CitizenCode, now
from shared.rates import LimitSettings
from shared.sop import Role
from tests.conftest import fresh_namespace
from tests.support.intake import PASSWORD, Citizen, Intake, Json, intake_at_work, intake_settings
from tests.support.running import read_topics, running, until

NO_LIMITS = LimitSettings(enabled=False)
"""All of this comes from one address."""


@pytest.fixture(scope="module")
async def intake(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Intake]:
    async with (
        fresh_namespace(servers) as namespace,
        intake_at_work(servers, namespace, tmp_path_factory.mktemp("intake"), limits=NO_LIMITS) as service,
    ):
        yield service


@pytest.fixture
async def siti(intake: Intake) -> Citizen:
    made = await intake.citizen()
    await intake.forget_counts()
    return made


def an_address() -> str:
    return f"{secrets.token_hex(6)}@warga.example"


def a_phone() -> str:
    return f"+62813{secrets.randbelow(10**8):08}"


def a_person(**changes: Any) -> Json:
    return {"name": "Budi Santoso", "email": an_address(), "password": PASSWORD} | changes


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10**6:06}"


async def asks(intake: Intake, login: str) -> str:
    """Ask for a code to sign in by; the challenge."""
    answer = await intake.client.post("/v1/codes", json={"login": login})
    assert answer.status_code == 202, answer.text
    challenge: str = answer.json()["challenge_id"]
    return challenge


async def enters(intake: Intake, challenge: str, code: str | None = None) -> httpx.Response:
    given = {"challenge_id": challenge, "code": code or intake.code(challenge)}
    return await intake.client.post("/v1/tokens", json=given)


async def confirms(intake: Intake, registration: str, code: str | None = None) -> httpx.Response:
    given = {"registration_id": registration, "code": code or intake.code(registration)}
    return await intake.client.post("/v1/citizens/confirm", json=given)


async def expires(intake: Intake, challenge: str) -> None:
    """Its ten minutes are over, and the database has not yet removed it."""
    past = now() - timedelta(milliseconds=1)
    await intake.database["challenges"].update_one({"_id": challenge}, {"$set": {"expires_at": past}})


async def issued(intake: Intake, *addresses: str) -> list[CitizenCode]:
    """What notify was told to send to these addresses, once there is something."""

    async def look() -> list[CitizenCode]:
        found = await read_topics(intake.settings, "citizen.code")
        return [event for event in found if isinstance(event, CitizenCode) and event.address in addresses]

    return await until(look)


async def test_an_account_exists_once_its_address_is_confirmed(intake: Intake) -> None:
    body = a_person(language="en")
    answer = await intake.client.post("/v1/citizens", json=body)
    assert answer.status_code == 202
    asked = answer.json()
    assert asked["channel"] == "email"
    assert asked["sent_to"] == f"{body['email'][0]}***@warga.example"
    assert 590 <= asked["expires_in"] <= 600
    (event,) = await issued(intake, body["email"])
    assert (event.challenge_id, event.purpose, event.language) == (asked["registration_id"], "register", "en")
    assert intake.code(event.challenge_id) not in event.model_dump_json(), "the topic has no code"
    pending = await intake.database["challenges"].find_one({"_id": event.challenge_id})
    assert pending is not None
    assert PASSWORD not in repr(pending)
    assert "message" not in pending, "what was sent is forgotten"
    assert intake.code(event.challenge_id) not in repr(pending), "the code is stored nowhere"

    early = await intake.client.post("/v1/tokens", json={"login": body["email"], "password": PASSWORD})
    assert early.status_code == 401
    made = await confirms(intake, asked["registration_id"], f" {intake.code(asked['registration_id'])} ")
    assert made.status_code == 201
    me = await intake.client.get("/v1/me", headers={"Authorization": f"Bearer {made.json()['access_token']}"})
    assert (me.json()["id"], me.json()["email"]) == (made.json()["citizen_id"], body["email"])
    await intake.sign_in(body["email"], PASSWORD)


async def test_a_code_is_good_once_also_for_twenty_at_the_same_time(intake: Intake, siti: Citizen) -> None:
    registration = (await intake.client.post("/v1/citizens", json=a_person())).json()["registration_id"]
    answers = await asyncio.gather(*(confirms(intake, registration) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [201] + [422] * 19
    again = await confirms(intake, registration)
    assert again.status_code == 422
    assert again.json()["type"] == "urn:lapor:problem:code-refused"
    assert again.json()["message"]

    challenge = await asks(intake, siti.email)
    answers = await asyncio.gather(*(enters(intake, challenge) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 19
    assert (await enters(intake, challenge)).status_code == 401, "a replay"


async def test_five_wrong_codes_end_a_challenge(intake: Intake, siti: Citizen) -> None:
    challenge = await asks(intake, siti.email)
    code = intake.code(challenge)
    for _ in range(4):
        assert (await enters(intake, challenge, wrong(code))).status_code == 401
    assert (await enters(intake, challenge)).status_code == 200, "the fifth may be right"

    await intake.forget_counts()
    challenge = await asks(intake, siti.email)
    tries = [enters(intake, challenge, wrong(intake.code(challenge))) for _ in range(20)]
    assert {answer.status_code for answer in await asyncio.gather(*tries)} == {401}
    assert (await enters(intake, challenge)).status_code == 401, "tried too often"
    stored = await intake.database["challenges"].find_one({"_id": challenge})
    assert stored is not None
    assert stored["tries"] == 5


async def test_a_code_is_good_for_ten_minutes_and_for_what_it_was_asked(intake: Intake, siti: Citizen) -> None:
    challenge = await asks(intake, siti.email)
    await expires(intake, challenge)
    assert (await enters(intake, challenge)).status_code == 401
    body = a_person()
    registration = (await intake.client.post("/v1/citizens", json=body)).json()["registration_id"]
    assert (await enters(intake, registration)).status_code == 401, "a registration's code signs nobody in"
    await expires(intake, registration)
    assert (await confirms(intake, registration)).status_code == 422
    await intake.forget_counts()
    challenge = await asks(intake, siti.email)
    assert (await confirms(intake, challenge)).status_code == 422
    pending = {"challenge_id": challenge}
    assert (await intake.confirms(pending, siti.headers)).status_code == 422


async def test_whose_address_is_taken_is_told_to_its_owner_only(intake: Intake, siti: Citizen) -> None:
    free, taken = a_person(), a_person(email=siti.email.upper())
    one, other = [await intake.client.post("/v1/citizens", json=body) for body in (free, taken)]
    assert (one.status_code, other.status_code) == (202, 202)
    assert one.json().keys() == other.json().keys()
    assert {answer.json()["expires_in"] // 10 for answer in (one, other)} <= {59, 60}
    registration = other.json()["registration_id"]

    async def told() -> list[str]:
        return [e.purpose for e in await issued(intake, siti.email) if e.challenge_id == registration]

    assert await until(told) == ["taken"]
    assert (await confirms(intake, registration)).status_code == 422, "no code fits"
    await intake.sign_in(siti.email, PASSWORD)


async def test_two_registrations_of_one_address_are_one_account(intake: Intake) -> None:
    body = a_person()
    registrations = []
    for name in ("Budi Santoso", "Bukan Budi"):
        answer = await intake.client.post("/v1/citizens", json=body | {"name": name})
        registrations.append(answer.json()["registration_id"])
        await intake.forget_counts()
    assert (await confirms(intake, registrations[0])).status_code == 201
    second = await confirms(intake, registrations[1])
    assert (second.status_code, second.json()["type"]) == (409, "urn:lapor:problem:login-taken")


async def test_who_asks_for_a_code_learns_nothing(intake: Intake, siti: Citizen) -> None:
    staff = f"pusat.{secrets.token_hex(4)}@lapor.example"
    await add_staff(intake.settings, Staff(staff, Role.CENTRAL_OPERATOR, "Pusat", PASSWORD))
    closed = await intake.citizen()
    await intake.database["accounts"].update_one({"_id": closed.id}, {"$set": {"active": False}})
    await intake.forget_counts()
    nobody = an_address()
    logins = (siti.email, nobody, staff, closed.email, "siapa-saja", a_phone())
    answers = {login: await intake.client.post("/v1/codes", json={"login": login}) for login in logins}
    shapes = {
        (a.status_code, tuple(a.json()), a.json()["expires_in"] > 590, len(a.json()["challenge_id"]), len(a.content))
        for a in answers.values()
    }
    assert len(shapes) == 1, shapes
    for login in logins[1:]:
        assert (await enters(intake, answers[login].json()["challenge_id"])).status_code == 401, login
    again = [await intake.client.post("/v1/codes", json={"login": login}) for login in (siti.email, nobody)]
    assert {answer.status_code for answer in again} == {429}, "also the pause is everybody's"
    refused = [
        await enters(intake, challenge, "000000")
        for challenge in (answers[siti.email].json()["challenge_id"], answers[nobody].json()["challenge_id"], "none")
    ]
    assert len({(answer.status_code, answer.text) for answer in refused}) == 1
    assert (await enters(intake, answers[siti.email].json()["challenge_id"])).status_code == 200
    told = await issued(intake, *logins)
    assert [event.address for event in told if event.purpose == "sign_in"] == [siti.email]


async def test_an_address_is_written_to_every_half_minute_and_six_times_an_hour(intake: Intake, siti: Citizen) -> None:
    for login in (siti.email, an_address()):
        for number in range(6):
            assert (await intake.client.post("/v1/codes", json={"login": login})).status_code == 202
            soon = await intake.client.post("/v1/codes", json={"login": login.upper()})
            assert soon.status_code == 429
            assert int(soon.headers["retry-after"]) <= (30 if number < 5 else 3600)
            counted = await intake.database["code_counts"].find({"_id": {"$gte": ""}}).to_list(100)
            assert login not in repr(counted)
            for one in counted:
                await intake.database["code_counts"].update_one(
                    {"_id": one["_id"]}, {"$set": {"at": one["at"] - timedelta(seconds=31)}}
                )
        often = await intake.client.post("/v1/codes", json={"login": login})
        assert often.status_code == 429
        assert int(often.headers["retry-after"]) > 3000
        await intake.forget_counts()
    many = await asyncio.gather(*(intake.client.post("/v1/codes", json={"login": siti.email}) for _ in range(20)))
    assert sorted(answer.status_code for answer in many) == [202] + [429] * 19


async def test_a_phone_signs_in_by_code_and_without_a_gateway_it_is_told_so(
    intake: Intake, servers: Servers, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    phone = a_phone()
    made = await intake.registers({"name": "Budi Santoso", "phone": phone, "password": PASSWORD})
    await intake.forget_counts()
    answer = await enters(intake, await asks(intake, "0" + phone[3:]))
    assert answer.status_code == 200
    me = await intake.client.get("/v1/me", headers={"Authorization": f"Bearer {answer.json()['access_token']}"})
    assert (me.json()["id"], me.json()["phone"]) == (made["citizen_id"], phone)

    settings = intake_settings(servers, namespace, tmp_path_factory.mktemp("mute")).model_copy(
        update={"sms_domain": None}
    )
    await topics.create(settings)
    async with running(build(settings)) as client:
        asked = {
            "body.phone": await client.post("/v1/citizens", json=a_person(phone=phone)),
            "body.login": await client.post("/v1/codes", json={"login": phone}),
        }
    for field, refused in asked.items():
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == field
        assert "e-mail" in refused.json()["detail"]


async def test_a_forgotten_password_is_set_anew_by_code(intake: Intake, siti: Citizen) -> None:
    elsewhere = await intake.sign_in(siti.email, PASSWORD)
    new = "lampu parit kuda pagi"

    async def sets(headers: Json, **body: str) -> httpx.Response:
        return await intake.client.put("/v1/me/password", json={"new_password": new} | body, headers=headers)

    for headers, body in ((elsewhere, {}), (elsewhere, {"current_password": "bukan itu"})):
        refused = await sets(headers, **body)
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:lapor:problem:proof-needed")
    weak = await sets(elsewhere, current_password=PASSWORD, new_password="pontianak")
    assert weak.status_code == 422

    token = (await enters(intake, await asks(intake, siti.email))).json()["access_token"]
    by_code = {"Authorization": f"Bearer {token}"}
    session = {"by": "code", "account_id": siti.id}
    long_ago = {"$set": {"began_at": now() - PROVEN_FOR - timedelta(seconds=1)}}
    await intake.database["sessions"].update_one(session, long_ago)
    assert (await sets(by_code)).status_code == 403, "the code was entered too long ago"
    await intake.database["sessions"].update_one(session, {"$set": {"began_at": now()}})
    assert (await sets(by_code)).status_code == 204
    assert (await intake.client.get("/v1/me", headers=by_code)).status_code == 200
    assert (await intake.client.get("/v1/me", headers=elsewhere)).status_code == 401, "all others are out"
    old = await intake.client.post("/v1/tokens", json={"login": siti.email, "password": PASSWORD})
    assert old.status_code == 401
    await intake.sign_in(siti.email, new)

    async def told() -> bool:
        return any(event.purpose == "password_changed" for event in await issued(intake, siti.email))

    assert await until(told)
    usual = await intake.client.put(
        "/v1/me/password",
        json={"new_password": PASSWORD, "current_password": new},
        headers=await intake.sign_in(siti.email, new),
    )
    assert usual.status_code == 204


async def test_what_a_crash_kept_from_the_brokers_is_sent_after_all(intake: Intake, siti: Citizen) -> None:
    """What is there after the request was acknowledged, and before anything was published."""
    at, challenge_id = now() + timedelta(minutes=5), secrets.token_urlsafe(16)
    message = {"purpose": "sign_in", "channel": "email", "address": siti.email, "language": "id", "expires_at": at}
    challenge = {"_id": challenge_id, "purpose": "sign_in", "fits": True, "tries": 0, "expires_at": at}
    await intake.database["challenges"].insert_one({**challenge, "account_id": siti.id, "message": message})

    async def sent() -> bool:
        return challenge_id in {event.challenge_id for event in await issued(intake, siti.email)}

    assert await until(sent)
    assert (await enters(intake, challenge_id)).status_code == 200
