"""Machine accounts on the running system: made by command, they sign in by their secret and do what role and scopes
both allow, at each of the services."""

import base64
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
from pymongo import MongoClient

from deploy.demo.target import Target
from deploy.local.launcher import System
from tests.journey.test_commands import lapor

FORM = {"grant_type": "client_credentials"}


@pytest.fixture
async def client(system: System) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30) as made:
        yield made


def made(system: System, target: Target, *options: str) -> tuple[str, str]:
    """The id and secret that `lapor clients …` prints."""
    done = lapor(target, "clients", *options, key=system.credentials.audit_key)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"client id +(\S+)\nclient secret +(\S+)", done.stdout)
    assert found, done.stdout
    return found[1], found[2]


def agency_system(system: System, target: Target, *scopes: str) -> tuple[str, str]:
    asked = [option for scope in scopes for option in ("--scope", scope)]
    return made(system, target, "add", "Sistem DPUPR", "--role", "agency_operator", "--agency", "DPUPR", *asked)


async def asks(
    client: httpx.AsyncClient, target: Target, secret: tuple[str, str] | None, **form: str
) -> httpx.Response:
    auth = httpx.BasicAuth(*secret) if secret else httpx.USE_CLIENT_DEFAULT
    return await client.post(f"{target.urls['intake']}/oauth/token", data=FORM | form, auth=auth)


async def signed_in(client: httpx.AsyncClient, target: Target, secret: tuple[str, str], **form: str) -> dict[str, str]:
    answer = await asks(client, target, secret, **form)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def test_an_agencys_system_does_what_its_scopes_allow_and_no_more(
    system: System, target: Target, client: httpx.AsyncClient
) -> None:
    secret = agency_system(system, target, "opd:read", "opd:write", "sla:read", "intake:read", "intake:write")
    answer = await asks(client, target, secret)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["scope"] == "intake:read intake:write opd:read opd:write sla:read"
    claims = jwt.decode(answer.json()["access_token"], options={"verify_signature": False})
    assert (claims["sub"], claims["role"], claims["agency"]) == (secret[0], "agency_operator", "DPUPR")
    whole = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    reading = await signed_in(client, target, secret, scope="opd:read")
    start = f"{target.urls['opd']}/v1/work/nothing/start"
    unit = {"unit": "Sekretariat, Subbagian Umum"}
    for _ in range(2):  # verified, then remembered; the move takes the short way, the list the usual one
        assert (await client.get(f"{target.urls['opd']}/v1/work", headers=whole)).status_code == 200
        assert (await client.get(f"{target.urls['opd']}/v1/work", headers=reading)).status_code == 200
        assert (await client.post(start, json=unit, headers=whole)).status_code == 404
        refused = await client.post(start, json=unit, headers=reading)
        assert (refused.status_code, refused.json()["scope"]) == (403, "opd:write")
        elsewhere = await client.get(f"{target.urls['sla']}/v1/overdue", headers=reading)
        assert (elsewhere.status_code, elsewhere.json()["scope"]) == (403, "sla:read")
    assert (await client.get(f"{target.urls['sla']}/v1/overdue", headers=whole)).status_code == 200
    assert (await client.get(f"{target.urls['notify']}/v1/inbox", headers=whole)).json()["scope"] == "notify:read"
    cases = await client.get(f"{target.urls['routing']}/v1/agencies", headers=whole)
    assert cases.json()["scope"] == "routing:read"


async def test_no_machine_opens_a_reporters_identity(system: System, target: Target, client: httpx.AsyncClient) -> None:
    secret = made(
        system, target, "add", "Dasbor", "--role", "coordinator", "--scope", "intake:read", "--scope", "intake:write"
    )
    headers = await signed_in(client, target, secret)
    reason = {"reason": "Menanyakan patokan lokasi kepada pelapor."}
    url = f"{target.urls['intake']}/v1/complaints/nothing"
    assert (await client.get(url, headers=headers)).status_code == 404
    answer = await client.post(f"{url}/reporter", json=reason, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:lapor:problem:for-people-only")


async def test_only_hashes_of_secrets_are_stored_and_a_wrong_one_tells_nothing(
    system: System, target: Target, client: httpx.AsyncClient
) -> None:
    client_id, secret = agency_system(system, target, "opd:read")
    with MongoClient[dict[str, Any]](target.mongo_url) as mongo:
        stored = mongo[f"{target.namespace}_intake"]["clients"].find_one({"_id": client_id})
    assert len(base64.urlsafe_b64decode(secret + "=")) == 32
    assert secret not in str(stored)
    wrong = [
        await asks(client, target, (client_id, secret + "x")),
        await asks(client, target, ("client-of-nobody", secret)),
        await asks(client, target, (client_id, "")),
        await asks(client, target, None, client_id=client_id, client_secret="x" * 43),
    ]
    assert {answer.status_code for answer in wrong} == {401}
    assert wrong[0].text == wrong[1].text
    assert {answer.json()["error"] for answer in wrong} == {"invalid_client"}
    assert all(answer.headers["www-authenticate"].startswith("Basic ") for answer in wrong)
    assert {answer.headers["content-type"] for answer in wrong} == {"application/problem+json"}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("grant_type=password&username=a&password=b", "unsupported_grant_type"),
        ("scope=opd%3Aread", "invalid_request"),
        ("grant_type=client_credentials&grant_type=client_credentials", "invalid_request"),
        ("grant_type=client_credentials&client_secret=x", "invalid_request"),
        ("grant_type=client_credentials&scope=opd%3Awrite", "invalid_scope"),
        ("grant_type=client_credentials&scope=opd%3Aread+people", "invalid_scope"),
        ("grant_type=client_credentials&scope=%20", "invalid_scope"),
        ("grant_type=client_credentials&scope=%ff", "invalid_request"),
        ("{", "invalid_request"),
    ],
)
async def test_what_is_asked_wrongly_is_said_as_the_standard_has_it(
    system: System, target: Target, client: httpx.AsyncClient, body: str, error: str
) -> None:
    secret = agency_system(system, target, "opd:read")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    url = f"{target.urls['intake']}/oauth/token"
    answer = await client.post(url, content=body, headers=form, auth=secret)
    assert (answer.status_code, answer.json()["error"]) == (400, error), answer.text
    assert answer.json()["detail"]
    as_json = await client.post(url, json=FORM, auth=secret)
    assert (as_json.status_code, as_json.json()["error"]) == (400, "invalid_request")


async def test_a_secret_is_changed_without_a_pause_and_an_account_is_ended(
    system: System, target: Target, client: httpx.AsyncClient
) -> None:
    client_id, first = agency_system(system, target, "opd:read")
    _, second = made(system, target, "rotate", client_id, "--overlap-hours", "1")
    for secret in (first, second):
        assert (await asks(client, target, (client_id, secret))).status_code == 200
    _, third = made(system, target, "rotate", client_id, "--overlap-hours", "0")
    statuses = [(await asks(client, target, (client_id, s))).status_code for s in (first, second, third)]
    assert statuses == [401, 401, 200]
    assert re.search(
        rf"{client_id} +Sistem DPUPR +agency_operator +DPUPR +opd:read +yes", lapor(target, "clients", "list").stdout
    )
    assert lapor(target, "clients", "disable", client_id, key=system.credentials.audit_key).returncode == 0
    assert (await asks(client, target, (client_id, third))).status_code == 401
    unknown = lapor(target, "clients", "disable", "client-of-nobody", key=system.credentials.audit_key)
    assert unknown.returncode == 1
    assert "client-of-nobody" in unknown.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--role", "citizen", "--scope", "intake:read"), "No machine has this role"),
        (("--role", "agency_operator", "--scope", "opd:read"), "agency's code"),
        (("--role", "coordinator", "--agency", "DPUPR", "--scope", "sla:read"), "agency's code"),
        (("--role", "agency_operator", "--agency", "NOSUCH", "--scope", "opd:read"), "There is no agency NOSUCH"),
        (("--role", "coordinator", "--scope", "people"), "There is no scope people"),
        (("--role", "coordinator", "--scope", "second-factor"), "There is no scope second-factor"),
    ],
)
def test_accounts_that_cannot_be_are_refused(
    system: System, target: Target, options: tuple[str, ...], said: str
) -> None:
    done = lapor(target, "clients", "add", "Mesin", *options, key=system.credentials.audit_key)
    assert done.returncode == 1
    assert said in done.stdout.replace("\n", " ")
