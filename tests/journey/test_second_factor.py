"""The second factor of staff: the intake service on real servers, and an authenticator app (pyotp)."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt
import pyotp
import pytest

from deploy.local.servers import Servers
from services.intake.accounts import Staff, add_staff, disable_staff
from services.intake.app import build
from services.intake.second_factor import RECOVERY_CODES, SecondFactors
from services.intake.second_factor_store import SecondFactorStore
from shared.sop import Role
from tests.conftest import fresh_namespace
from tests.support.intake import PASSWORD, Intake, intake_at_work
from tests.support.running import running

Json = dict[str, Any]
ROUTE = "/v1/me/second-factor"


@pytest.fixture(scope="module")
async def intake(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Intake]:
    async with (
        fresh_namespace(servers) as namespace,
        intake_at_work(servers, namespace, tmp_path_factory.mktemp("intake"), sign_in_free_tries=1000) as service,
    ):
        yield service


@dataclass
class Operator:
    """Somebody of the staff with an authenticator app."""

    intake: Intake
    login: str
    app: pyotp.TOTP
    recovery: list[str]

    async def tries(self, otp: str | None = None, password: str = PASSWORD) -> httpx.Response:
        """To sign in."""
        body = {"login": self.login, "password": password} | ({"otp": otp} if otp else {})
        return await self.intake.client.post("/v1/tokens", json=body)

    async def account_id(self) -> str:
        account = await self.intake.database["accounts"].find_one({"logins": self.login})
        assert account is not None
        return str(account["_id"])

    async def time_passes(self) -> None:
        """As if the codes that were used lay long ago."""
        ago = {"$set": {"last_step": int(time.time()) // 30 - 100}}
        await self.intake.database["second_factors"].update_one({"_id": await self.account_id()}, ago)


async def staff(intake: Intake, role: Role = Role.COORDINATOR) -> tuple[str, Json]:
    """A staff account, and the headers of its sign-in."""
    login = f"operator.{secrets.token_hex(5)}"
    await add_staff(intake.settings, Staff(login, role, "Operator", PASSWORD))
    return login, await intake.sign_in(login, PASSWORD)


async def with_an_app(intake: Intake) -> Operator:
    """Somebody who has set a second factor up."""
    login, headers = await staff(intake)
    begun = await intake.client.post(ROUTE, headers=headers)
    assert begun.status_code == 201, begun.text
    app = pyotp.TOTP(begun.json()["secret"])
    confirmed = await intake.client.post(f"{ROUTE}/confirm", json={"code": app.now()}, headers=headers)
    assert confirmed.status_code == 200, confirmed.text
    made = Operator(intake, login, app, confirmed.json()["recovery_codes"])
    await made.time_passes()
    return made


async def test_it_is_in_force_once_it_is_confirmed(intake: Intake) -> None:
    login, headers = await staff(intake)
    begun = (await intake.client.post(ROUTE, headers=headers)).json()
    read = pyotp.parse_uri(begun["uri"])
    assert isinstance(read, pyotp.TOTP)
    assert (read.secret, read.name, read.issuer) == (begun["secret"], login, "LAPOR! Pontianak")
    assert (read.digits, read.interval) == (6, 30)
    await intake.sign_in(login, PASSWORD)
    wrong = await intake.client.post(f"{ROUTE}/confirm", json={"code": "000 000 0"}, headers=headers)
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "body.code")
    app = pyotp.TOTP((await intake.client.post(ROUTE, headers=headers)).json()["secret"])
    earlier = await intake.client.post(
        f"{ROUTE}/confirm", json={"code": pyotp.TOTP(begun["secret"]).now()}, headers=headers
    )
    assert earlier.status_code == 422, "beginning again replaces what was begun"
    spaced = f"{app.now()[:3]} {app.now()[3:]}"
    answers = await asyncio.gather(
        *(intake.client.post(f"{ROUTE}/confirm", json={"code": spaced}, headers=headers) for _ in range(5))
    )
    confirmed = [answer.json()["recovery_codes"] for answer in answers if answer.status_code == 200]
    assert len(confirmed) == 1, "and only once, so that the codes shown are those that count"
    assert len(set(confirmed[0])) == RECOVERY_CODES
    refused = await intake.client.post("/v1/tokens", json={"login": login, "password": PASSWORD})
    assert (refused.status_code, refused.json()["type"]) == (401, "urn:lapor:problem:second-factor-required")
    for path in (ROUTE, f"{ROUTE}/confirm"):
        again = await intake.client.post(path, json={"code": app.now()}, headers=headers)
        assert again.status_code == 409


async def test_it_is_asked_for_only_after_the_right_password(intake: Intake) -> None:
    operator = await with_an_app(intake)
    wrong = [
        await operator.tries(password="bukan kata sandinya"),
        await operator.tries(otp=operator.app.now(), password="bukan kata sandinya"),
        await operator.tries(otp="123456" if operator.app.now() != "123456" else "654321"),
        await operator.tries(otp="AAAA-BBBB-CCCC-DDDD-EEEE-FFFF"),
        await operator.tries(otp="٠٠٠٠٠٠"),
        await intake.client.post("/v1/tokens", json={"login": "nobody", "password": PASSWORD, "otp": "123456"}),
    ]
    assert {(answer.status_code, answer.text) for answer in wrong} == {(401, wrong[0].text)}
    missing = await operator.tries()
    assert missing.json()["type"] == "urn:lapor:problem:second-factor-required"
    assert "kode" in missing.json()["message"]
    assert (await operator.tries(otp=operator.app.now())).status_code == 200, "what was wrong has used nothing up"


async def test_a_code_is_taken_once_also_of_twenty_tries_at_once_on_two_replicas(intake: Intake) -> None:
    operator = await with_an_app(intake)
    async with running(build(intake.settings)) as replica:
        body = {"login": operator.login, "password": PASSWORD, "otp": operator.app.now()}
        tries = [(intake.client, replica)[n % 2].post("/v1/tokens", json=body) for n in range(20)]
        answers = await asyncio.gather(*tries)
        assert sorted(answer.status_code for answer in answers) == [200] + [401] * 19
        assert (await replica.post("/v1/tokens", json=body)).status_code == 401
    await operator.time_passes()
    later = operator.app.at(time.time() + 30)
    assert (await operator.tries(later)).status_code == 200
    assert (await operator.tries(operator.app.now())).status_code == 401, "nor one from before it"


async def test_each_recovery_code_lets_in_once(intake: Intake) -> None:
    operator = await with_an_app(intake)
    first, second = operator.recovery[:2]
    answers = await asyncio.gather(*(operator.tries(first) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 9
    assert (await operator.tries(second.lower().replace("-", " "))).status_code == 200
    assert (await operator.tries(second)).status_code == 401
    stored = await intake.database["second_factors"].find_one({"_id": await operator.account_id()})
    assert stored is not None
    assert len(stored["recovery"]) == RECOVERY_CODES - 2
    assert operator.recovery[2] not in str(stored)


async def test_the_secret_is_enciphered_and_bound_to_its_account_and_key(intake: Intake, tmp_path: Path) -> None:
    operator, thief = await with_an_app(intake), await with_an_app(intake)
    factors = intake.database["second_factors"]
    stored = await factors.find_one({"_id": await operator.account_id()})
    assert stored is not None
    assert operator.app.secret.encode() not in stored["secret"]
    assert operator.app.secret not in str(stored)
    # who can write to the database puts his own secret into somebody else's row
    own = await factors.find_one({"_id": await thief.account_id()})
    assert own is not None
    await factors.update_one({"_id": stored["_id"]}, {"$set": {"secret": own["secret"]}})
    assert (await operator.tries(thief.app.now())).status_code == 401
    await factors.replace_one({"_id": stored["_id"]}, stored)
    account = {"_id": stored["_id"], "role": "coordinator", "agency": None, "logins": [operator.login]}
    (tmp_path / "another-key").write_bytes(secrets.token_bytes(32))
    elsewhere = SecondFactors(SecondFactorStore(intake.database), tmp_path / "another-key")
    assert await elsewhere.admit(account, operator.app.now()) is None
    assert (await operator.tries(operator.app.now())).status_code == 200


async def test_a_clock_may_be_a_step_off_and_no_more(intake: Intake) -> None:
    operator = await with_an_app(intake)
    let_in = []
    for steps in (-3, -2, 2, 3, -1, 0, 1):
        await asyncio.sleep(max(0, time.time() % 30 - 27) * 1.1)  # not across the end of a step
        await operator.time_passes()
        if (await operator.tries(operator.app.at(time.time() + 30 * steps))).status_code == 200:
            let_in.append(steps)
    assert let_in == [-1, 0, 1]


async def test_it_is_taken_away_by_a_code_of_it_only(intake: Intake) -> None:
    operator, other = await with_an_app(intake), await with_an_app(intake)
    token = (await operator.tries(operator.app.now())).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    for code in (operator.app.now(), other.app.now(), other.recovery[0], "------", "0" * 40):  # the first was used
        answer = await intake.client.request("DELETE", ROUTE, json={"code": code}, headers=headers)
        assert answer.status_code == 422, code
    assert (await intake.client.request("DELETE", ROUTE, headers=headers)).status_code == 422
    await operator.time_passes()
    gone = await intake.client.request("DELETE", ROUTE, json={"code": operator.app.now()}, headers=headers)
    assert gone.status_code == 204
    await intake.sign_in(operator.login, PASSWORD)
    again = await intake.client.request("DELETE", ROUTE, json={"code": operator.recovery[0]}, headers=headers)
    assert again.status_code == 404
    assert (await other.tries()).status_code == 401, "another's is still there"


async def test_a_closed_account_stays_closed_with_a_code(intake: Intake) -> None:
    operator = await with_an_app(intake)
    assert await disable_staff(intake.settings, operator.login)
    answer = await operator.tries(operator.app.now())
    assert (answer.status_code, answer.json()["type"]) == (401, "urn:lapor:problem:sign-in-refused")


async def test_where_it_is_required_staff_can_do_nothing_before(intake: Intake) -> None:
    settings = intake.settings.model_copy(update={"staff_second_factor": "required"})
    async with running(build(settings)) as client:
        strict = Intake(settings, client, intake.database)
        login, headers = await staff(strict)
        token = headers["Authorization"].split()[1]
        assert jwt.decode(token, options={"verify_signature": False})["scope"] == "second-factor"
        for method, path in (
            ("GET", "/v1/me"),
            ("GET", "/v1/complaints/nothing"),
            ("GET", "/v1/complaints/nothing/timeline"),
            ("POST", "/v1/complaints/nothing/reporter"),
        ):
            answer = await client.request(method, path, json={"reason": "Menanyakan patokan."}, headers=headers)
            assert (answer.status_code, answer.json()["type"]) == (403, "urn:lapor:problem:second-factor-needed"), path
        app = pyotp.TOTP((await client.post(ROUTE, headers=headers)).json()["secret"])
        code = app.at(time.time() - 30)
        assert (await client.post(f"{ROUTE}/confirm", json={"code": code}, headers=headers)).status_code == 200
        assert (await client.get("/v1/me", headers=headers)).status_code == 403, "the token stays what it is"
        whole = await client.post("/v1/tokens", json={"login": login, "password": PASSWORD, "otp": app.now()})
        headers = {"Authorization": f"Bearer {whole.json()['access_token']}"}
        assert (await client.get("/v1/me", headers=headers)).json()["role"] == "coordinator"
        siti = await strict.citizen()
        assert (await siti.get("/v1/me")).status_code == 200, "it is asked of staff only"
