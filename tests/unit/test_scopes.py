"""What a token of some scopes only may do: denied by default, on both ways of a request and from what is remembered."""

from collections.abc import AsyncIterator
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from shared import http
from shared.auth import Intake, InvalidToken, Principal, Verifier
from shared.direct import Direct, ShortWay
from shared.http import any_of
from shared.scopes import GRANTABLE, PEOPLE, SECOND_FACTOR, SERVICES
from shared.service import App
from shared.sop import Role
from tests.access import MATRIX
from tests.support import tokens


class Answer(BaseModel):
    account: str


def application() -> FastAPI:
    made = App()
    http.install(made)
    made.state.verifier, made.state.service = Verifier("http://127.0.0.1:1/none"), "opd"
    tokens.trust(made.state.verifier)
    api = APIRouter(route_class=Direct)

    @api.get("/short")
    async def short(principal: Annotated[Principal, any_of(Role.AGENCY_OPERATOR)]) -> Answer:
        return Answer(account=principal.id)

    @api.post("/short")
    async def write(principal: Annotated[Principal, any_of(Role.AGENCY_OPERATOR)]) -> Answer:
        return Answer(account=principal.id)

    @api.get("/usual")
    async def usual(principal: Annotated[Principal, any_of(Role.AGENCY_OPERATOR)], q: str = "") -> Answer:
        return Answer(account=principal.id + q)

    @api.post("/people")
    async def people(principal: Annotated[Principal, any_of(Role.AGENCY_OPERATOR, scope=PEOPLE)]) -> Answer:
        return Answer(account=principal.id)

    @api.post("/factor")
    async def factor(principal: Annotated[Principal, any_of(Role.AGENCY_OPERATOR, scope=SECOND_FACTOR)]) -> Answer:
        return Answer(account=principal.id)

    made.include_router(api)
    made.doors = [lambda inner: ShortWay(inner, [api])]
    return made


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application())
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as made:
        yield made


ROUTES = (("GET", "/short"), ("GET", "/usual"), ("POST", "/short"), ("POST", "/people"), ("POST", "/factor"))
_EVERYTHING = " ".join(sorted(GRANTABLE))


@pytest.mark.parametrize(
    ("scope", "open_to"),
    [
        (None, set(ROUTES)),
        ("opd:read", {("GET", "/short"), ("GET", "/usual")}),
        ("opd:write", {("POST", "/short")}),
        (_EVERYTHING, {("GET", "/short"), ("GET", "/usual"), ("POST", "/short")}),
        ("routing:read routing:write sla:read", set()),
        ("opd opd:* OPD:READ opd:read:all", set()),
        ("", set()),
        (SECOND_FACTOR, {("POST", "/factor")}),
    ],
)
async def test_what_no_scope_allows_is_refused(
    client: httpx.AsyncClient, scope: str | None, open_to: set[tuple[str, str]]
) -> None:
    headers = tokens.bearer(Role.AGENCY_OPERATOR, "machine-1", "DPUPR", scope=scope)
    for _ in range(2):  # at first verified, then remembered
        answers = {route: await client.request(*route, headers=headers) for route in ROUTES}
        assert {route for route, answer in answers.items() if answer.status_code == 200} == open_to
        assert {answer.status_code for answer in answers.values()} <= {200, 403}


async def test_the_refusal_names_the_scope_and_says_what_to_do(client: httpx.AsyncClient) -> None:
    reads = tokens.bearer(Role.AGENCY_OPERATOR, "machine-1", "DPUPR", scope="opd:read")
    answer = await client.post("/short", headers=reads)
    assert answer.json()["type"] == "urn:lapor:problem:scope-missing"
    assert answer.json()["scope"] == "opd:write"
    assert answer.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="opd:write"'
    people = await client.post("/people", headers=reads)
    assert people.json()["type"] == "urn:lapor:problem:for-people-only"
    first = await client.get("/short", headers=tokens.bearer(Role.AGENCY_OPERATOR, scope=SECOND_FACTOR))
    assert first.json()["type"] == "urn:lapor:problem:second-factor-needed"
    assert "POST /v1/me/second-factor" in first.json()["detail"]


async def test_a_scope_adds_nothing_to_the_role(client: httpx.AsyncClient) -> None:
    answer = await client.get("/short", headers=tokens.bearer(Role.CITIZEN, scope=_EVERYTHING))
    assert answer.json()["type"] == "urn:lapor:problem:role-not-allowed"


def test_what_is_no_text_of_scopes_is_no_token() -> None:
    claims = {"sub": "machine-1", "role": "coordinator"}
    assert Intake("").principal(claims).scopes is None
    assert Intake("").principal(claims | {"scope": " sla:read  opd:read "}).scopes == frozenset(
        {"sla:read", "opd:read"}
    )
    assert Intake("").principal(claims | {"scope": None}).scopes == frozenset(), "less, and not everything"
    for scope in (["sla:read"], 1, {"sla:read": True}):
        with pytest.raises(InvalidToken):
            Intake("").principal(claims | {"scope": scope})


def test_scopes_are_of_the_services_there_are_and_no_machine_is_given_a_peoples() -> None:
    assert set(SERVICES) == set(MATRIX)
    assert not GRANTABLE & {PEOPLE, SECOND_FACTOR}
