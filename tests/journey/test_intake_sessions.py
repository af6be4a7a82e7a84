"""Sessions: refresh tokens that rotate, one that comes again, ends by time, and signing out, which other services hear
of: intake and sla on real servers."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import jwt
import pytest
import uvicorn
from prometheus_client import REGISTRY

from deploy.local import ports
from deploy.local.servers import Servers
from services.intake.accounts import Staff, add_staff, disable_staff
from services.intake.app import build
from services.sla.app import build as build_sla
from services.sla.settings import Settings as SlaSettings
from shared import topics
from shared.events import now
from shared.sop import Role
from tests.conftest import fresh_namespace
from tests.support.intake import PASSWORD, Citizen, Intake, Json, intake_at_work, intake_settings
from tests.support.running import running, until


@pytest.fixture(scope="module")
async def intake(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Intake]:
    async with (
        fresh_namespace(servers) as namespace,
        intake_at_work(servers, namespace, tmp_path_factory.mktemp("intake")) as service,
    ):
        yield service


async def signed_in(intake: Intake, login: str, password: str = PASSWORD) -> Json:
    answer = await intake.client.post("/v1/tokens", json={"login": login, "password": password})
    assert answer.status_code == 200, answer.text
    pair: Json = answer.json()
    return pair


async def refresh(intake: Intake, token: str) -> httpx.Response:
    return await intake.client.post("/v1/tokens/refresh", json={"refresh_token": token})


def bearer(pair: Json) -> dict[str, str]:
    return {"Authorization": f"Bearer {pair['access_token']}"}


async def lives(intake: Intake, pair: Json) -> bool:
    """Whether an access token is accepted."""
    return (await intake.client.get("/v1/me", headers=bearer(pair))).status_code == 200


@pytest.fixture
async def siti(intake: Intake) -> Citizen:
    return await intake.citizen()


async def test_a_refresh_token_gives_the_next_pair_and_nothing_of_it_is_kept(intake: Intake, siti: Citizen) -> None:
    first = await signed_in(intake, siti.email)
    answer = await refresh(intake, first["refresh_token"])
    assert answer.status_code == 200
    second = answer.json()
    assert second["refresh_token"] != first["refresh_token"]
    assert second["expires_in"] == 600
    assert await lives(intake, second)
    session, _, secret = second["refresh_token"].partition(".")
    assert len(secret) >= 43, "256 bits"
    kept = await intake.database["sessions"].find_one({"_id": session})
    assert kept is not None
    for pair in (first, second):
        assert pair["refresh_token"].partition(".")[2] not in repr(kept)
    claims = jwt.decode(second["access_token"], options={"verify_signature": False})
    assert (claims["sub"], claims["sid"]) == (siti.id, session)


async def test_a_token_that_comes_again_ends_the_session_for_thief_and_owner(intake: Intake, siti: Citizen) -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("lapor_session_refreshes_total", {"outcome": "reused"}) or 0

    other = await signed_in(intake, siti.email)
    pairs = [await signed_in(intake, siti.email)]
    for _ in range(3):
        pairs.append((await refresh(intake, pairs[-1]["refresh_token"])).json())
    before = counted()
    again = await refresh(intake, pairs[0]["refresh_token"])
    assert again.status_code == 401
    assert again.json()["type"] == "urn:lapor:problem:session-ended"
    assert again.json()["message"]
    assert (await refresh(intake, pairs[-1]["refresh_token"])).status_code == 401, "the thief's or the owner's"
    assert not await lives(intake, pairs[-1])
    assert counted() == before + 1
    assert await lives(intake, other), "another session of the same person goes on"
    assert (await refresh(intake, other["refresh_token"])).status_code == 200


async def test_a_lost_answer_is_no_theft(intake: Intake, siti: Citizen) -> None:
    """Whoever did not get the successor asks again with the token that he has; the successor is void then."""
    first = await signed_in(intake, siti.email)
    lost = (await refresh(intake, first["refresh_token"])).json()
    again = await refresh(intake, first["refresh_token"])
    assert again.status_code == 200
    assert (await refresh(intake, again.json()["refresh_token"])).status_code == 200
    assert (await refresh(intake, lost["refresh_token"])).status_code == 401
    assert not await lives(intake, again.json()), "somebody has the void one: the session has ended"


async def test_of_twenty_at_once_one_token_lives(intake: Intake, siti: Citizen) -> None:
    first = await signed_in(intake, siti.email)
    answers = await asyncio.gather(*(refresh(intake, first["refresh_token"]) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    session = await intake.database["sessions"].find_one({"_id": first["refresh_token"].partition(".")[0]})
    assert session is not None
    issued = [answer.json()["refresh_token"] for answer in answers]
    living = [
        token
        for token in issued
        if hashlib.sha256(token.partition(".")[2].encode()).hexdigest() in (session["current"], session["previous"])
    ]
    assert len(living) == 1
    assert (await refresh(intake, living[0])).status_code == 200
    dead = next(token for token in issued if token != living[0])
    assert (await refresh(intake, dead)).status_code == 401


@pytest.mark.parametrize("token", ["", "x", ".", "a.b", "a" * 200, "a" * 201, "\ud800.x", "$ne.1"])
async def test_what_is_no_refresh_token_is_refused(intake: Intake, token: str) -> None:
    answer = await intake.client.post(
        "/v1/tokens/refresh",
        content=b'{"refresh_token": "%s"}' % token.encode("ascii", "backslashreplace"),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code in (401, 422)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_sessions_end_by_rest_and_by_age(intake: Intake, siti: Citizen) -> None:
    pair = await signed_in(intake, siti.email)
    session = pair["refresh_token"].partition(".")[0]
    kept = await intake.database["sessions"].find_one({"_id": session})
    assert kept is not None
    assert timedelta(days=30) - timedelta(minutes=1) < kept["expires_at"] - now() <= timedelta(days=30)
    assert timedelta(days=90) - timedelta(minutes=1) < kept["until"] - now() <= timedelta(days=90)
    soon = now() + timedelta(minutes=5)
    await intake.database["sessions"].update_one({"_id": session}, {"$set": {"until": soon}})
    pair = (await refresh(intake, pair["refresh_token"])).json()
    kept = await intake.database["sessions"].find_one({"_id": session})
    assert kept is not None
    assert kept["expires_at"] == soon, "no refresh prolongs it beyond its age"
    past = now() - timedelta(seconds=1)
    await intake.database["sessions"].update_one({"_id": session}, {"$set": {"expires_at": past}})
    assert (await refresh(intake, pair["refresh_token"])).status_code == 401


async def test_staff_sign_in_each_day_and_a_closed_account_is_out(intake: Intake) -> None:
    login = f"operator.{secrets.token_hex(4)}"
    await add_staff(intake.settings, Staff(login, Role.ADMIN, "Admin", PASSWORD))
    pair = await signed_in(intake, login)
    kept = await intake.database["sessions"].find_one({"_id": pair["refresh_token"].partition(".")[0]})
    assert kept is not None
    assert kept["until"] - kept["began_at"] == timedelta(hours=12)
    pair = (await refresh(intake, pair["refresh_token"])).json()
    account = kept["account_id"]
    await intake.database["accounts"].update_one({"_id": account}, {"$set": {"active": False}})
    assert (await refresh(intake, pair["refresh_token"])).status_code == 401, "the account is asked each time"
    await intake.database["accounts"].update_one({"_id": account}, {"$set": {"active": True}})
    pair = await signed_in(intake, login)
    assert await disable_staff(intake.settings, login), "by another process"

    async def out() -> bool:
        return not await lives(intake, pair)

    assert await until(out, within=5)
    assert (await refresh(intake, pair["refresh_token"])).status_code == 401


async def test_one_sees_ones_sessions_and_ends_them_one_by_one_or_all(intake: Intake, siti: Citizen) -> None:
    budi = await intake.citizen(name="Budi Santoso")
    phone, home = await signed_in(intake, siti.email), await signed_in(intake, siti.email)
    listed = (await intake.client.get("/v1/me/sessions", headers=bearer(phone))).json()["items"]
    assert len(listed) >= 2
    assert [one["current"] for one in listed].count(True) == 1
    ids = {pair: next(s["id"] for s in listed if s["id"] == p["refresh_token"].partition(".")[0])
           for pair, p in (("phone", phone), ("home", home))}  # fmt: skip
    foreign = await intake.client.delete(f"/v1/me/sessions/{ids['home']}", headers=budi.headers)
    assert foreign.status_code == 404, "nobody ends another's"
    assert await lives(intake, home)
    assert (await intake.client.delete(f"/v1/me/sessions/{ids['home']}", headers=bearer(phone))).status_code == 204
    assert not await lives(intake, home), "at once"
    assert (await refresh(intake, home["refresh_token"])).status_code == 401
    assert await lives(intake, phone)
    assert (await intake.client.post("/v1/sign-out", headers=bearer(phone))).status_code == 204
    assert not await lives(intake, phone)

    pairs = [await signed_in(intake, siti.email) for _ in range(3)]
    assert (await intake.client.delete("/v1/me/sessions", headers=bearer(pairs[0]))).status_code == 204
    assert [await lives(intake, pair) for pair in pairs] == [False] * 3
    assert {(await refresh(intake, pair["refresh_token"])).status_code for pair in pairs} == {401}
    assert await lives(intake, await signed_in(intake, siti.email)), "and one may sign in again"
    assert (await budi.get("/v1/me")).status_code == 200


async def test_signing_out_reaches_another_service_within_seconds(
    servers: Servers, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    port = ports.free_ports(1)[0]
    settings = intake_settings(servers, namespace, tmp_path_factory.mktemp("intake"))
    await topics.create(settings)
    login = f"admin.{secrets.token_hex(4)}"
    await add_staff(settings, Staff(login, Role.ADMIN, "Admin", PASSWORD))
    server = uvicorn.Server(uvicorn.Config(build(settings), port=port, log_config=None))
    serving = asyncio.create_task(server.serve())
    url = f"http://127.0.0.1:{port}"
    sla_settings = SlaSettings(
        namespace=namespace, kafka_bootstrap=servers.kafka_bootstrap, mongo_url=servers.mongo_url, intake_url=url
    )
    try:
        async with httpx.AsyncClient(base_url=url) as client:

            async def ready() -> bool:
                try:
                    return (await client.get("/health/ready")).status_code == 200
                except httpx.HTTPError:
                    return False

            await until(ready, within=30)
            async with running(build_sla(sla_settings)) as sla:
                pairs = []
                for _ in range(2):
                    answer = await client.post("/v1/tokens", json={"login": login, "password": PASSWORD})
                    pairs.append({"Authorization": f"Bearer {answer.json()['access_token']}"})

                async def status(pair: dict[str, str]) -> int:
                    return (await sla.get("/v1/compliance", headers=pair)).status_code

                assert [await status(pair) for pair in pairs] == [200, 200]
                assert (await client.post("/v1/sign-out", headers=pairs[0])).status_code == 204

                async def heard() -> bool:
                    return await status(pairs[0]) == 401

                await until(heard, within=8)
                assert await status(pairs[1]) == 200, "the other session goes on"
                told = await client.get("/.well-known/ended-sessions")
                assert told.headers["cache-control"] == "public, max-age=1"
                sid = jwt.decode(pairs[0]["Authorization"][7:], options={"verify_signature": False})["sid"]
                assert sid not in told.text, "no id of a session is told"
                server.should_exit = True
                await serving
                await asyncio.sleep(6)
                assert await status(pairs[0]) == 401, "what was heard stays"
                assert await status(pairs[1]) == 200, "without intake nobody is signed out"
    finally:
        server.should_exit = True
        await serving
