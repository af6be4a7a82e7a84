"""External issuers: what can be configured, what is believed of their claims, and where their keys are looked for."""

import json
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from shared.auth import InvalidToken, Principal
from shared.issuers import GIVABLE, ExternalIssuer, account_id
from shared.settings import ServiceSettings
from shared.sop import Role

URL = "https://sso.pontianak.example/realms/kota"
GOOD: dict[str, Any] = {
    "issuer": URL,
    "audience": "lapor",
    "roles": {
        "koordinator": {"role": "coordinator"},
        "pusat": {"role": "central_operator"},
        "pupr": {"role": "agency_operator", "agency": "DPUPR"},
        "dinas": {"role": "agency_operator"},
    },
    "agency_claim": "opd",
}


def issuer(**changes: Any) -> ExternalIssuer:
    return ExternalIssuer.model_validate(GOOD | changes)


def test_issuers_are_configured_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ServiceSettings().issuers == ()
    monkeypatch.setenv("LAPOR_ISSUERS", json.dumps([GOOD]))
    (found,) = ServiceSettings().issuers
    assert found == issuer()
    assert found.algorithms == ("RS256", "ES256")
    monkeypatch.setenv("LAPOR_ISSUERS", json.dumps([GOOD, GOOD]))
    with pytest.raises(ValidationError, match="twice"):
        ServiceSettings()


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "http://sso.pontianak.example"},
        {"issuer": "https://"},
        {"issuer": "https://sso.pontianak.example/?a=1"},
        {"issuer": "https://somebody@sso.pontianak.example"},
        {"issuer": "http://127.0.0.1.pontianak.example"},
        {"issuer": "https://sso.pontianak.example\n"},
        {"issuer": "lapor-intake"},
        {"audience": ""},
        {"algorithms": ["HS256"]},
        {"algorithms": ["none"]},
        {"algorithms": []},
        {"roles": {}},
        {"roles": {"a": {"role": "citizen"}}},
        {"roles": {"a": {"role": "system"}}},
        {"roles": {"a": {"role": "mayor"}}},
        {"roles": {"a": {"role": "coordinator", "agency": "DPUPR"}}},
        {"roles": {"a": {"role": "agency_operator"}}, "agency_claim": None},
        {"leeway_seconds": 3600},
        {"secret": "x"},
    ],
)
def test_what_cannot_be_safe_is_not_configured(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        issuer(**changes)


def test_it_gives_the_roles_of_its_map_and_the_first_that_fits() -> None:
    def given(groups: Any, **claims: Any) -> tuple[Role, str | None]:
        found = issuer().principal({"sub": "p1", "groups": groups, **claims})
        assert found.id == account_id(URL, "p1")
        return found.role, found.agency

    assert given(["x", "pusat"]) == (Role.CENTRAL_OPERATOR, None)
    assert given("pusat") == (Role.CENTRAL_OPERATOR, None)
    assert given(["pusat", "koordinator"]) == (Role.COORDINATOR, None)
    assert given(["pupr"], opd="DLH") == (Role.AGENCY_OPERATOR, "DPUPR"), "the map goes before the claim"
    assert given(["dinas"], opd="DLH") == (Role.AGENCY_OPERATOR, "DLH")
    assert given(["pusat"], opd="DLH") == (Role.CENTRAL_OPERATOR, None)
    for agency in (None, "", "dlh", ["DLH"], "DLH\n", 7):
        with pytest.raises(InvalidToken, match="agency"):
            given(["dinas"], opd=agency)
    for groups in (None, [], ["Pusat"], 7, {"pusat": 1}, [["pusat"]], "pusat,koordinator"):
        with pytest.raises(InvalidToken):
            given(groups)


def test_claims_may_be_nested() -> None:
    nested = issuer(roles_claim="realm_access.roles", subject_claim="user.id")
    found = nested.principal({"user": {"id": "7"}, "realm_access": {"roles": ["pusat"]}})
    assert found == Principal(account_id(URL, "7"), Role.CENTRAL_OPERATOR)
    named = issuer(roles_claim="https://city.example/roles")
    assert named.principal({"sub": "7", "https://city.example/roles": "pusat"}).role is Role.CENTRAL_OPERATOR
    with pytest.raises(InvalidToken):
        nested.principal({"user": "7", "realm_access": ["roles"]})


def test_account_ids_are_stable_opaque_and_apart() -> None:
    assert account_id(URL, "p1") == account_id(URL, "p1") == "ext-4afdb9feafd23f1d10bc1c584e630a79de4ea138"
    others = {account_id(URL, "p2"), account_id(URL + "/p1", ""), account_id("https://other.example", "p1")}
    assert len(others) == 3
    assert account_id(URL, "p1") not in others


def test_nobody_outside_gives_citizens_or_the_system() -> None:
    assert set(Role) - GIVABLE == {Role.CITIZEN, Role.SYSTEM}


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ({"issuer": URL, "jwks_uri": "https://keys.example/jwks"}, "https://keys.example/jwks"),
        ({"issuer": "https://other.example", "jwks_uri": "https://keys.example/jwks"}, None),
        ({"issuer": URL, "jwks_uri": "http://keys.example/jwks"}, None),
        ({"issuer": URL, "jwks_uri": "file:///etc/passwd"}, None),
        ({"issuer": URL}, None),
        ({}, None),
        ([], None),
        ({"issuer": URL + "/", "jwks_uri": "https://keys.example/jwks"}, None),
    ],
)
async def test_keys_are_where_its_own_discovery_says(document: Any, where: str | None) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == f"{URL}/.well-known/openid-configuration"
        return httpx.Response(200, json=document)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        if where is None:
            with pytest.raises(ValueError, match=r"issuer|https"):
                await issuer().keys_at(client)
        else:
            assert await issuer().keys_at(client) == where
