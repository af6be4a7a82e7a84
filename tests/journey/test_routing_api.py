"""The operators' moves over HTTP on real Kafka and MongoDB: the SOP's steps, refusals, races, and who may see what."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from deploy.local.servers import Servers
from services.routing.agencies import import_agencies
from shared.events import Agency, Assigned, now
from shared.sop import Role, Transition
from tests.contract.brokers import KafkaSite
from tests.support import tokens
from tests.support.events import Chain, report
from tests.support.routing import ASSIGNMENT, Json, Routing, routing_at_work
from tests.support.running import read_topics, until

T = Transition
CENTRAL, REGIONAL, COORDINATOR = Role.CENTRAL_OPERATOR, Role.REGIONAL_OPERATOR, Role.COORDINATOR
TO_FORWARDED = (T.FORWARDED,)
TO_COMPLETED = (T.FORWARDED, T.ASSIGNED, T.STARTED, T.COMPLETED)
DLH = Agency(code="DLH", name="Dinas Lingkungan Hidup")
PUPR = Agency(code="DPUPR", name="Dinas Pekerjaan Umum dan Penataan Ruang")


@pytest.fixture(scope="module")
async def routing(servers: Servers) -> AsyncIterator[Routing]:
    async with routing_at_work(servers) as service:
        yield service


def declined_by(*agencies: Agency) -> Chain:
    """A case that these agencies have declined, one after the other."""
    chain = Chain().then(T.FORWARDED)
    for agency in agencies:
        chain.then(T.ASSIGNED, agency=agency).then(T.DECLINED, agency=agency)
    return chain


async def test_a_case_goes_through_the_operators_steps(routing: Routing) -> None:
    chain = await routing.has(Chain(at=now()))
    case = await routing.case(chain, CENTRAL)
    assert (case["status"], case["holder"], case["allowed"]) == ("submitted", "routing", ["forwarded"])
    assert case["running"]["clock"] == "forward"
    moved = await routing.move(CENTRAL, chain, "forward")
    assert moved.status_code == 201, moved.text
    assert (moved.json()["seq"], moved.json()["transition"]) == (2, "forwarded")
    assert (await routing.case(chain, REGIONAL))["allowed"] == ["returned", "assigned"]
    assert (await routing.move(REGIONAL, chain, "assign")).status_code == 201
    chain.at, chain.seq, chain.agency = now(), 3, PUPR
    chain.events.clear()
    await routing.has(chain.through(T.STARTED, T.COMPLETED))
    assert (await routing.move(REGIONAL, chain, "rework")).status_code == 201
    chain.at, chain.seq = now(), 6
    await routing.has(chain.then(T.COMPLETED))
    assert (await routing.move(REGIONAL, chain, "document")).status_code == 201

    case = await routing.case(chain)
    assert (case["status"], case["seq"], case["assigned_to"]["code"]) == ("documented", 8, "DPUPR")
    assert case["considerations"] == ASSIGNMENT["considerations"]
    assert [told["event"] for told in case["informed"]] == ["complaint.assigned", "complaint.documented"]
    assert case["photos"][0]["path"] == f"/v1/complaints/{chain.complaint_id}/photos/{'a' * 64}"
    assert case["evidence"][0]["path"] == f"/v1/work/{chain.complaint_id}/photos/{'b' * 64}"
    issued = [event for event in await own_events(routing, chain) if isinstance(event, Assigned)]
    assert issued[0].due_at == issued[0].occurred_at + timedelta(days=10), "SOP step 4"
    assert issued[0].report == report()


async def own_events(routing: Routing, chain: Chain) -> list[Any]:
    """What the service has put on its topics about a case."""
    names = (f"complaint.{name}" for name in ("forwarded", "returned", "assigned", "rework_requested", "documented"))
    return [
        e for e in await read_topics(routing.settings, *names) if getattr(e, "complaint_id", "") == chain.complaint_id
    ]


async def test_the_case_file_names_no_reporter_and_says_where_to_ask(routing: Routing) -> None:
    open_, hidden = Chain(), Chain(report=report(visibility="anonim"))
    for chain in (open_, hidden):
        await routing.has(chain.then(T.FORWARDED))
        answer = await routing.get(REGIONAL, f"/v1/cases/{chain.complaint_id}")
        assert answer.status_code == 200
        assert chain.reporter_id not in answer.text
    path = f"/v1/complaints/{open_.complaint_id}/reporter"
    assert (await routing.case(open_))["reporter"] == {"held_by": "intake", "method": "POST", "path": path}
    assert (await routing.case(hidden))["reporter"] is None


@pytest.mark.parametrize(("action", "right"), [("forward", CENTRAL), ("return", REGIONAL), ("assign", REGIONAL)])
async def test_each_move_is_for_its_role(routing: Routing, action: str, right: Role) -> None:
    chain = Chain() if action == "forward" else Chain().then(T.FORWARDED)
    await routing.has(chain)
    for role in Role:
        if role is not right:
            answer = await routing.move(role, chain, action)
            assert (answer.status_code, answer.json()["type"]) == (403, "urn:lapor:problem:role-not-allowed"), role
    assert (await routing.move(right, chain, action)).status_code == 201


async def test_without_a_token_nothing_is_told(routing: Routing) -> None:
    for path in ("/v1/cases", "/v1/cases/x", "/v1/summary", "/v1/informed", "/v1/agencies"):
        assert (await routing.client.get(path)).status_code == 401


async def test_a_move_that_the_status_does_not_allow_is_answered_with_the_fresh_state(routing: Routing) -> None:
    chain = await routing.has(Chain().through(*TO_COMPLETED))
    answer = await routing.move(CENTRAL, chain, "forward")
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:lapor:problem:move-not-allowed-from-status"
    assert answer.json()["state"] == {"status": "completed", "seq": 5, "allowed": []}
    answer = await routing.move(REGIONAL, chain, "assign")
    assert answer.json()["state"]["allowed"] == ["rework_requested", "documented"]


async def test_twenty_who_assign_at_once_make_one_event(routing: Routing) -> None:
    chain = await routing.has(Chain().through(*TO_FORWARDED))
    answers = await asyncio.gather(*(routing.move(REGIONAL, chain, "assign") for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 19
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["state"] == {"status": "assigned", "seq": 3, "allowed": []}
    assert [event.id for event in await own_events(routing, chain)] == [f"{chain.complaint_id}:3"]


async def test_the_same_key_is_the_same_move_even_when_the_case_is_out_of_sight(routing: Routing) -> None:
    chain = await routing.has(Chain(report=report(visibility="rahasia")).then(T.FORWARDED))
    key = f"key-{chain.complaint_id}"
    answers = await asyncio.gather(*(routing.move(REGIONAL, chain, "assign", key) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {201}, [answer.text for answer in answers]
    assert len({answer.json()["event_id"] for answer in answers}) == 1
    assert (await routing.get(REGIONAL, f"/v1/cases/{chain.complaint_id}")).status_code == 404
    again = await routing.move(REGIONAL, chain, "assign", key)
    assert (again.status_code, again.json()) == (201, answers[0].json())
    other = await routing.move(REGIONAL, chain, "assign", key, agency="DLH")
    assert (other.status_code, other.json()["type"]) == (422, "urn:lapor:problem:idempotency-key-reused")


async def test_after_two_declines_only_the_coordinator_assigns_and_it_binds(routing: Routing) -> None:
    once = await routing.has(declined_by(DLH))
    assert (await routing.move(COORDINATOR, once, "assign")).status_code == 403
    same = await routing.move(REGIONAL, once, "assign", agency="DLH")
    assert (same.status_code, same.json()["type"]) == (422, "urn:lapor:problem:agency-declined")
    assert (await routing.move(REGIONAL, once, "assign")).status_code == 201

    twice = await routing.has(declined_by(DLH, PUPR))
    assert twice.complaint_id in await routing.listed(COORDINATOR, desk="coordinator")
    assert twice.complaint_id not in await routing.listed(REGIONAL, desk="regional")
    refused = await routing.move(REGIONAL, twice, "assign", agency="DISHUB")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:lapor:problem:coordinator-assigns")
    assert (await routing.move(COORDINATOR, twice, "assign", agency="DLH")).status_code == 201
    case = await routing.case(twice)
    assert (case["binding"], case["assigned_to"]["code"]) == (True, "DLH")


async def test_an_agency_must_be_in_the_directory_and_active(routing: Routing) -> None:
    chain = await routing.has(Chain().then(T.FORWARDED))
    answer = await routing.move(REGIONAL, chain, "assign", agency="NASA")
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:lapor:problem:no-such-agency")
    body = {"name": "Dinas Sosial", "categories": ["social_aid"], "units": ["Sekretariat"], "active": False}
    admin = tokens.bearer(Role.ADMIN)
    assert (await routing.client.put("/v1/agencies/DINSOS", json=body, headers=admin)).status_code == 200
    assert (await routing.move(REGIONAL, chain, "assign", agency="DINSOS")).status_code == 422
    await import_agencies(routing.settings)
    assert (await routing.get(REGIONAL, "/v1/agencies/DINSOS")).json()["active"] is False, "an import reactivates none"
    assert (
        await routing.client.put("/v1/agencies/DINSOS", json=body, headers=tokens.bearer(REGIONAL))
    ).status_code == 403
    assert (await routing.get(REGIONAL, "/v1/agencies/NASA")).status_code == 404


async def test_the_case_file_suggests_agencies_of_the_category(routing: Routing) -> None:
    chain = await routing.has(Chain(report=report(category="waste")))
    assert [agency["code"] for agency in (await routing.case(chain))["suggested_agencies"]] == ["DLH"]


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("forward", {"analysis": " " * 50}),
        ("forward", {"analysis": "x" * 5001}),
        ("forward", {}),
        ("return", {"reason": "because", "explanation": "Mohon sebutkan nama jalan."}),
        ("return", {"reason": "incomplete", "explanation": "kurang"}),
        ("assign", {"agency": "DPUPR"}),
        ("assign", {"agency": "D" * 21, "considerations": "Jalan kota, kewenangan OPD ini."}),
        ("rework", {"reason": ""}),
        ("document", {"note": "  "}),
    ],
)
async def test_bodies_that_cannot_be(routing: Routing, action: str, body: Json) -> None:
    role = CENTRAL if action == "forward" else REGIONAL
    answer = await routing.post(role, f"/v1/cases/x/{action}", body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["errors"][0]["field"].startswith("body")


async def test_confidential_cases_are_seen_by_the_desk_that_holds_them_and_the_coordinator(routing: Routing) -> None:
    chain = await routing.has(Chain(report=report(visibility="rahasia", title="Rahasia tentang pungutan liar")))
    path = f"/v1/cases/{chain.complaint_id}"

    async def readers() -> set[Role]:
        seen = set()
        for role in (CENTRAL, REGIONAL, COORDINATOR):
            answer = await routing.get(role, path)
            listed = chain.complaint_id in await routing.listed(role)
            found = chain.complaint_id in await routing.listed(role, q="pungutan liar")
            assert listed == found == (answer.status_code == 200)
            if answer.status_code == 200:
                seen.add(role)
            else:
                unknown = await routing.get(role, "/v1/cases/no-such-case")
                assert (answer.status_code, answer.json()) == (404, unknown.json())
        return seen

    assert await readers() == {CENTRAL, COORDINATOR}
    assert (await routing.move(REGIONAL, chain, "assign")).status_code == 404
    assert (await routing.move(CENTRAL, chain, "forward")).status_code == 201
    assert await readers() == {REGIONAL, COORDINATOR}
    assert (await routing.move(REGIONAL, chain, "assign")).status_code == 201
    assert await readers() == {COORDINATOR}


async def test_who_else_asks_for_cases_is_refused(routing: Routing) -> None:
    for role in (Role.CITIZEN, Role.AGENCY_OPERATOR, Role.ADMIN, Role.SYSTEM):
        assert (await routing.get(role, "/v1/cases")).status_code == 403
    for path in ("/v1/summary", "/v1/informed"):
        for role in (CENTRAL, REGIONAL, Role.ADMIN):
            assert (await routing.get(role, path)).status_code == 403


async def test_operations(routing: Routing) -> None:
    description = (await routing.client.get("/openapi.json")).json()
    assert {"/v1/cases", "/v1/cases/{complaint_id}/assign", "/v1/agencies/{code}"} <= set(description["paths"])
    channels = (await routing.client.get("/asyncapi.json")).json()["channels"]
    assert any("complaint.assigned" in name for name in channels)
    assert "lapor_complaints" in (await routing.client.get("/metrics")).text


async def test_an_agency_that_is_added_gets_its_topic_at_once_and_what_is_assigned_to_it(routing: Routing) -> None:
    admin = tokens.bearer(Role.ADMIN)
    body = {"name": "Dinas Pemakaman", "categories": ["parks_trees"], "units": []}
    brokers = AIOKafkaAdminClient(bootstrap_servers=routing.settings.kafka_bootstrap)
    await brokers.start()

    async def there(code: str) -> bool:
        return f"{routing.settings.namespace}.agency.{code}.assigned" in await brokers.list_topics()

    try:
        await until(partial(there, "DLH"), within=20)  # the service's first look at the directory is over
        assert (await routing.client.put("/v1/agencies/MAKAM", json=body, headers=admin)).status_code == 200
        await until(partial(there, "MAKAM"), within=2)
    finally:
        await brokers.close()
    chain = await routing.has(Chain().then(T.FORWARDED))
    assert (await routing.move(REGIONAL, chain, "assign", agency="MAKAM")).status_code == 201
    site = KafkaSite(routing.settings)
    (record,) = await site.read(1, f"{routing.settings.namespace}.agency.MAKAM.assigned")
    assert dict(record.headers)["ce_id"].decode() == f"{chain.complaint_id}:3"
    assert chain.reporter_id.encode() not in record.value
