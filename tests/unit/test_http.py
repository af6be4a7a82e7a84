"""Every error of every API is a problem (RFC 9457) that says what to do, whatever went wrong and where."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI, Request
from pydantic import Field
from pymongo.errors import AutoReconnect, ExecutionTimeout

from shared import http, telemetry
from shared.auth import Verifier
from shared.events import Moment
from shared.http import REFUSALS, Body, Caller, Cursor, Limit, Once, Problem, any_of, not_found, refused
from shared.journal import Idempotency, KeyReused, Overloaded, Taken, Unstorable
from shared.queries import BadCursor
from shared.service import App
from shared.sop import Refusal, Role
from tests.support import tokens
from tests.support.events import TRACE

FAILURES: dict[str, tuple[Exception, int, str]] = {
    "taken": (Taken("x:2"), 409, "move-not-allowed-from-status"),
    "key-reused": (KeyReused(), 422, "idempotency-key-reused"),
    "overloaded": (Overloaded(), 503, "unavailable"),
    "slow": (TimeoutError(), 503, "unavailable"),
    "database-away": (AutoReconnect("no primary"), 503, "unavailable"),
    "database-slow": (ExecutionTimeout("too long"), 503, "unavailable"),
    "cursor": (BadCursor("the page cursor is not one that this API made"), 422, "invalid-request"),
    "unstorable": (Unstorable("surrogates not allowed"), 422, "invalid-request"),
    "not-found": (not_found(), 404, "not-found"),
    "own-words": (Problem(413, "photo-too-large", "Send a smaller one."), 413, "photo-too-large"),
    "defect": (ZeroDivisionError("secret detail"), 500, "internal-error"),
}


class Form(Body):
    title: str = Field(max_length=10)
    seen_at: Moment
    rating: int | None = Field(None, ge=1, le=5)
    note: str = ""


def build() -> FastAPI:
    app = App()
    app.state.verifier = Verifier("http://127.0.0.1:1/never-asked")
    tokens.trust(app.state.verifier)
    http.install(app)
    app.doors = [telemetry.Observe]

    @app.get("/fails/{how}")
    async def fails(how: str) -> None:
        raise FAILURES[how][0]

    @app.get("/refused/{refusal}")
    async def refuse(refusal: Refusal) -> None:
        raise refused(refusal, state={"status": "assigned"})

    @app.post("/forms")
    async def form(form: Form) -> dict[str, str]:
        form.note.encode()  # as every store and topic does
        return {"title": form.title}

    @app.post("/once")
    async def once(key: Once, request: Request) -> dict[str, Any]:
        return {"key": key.key if key else None, "request": key.request if key else None}

    @app.get("/pages")
    async def pages(limit: Limit = 20, cursor: Cursor = None) -> int:
        return limit

    @app.get("/operators")
    async def operators(principal: Caller, _: Any = any_of(Role.CENTRAL_OPERATOR, Role.COORDINATOR)) -> str:
        return principal.id

    return app


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(build(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as made:
        yield made


def problem(answer: httpx.Response, status: int, name: str) -> dict[str, Any]:
    """The body, once it is known to be a problem of this kind."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail", "message"} <= body.keys()
    assert (body["type"], body["status"]) == (f"urn:lapor:problem:{name}", status)
    assert body["detail"]
    assert body["message"]
    return body


@pytest.mark.parametrize("how", FAILURES)
async def test_each_failure_is_its_problem(client: httpx.AsyncClient, how: str) -> None:
    _, status, name = FAILURES[how]
    answer = await client.get(f"/fails/{how}")
    body = problem(answer, status, name)
    assert ("retry-after" in answer.headers) == (status == 503)
    assert "same Idempotency-Key" in body["detail"] or status != 503
    assert "ZeroDivision" not in answer.text
    assert "secret detail" not in answer.text


async def test_an_answer_to_a_defect_names_its_trace(client: httpx.AsyncClient) -> None:
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as logs:
        answer = await client.get("/fails/defect")
    assert "x-trace-id" in problem(answer, 500, "internal-error")["detail"]
    assert {entry["trace_id"] for entry in logs} == {answer.headers["x-trace-id"]}
    assert not any("caller_trace_id" in entry for entry in logs)


async def test_whoever_asks_chooses_no_trace_and_yet_finds_theirs_in_the_logs(client: httpx.AsyncClient) -> None:
    """The id goes with the events: a chosen one would tell which anonymous reports are one person's."""
    theirs = TRACE[3:35]
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as logs:
        answer = await client.get("/fails/defect", headers={"traceparent": TRACE})
    own = answer.headers["x-trace-id"]
    assert own != theirs
    assert {(entry["trace_id"], entry["caller_trace_id"]) for entry in logs} == {(own, theirs)}


@pytest.mark.parametrize("header", ["", "00-xyz-1-01", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", "é"])
async def test_a_trace_context_that_is_none_is_not_noted(client: httpx.AsyncClient, header: str) -> None:
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as logs:
        answer = await client.get("/fails/defect", headers={b"traceparent": header.encode("latin-1")})
    assert len(bytes.fromhex(answer.headers["x-trace-id"])) == 16
    assert logs
    assert not any("caller_trace_id" in entry for entry in logs)


@pytest.mark.parametrize("refusal", Refusal)
async def test_each_refusal_has_a_problem_with_the_fresh_state(client: httpx.AsyncClient, refusal: Refusal) -> None:
    body = problem(await client.get(f"/refused/{refusal}"), REFUSALS[refusal][0], refusal.value)
    assert body["state"] == {"status": "assigned"}


async def test_unknown_routes_and_methods_are_problems(client: httpx.AsyncClient) -> None:
    problem(await client.get("/no/such/route"), 404, "not-found")
    answer = await client.delete("/forms")
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b'{"seen_at": "2026-03-02T09:00:00+07:00"}', "body.title"),
        (b'{"title": "12345678901", "seen_at": "2026-03-02T09:00:00+07:00"}', "body.title"),
        (b'{"title": "x", "seen_at": "2026-03-02T09:00:00"}', "body.seen_at"),
        (b'{"title": "x", "seen_at": "0001-01-01T00:00:00+14:00"}', "body.seen_at"),
        (b'{"title": "x", "seen_at": "9999-12-31T23:59:59-14:00"}', "body.seen_at"),
        (b'{"title": "x", "seen_at": "2026-03-02T09:00:00+07:00", "rating": 6}', "body.rating"),
        (b'{"title": ["x"], "seen_at": "2026-03-02T09:00:00+07:00"}', "body.title"),
        (b'{"title": "\\ud800", "seen_at": "2026-03-02T09:00:00+07:00"}', "body.title"),
        (b'{"title": "x", "note": "\\ud800", "seen_at": "2026-03-02T09:00:00+07:00"}', "body"),
        (b'{"title": "x", "seen_at": "2026-03-02T09:00:00+07:00", "ratng": 5}', "body.ratng"),
        (b'{"title": ', "body.10"),
        (b"[]", "body"),
        (b"", "body"),
    ],
)
async def test_a_wrong_form_names_its_field(client: httpx.AsyncClient, content: bytes, field: str) -> None:
    answer = await client.post("/forms", content=content, headers={"content-type": "application/json"})
    body = problem(answer, 422, "invalid-request")
    assert [fault["field"] for fault in body["errors"]] == [field]
    assert body["detail"].startswith(field) or body["detail"] == body["errors"][0]["detail"]


async def test_what_is_told_of_many_faults_is_bounded(client: httpx.AsyncClient) -> None:
    unknown = {f"{n}{'x' * 500}": n for n in range(1000)}
    body = problem(await client.post("/forms", json=unknown), 422, "invalid-request")
    assert [fault["field"] for fault in body["errors"][:2]] == ["body.title", "body.seen_at"]
    assert len(body["errors"]) == 20
    assert len(str(body)) < 10_000


@pytest.mark.parametrize("content", [b"\xff\xfe\xfa", b"[" * 100_000])
async def test_a_body_that_cannot_be_read_is_a_problem(client: httpx.AsyncClient, content: bytes) -> None:
    answer = await client.post("/forms", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", f"cursor={'x' * 501}"])
async def test_pages_have_limits(client: httpx.AsyncClient, query: str) -> None:
    body = problem(await client.get(f"/pages?{query}"), 422, "invalid-request")
    assert body["errors"][0]["field"] == f"query.{query.partition('=')[0]}"


async def test_an_idempotency_key_belongs_to_account_route_and_body(client: httpx.AsyncClient) -> None:
    headers = tokens.bearer(Role.CITIZEN, "siti") | {"Idempotency-Key": "a-key-of-mine"}
    answer = await client.post("/once", headers=headers, content=b"{}")
    expected = Idempotency.of("siti", "POST /once", "a-key-of-mine", b"{}")
    assert answer.json() == {"key": expected.key, "request": expected.request}
    without = await client.post("/once", headers=tokens.bearer(Role.CITIZEN, "siti"))
    assert without.json() == {"key": None, "request": None}


@pytest.mark.parametrize("key", ["short", "x" * 201])
async def test_an_idempotency_key_has_a_sane_length(client: httpx.AsyncClient, key: str) -> None:
    headers = tokens.bearer(Role.CITIZEN) | {"Idempotency-Key": key}
    body = problem(await client.post("/once", headers=headers), 422, "invalid-request")
    assert body["errors"][0]["field"] == "header.idempotency-key"


async def test_who_asks_must_have_signed_in_and_have_the_role(client: httpx.AsyncClient) -> None:
    nobody = await client.get("/operators")
    problem(nobody, 401, "sign-in-required")
    assert nobody.headers["www-authenticate"] == "Bearer"
    for headers in ({"Authorization": "Basic c2l0aTpzaXRp"}, {"Authorization": "Bearer"}):
        problem(await client.get("/operators", headers=headers), 401, "sign-in-required")
    problem(await client.get("/operators", headers=tokens.bearer(Role.CITIZEN)), 403, "role-not-allowed")
    answer = await client.get("/operators", headers=tokens.bearer(Role.COORDINATOR, "ratna"))
    assert answer.json() == "ratna"


async def test_who_is_not_let_in_is_logged_by_an_opaque_id_and_the_route(client: httpx.AsyncClient) -> None:
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as logs:
        await client.get("/operators")
        await client.get("/operators", headers=tokens.bearer(Role.CITIZEN, "siti"))
        await client.get("/operators", headers=tokens.bearer(Role.COORDINATOR, "ratna"))
    told = [(line["event"], line["route"], line["status"], line.get("account")) for line in logs]
    assert told == [("not let in", "/operators", 401, None), ("not let in", "/operators", 403, "siti")]


async def test_requests_are_measured_by_route_and_not_by_address(client: httpx.AsyncClient) -> None:
    await client.get("/fails/taken")
    await client.get("/no/such/route-4711")
    series = {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"])
        for metric in telemetry.HTTP_REQUESTS.collect()
        for sample in metric.samples
    }
    assert ("GET", "/fails/{how}", "409") in series
    assert not any("4711" in route for _, route, _ in series)
