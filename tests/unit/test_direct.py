"""The short way answers as the framework's does: whatever is sent, the two cannot be told apart."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Query, Response
from fastapi.routing import APIRoute
from pydantic import AwareDatetime, BaseModel, Field
from starlette.types import ASGIApp, Receive, Scope, Send

from services.intake.api import complaints
from services.opd import api as opd
from services.routing.api import moves
from shared import http
from shared.auth import Principal, Verifier
from shared.direct import Direct, Plan, ShortWay
from shared.http import Once, Problem, any_of, not_found
from shared.service import App
from shared.sop import Role
from tests.support import tokens

CITIZEN = tokens.bearer(Role.CITIZEN, "citizen-1")
WRITES, READS_ONLY, ELSEWHERE, NONE = (
    tokens.bearer(Role.CITIZEN, "machine-1", scope=scope)
    for scope in ("opd:write", "opd:read", "routing:read routing:write", "")
)
JSON = {"Content-Type": "application/json"}
GOOD = b'{"name": "Siti", "at": "2026-11-20T07:30:00+07:00", "tags": ["a"], "place": {"longitude": 109.3}}'


class Point(BaseModel):
    longitude: float = Field(ge=-180, le=180)


class Given(BaseModel):
    name: str = Field(min_length=2, max_length=10)
    at: AwareDatetime
    tags: list[str] = []
    place: Point | None = None
    count: int = 1


class Answer(BaseModel):
    given: Given
    complaint: str
    account: str
    key: str | None


class Unreachable:
    """A layer of the framework that answers 418 to all."""

    def __init__(self, _: ASGIApp) -> None:
        self._answer = Response(status_code=418)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answer(scope, receive, send)


def app(route_class: type[APIRoute]) -> FastAPI:
    """One route like those of the desks."""
    made = App()
    http.install(made)
    made.state.verifier = Verifier("http://127.0.0.1:1/none")
    made.state.service = "opd"
    tokens.trust(made.state.verifier)
    api = APIRouter(prefix="/v1", route_class=route_class)

    @api.post("/things/{complaint_id}/move", status_code=201)
    async def move(
        complaint_id: str, body: Given, principal: Annotated[Principal, any_of(Role.CITIZEN)], once: Once
    ) -> Answer:
        if body.name.startswith("taken"):
            raise Problem(409, "taken", "It is taken.")
        return Answer(given=body, complaint=complaint_id, account=principal.id, key=once.key if once else None)

    @api.get("/things/of-today")
    async def today(principal: Annotated[Principal, any_of()], limit: Annotated[int, Query(ge=1)] = 20) -> str:
        return f"{principal.id} {limit}"

    @api.get("/things/{complaint_id}")
    async def show(complaint_id: str, principal: Annotated[Principal, any_of(Role.CITIZEN)]) -> Answer:
        if complaint_id == "nothing":
            raise not_found("thing")
        given = Given.model_validate_json(GOOD)
        return Answer(given=given, complaint=complaint_id, account=principal.id, key=None)

    made.include_router(api)
    if route_class is Direct:
        made.doors = [lambda inner: ShortWay(inner, [api])]
    return made


@pytest.fixture
async def both() -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    usual, direct = (
        httpx.AsyncClient(transport=httpx.ASGITransport(app(kind)), base_url="http://service")
        for kind in (APIRoute, Direct)
    )
    async with usual, direct:
        yield usual, direct


def sent(body: bytes = GOOD, **headers: str) -> tuple[bytes, dict[str, str]]:
    return body, {**JSON, **CITIZEN, **{name.replace("_", "-"): value for name, value in headers.items()}}


REQUESTS: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "as it should be": (201, *sent()),
    "with a key": (201, *sent(idempotency_key="a-key-of-mine")),
    "with a charset": (201, *sent(Content_Type="application/json; charset=utf-8")),
    "a key too short": (422, *sent(idempotency_key="short")),
    "a key too long": (422, *sent(idempotency_key="x" * 201)),
    "a key too short for nobody": (401, GOOD, {**JSON, "Idempotency-Key": "short"}),
    "no token": (401, GOOD, JSON),
    "another scheme": (401, GOOD, {**JSON, "Authorization": "Basic c2l0aTpyYWhhc2lh"}),
    "a forged token": (401, GOOD, {**JSON, "Authorization": CITIZEN["Authorization"][:-4] + "AAAA"}),
    "another role": (403, GOOD, {**JSON, **tokens.bearer(Role.COORDINATOR, "c-1")}),
    "a scope that is enough": (201, GOOD, {**JSON, **WRITES}),
    "a scope to read only": (403, GOOD, {**JSON, **READS_ONLY}),
    "a scope of another service": (403, GOOD, {**JSON, **ELSEWHERE}),
    "no scope at all": (403, GOOD, {**JSON, **NONE}),
    "no content type": (422, GOOD, CITIZEN),
    "another content type": (422, *sent(Content_Type="text/plain")),
    "no body": (422, *sent(b"")),
    "no JSON": (422, *sent(b"{")),
    "no object": (422, *sent(b'["Siti"]')),
    "null": (422, *sent(b"null")),
    "a field missing": (422, *sent(b'{"name": "Siti"}')),
    "a field too short": (422, *sent(GOOD.replace(b"Siti", b"S"))),
    "a number as text": (201, *sent(GOOD.replace(b'"tags"', b'"count": "7", "tags"'))),
    "a number that is none": (422, *sent(GOOD.replace(b'"tags"', b'"count": "seven", "tags"'))),
    "not a number": (422, *sent(GOOD.replace(b"109.3", b"NaN"))),
    "out of range": (422, *sent(GOOD.replace(b"109.3", b"1e400"))),
    "a time without a zone": (422, *sent(GOOD.replace(b"+07:00", b""))),
    "half a surrogate": (422, *sent(GOOD.replace(b"Siti", b"taken\\ud800"))),
    "no UTF-8": (400, *sent(GOOD.replace(b'"a"', b'"\xff"'))),
    "a field twice": (201, *sent(GOOD[:-1] + b', "name": "Budi"}')),
    "a field that is not known": (201, *sent(GOOD[:-1] + b', "role": "admin"}')),
    "a refusal of the endpoint": (409, *sent(GOOD.replace(b"Siti", b"taken"))),
}


@pytest.mark.parametrize("what", REQUESTS)
async def test_the_answer_is_the_framework_s(both: tuple[httpx.AsyncClient, httpx.AsyncClient], what: str) -> None:
    status, body, headers = REQUESTS[what]
    usual, direct = [await client.post("/v1/things/abc/move", content=body, headers=headers) for client in both]
    assert usual.status_code == status
    assert (direct.status_code, direct.headers.items()) == (usual.status_code, usual.headers.items())
    assert direct.json() == usual.json()


READS: dict[str, tuple[int, str, dict[str, str]]] = {
    "as it should be": (200, "abc", CITIZEN),
    "with a query": (200, "abc?x=1", CITIZEN),
    "with a part in percent": (200, "a%20b", CITIZEN),
    "another route's name": (200, "of-today", CITIZEN),
    "a scope that is enough": (200, "abc", READS_ONLY),
    "a scope to write only": (403, "abc", WRITES),
    "a scope of another service": (403, "abc", ELSEWHERE),
    "nobody": (401, "abc", {}),
    "another role": (403, "abc", tokens.bearer(Role.COORDINATOR, "c-1")),
    "nothing": (404, "nothing", CITIZEN),
    "no path": (404, "a/b", CITIZEN),
    "an empty part": (404, "", CITIZEN),
}


@pytest.mark.parametrize("what", READS)
async def test_what_is_read_is_the_framework_s(both: tuple[httpx.AsyncClient, httpx.AsyncClient], what: str) -> None:
    status, path, headers = READS[what]
    usual, direct = [await client.get(f"/v1/things/{path}", headers=headers) for client in both]
    assert usual.status_code == status
    assert (direct.status_code, direct.headers.items()) == (usual.status_code, usual.headers.items())
    assert direct.json() == usual.json()


async def test_a_request_as_it_should_be_and_a_refusal_do_not_reach_the_framework_s_layers() -> None:
    made = app(Direct)
    made.add_middleware(Unreachable)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(made), base_url="http://service") as client:
        assert (await client.post("/v1/things/abc/move", content=GOOD, headers=JSON | CITIZEN)).status_code == 201
        assert (await client.post("/v1/things/abc/move", content=GOOD, headers=CITIZEN)).status_code == 418
        refused = GOOD.replace(b"Siti", b"taken")
        assert (await client.post("/v1/things/abc/move", content=refused, headers=JSON | CITIZEN)).status_code == 409
        assert (await client.get("/v1/things/abc", headers=CITIZEN)).status_code == 200
        assert (await client.get("/v1/things/nothing", headers=CITIZEN)).status_code == 404
        assert (await client.get("/v1/things/of-today", headers=CITIZEN)).status_code == 418


async def test_what_nobody_in_particular_sends_is_not_even_parsed(
    both: tuple[httpx.AsyncClient, httpx.AsyncClient],
) -> None:
    """The one difference: the framework complains of a body that is no JSON before it asks who sends it."""
    usual, direct = [await client.post("/v1/things/abc/move", content=b"{", headers=JSON) for client in both]
    assert (direct.status_code, usual.status_code) == (401, 422)


async def test_the_document_is_the_framework_s(both: tuple[httpx.AsyncClient, httpx.AsyncClient]) -> None:
    usual, direct = [(await client.get("/openapi.json")).json() for client in both]
    assert direct == usual
    assert "/v1/things/{complaint_id}/move" in direct["paths"]


def test_what_the_short_way_does_not_know_goes_the_usual_way() -> None:
    api = APIRouter(route_class=Direct)

    @api.get("/listed")
    async def listed(limit: Annotated[int, Query(ge=1)] = 20) -> Answer:
        raise NotImplementedError

    @api.post("/several")
    async def several(one: Given, two: Point) -> Answer:
        raise NotImplementedError

    @api.post("/free")
    async def free(body: Given) -> dict[str, Any]:
        raise NotImplementedError

    plans = [Plan.of(route) for route in api.routes if isinstance(route, APIRoute)]
    assert plans == [None, None, None]


def test_the_moves_of_every_desk_take_the_short_way() -> None:
    nothing: Any = None
    intake: Any = type("Intake", (), {"categories": []})()
    routers = (complaints.router(intake, nothing), moves.router(*[nothing] * 4), opd.router(*[nothing] * 3))
    posts = [r for router in routers for r in router.routes if isinstance(r, APIRoute) and r.methods == {"POST"}]
    short = {route.path.rsplit("/", 1)[1] for route in posts if Plan.of(route) is not None}
    assert short >= {
        "complaints", "resubmit", "reopen", "rate", "withdraw", "forward", "return", "assign", "rework", "document",
        "start", "decline", "complete", "notes",
    }  # fmt: skip
