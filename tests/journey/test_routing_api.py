"""The operators' desks over HTTP on real Kafka and MongoDB: queues, moves, refusals, races, and who sees what."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from deploy.local.servers import Servers
from services.routing.agencies import import_agencies
from services.routing.app import build
from services.routing.projection import CONSUMES, ISSUES
from services.routing.settings import Settings
from services.routing.store import CaseStore
from shared import topics
from shared.events import Agency, Assigned, ClockEvent, SlaBreached, SlaWarned, SlaWithdrawn, now
from shared.sop import Clock, Desk, Role, Status, Transition
from shared.storage import Database
from tests.conftest import fresh_namespace
from tests.support import tokens
from tests.support.events import Chain, report
from tests.support.profile import profiled
from tests.support.running import publish, read_topics, running, until

T = Transition
Json = dict[str, Any]
CENTRAL, REGIONAL, COORDINATOR = Role.CENTRAL_OPERATOR, Role.REGIONAL_OPERATOR, Role.COORDINATOR
ASSIGNMENT = {"agency": "DPUPR", "considerations": "Jalan kota, kewenangan OPD ini."}
BODIES: dict[str, Json] = {
    "forward": {"analysis": "Lengkap dan jelas; kewenangan kota."},
    "return": {"reason": "incomplete", "explanation": "Mohon sebutkan nama jalan."},
    "assign": ASSIGNMENT,
    "rework": {"reason": "Foto tidak menunjukkan lokasi yang dilaporkan."},
    "document": {"note": "Bukti sesuai dengan laporan."},
}
TO_FORWARDED = (T.FORWARDED,)
TO_COMPLETED = (T.FORWARDED, T.ASSIGNED, T.STARTED, T.COMPLETED)
DLH = Agency(code="DLH", name="Dinas Lingkungan Hidup")
PUPR = Agency(code="DPUPR", name="Dinas Pekerjaan Umum dan Penataan Ruang")


@dataclass
class Routing:
    """A running routing service and its database."""

    settings: Settings
    client: httpx.AsyncClient
    database: Database

    async def get(self, role: Role, path: str, **query: Any) -> httpx.Response:
        return await self.client.get(path, params=query, headers=tokens.bearer(role, f"{role}-1"))

    async def post(self, role: Role, path: str, body: Any, key: str | None = None) -> httpx.Response:
        headers = tokens.bearer(role, f"{role}-1") | ({"Idempotency-Key": key} if key else {})
        return await self.client.post(path, json=body, headers=headers)

    async def move(self, role: Role, chain: Chain, action: str, key: str | None = None, **body: Any) -> httpx.Response:
        return await self.post(role, f"/v1/cases/{chain.complaint_id}/{action}", BODIES[action] | body, key)

    async def case(self, chain: Chain, role: Role = COORDINATOR) -> Json:
        answer = await self.get(role, f"/v1/cases/{chain.complaint_id}")
        assert answer.status_code == 200, answer.text
        content: Json = answer.json()
        return content

    async def has(self, chain: Chain) -> Chain:
        """Publish a complaint's events and wait until the service knows them all. Those that it issues itself it does
        not consume: they go into its cases as from its own journal."""
        await publish(self.settings, [event for event in chain.events if event.topic in CONSUMES])
        own = [event for event in chain.events if event.topic in ISSUES]
        await CaseStore(self.database, self.settings.deadlines).projection.apply(own)

        async def taken() -> bool:
            document = await self.database["cases"].find_one({"_id": chain.complaint_id}, {"history.id": 1})
            known = {entry["id"] for entry in document["history"]} if document else set()
            return known >= {event.id for event in chain.events}

        await until(taken)
        return chain

    async def listed(self, role: Role, **query: Any) -> list[str]:
        """The ids of all cases on all pages."""
        found: list[str] = []
        cursor: Json = {}
        while True:
            answer = await self.get(role, "/v1/cases", **query, **cursor)
            assert answer.status_code == 200, answer.text
            found += [row["complaint_id"] for row in answer.json()["items"]]
            if answer.json()["next"] is None:
                assert len(found) == len(set(found))
                return found
            cursor = {"cursor": answer.json()["next"]}


@pytest.fixture(scope="module")
async def routing(servers: Servers) -> AsyncIterator[Routing]:
    async with fresh_namespace(servers) as namespace:
        settings = Settings(
            namespace=namespace,
            kafka_bootstrap=servers.kafka_bootstrap,
            mongo_url=servers.mongo_url,
            topic_partitions=2,
        )
        await topics.create(settings)
        await import_agencies(settings)
        async with profiled(settings, "routing") as database, running(build(settings)) as client:
            yield Routing(settings, client, database)


def declined_by(*agencies: Agency) -> Chain:
    """A case that these agencies have declined, one after the other."""
    chain = Chain().then(T.FORWARDED)
    for agency in agencies:
        chain.then(T.ASSIGNED, agency=agency).then(T.DECLINED, agency=agency)
    return chain


def alarm(kind: type[ClockEvent], chain: Chain, clock: Clock, opened_at: datetime, **fields: Any) -> ClockEvent:
    given = {
        "id": f"{chain.complaint_id}:{chain.seq}:{kind.topic}",
        "occurred_at": now(),
        "complaint_id": chain.complaint_id,
        "seq": chain.seq,
        "number": chain.number,
        "reporter_id": chain.reporter_id,
        "clock": clock,
        "step": 2,
        "status": chain.status,
        "holder": Desk.ROUTING,
        "responsible": CENTRAL,
        "agency": None,
        "opened_at": opened_at,
        "due_at": opened_at + timedelta(days=3),
    }
    return kind(**given | fields)


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


async def test_queues_filter_sort_and_page(routing: Routing) -> None:
    """Within a district of its own, so that other tests' cases do not count."""
    district = "Pontianak Utara"
    place = report().place.model_copy(update={"district": district})
    cases = [
        await routing.has(
            Chain(
                at=now() - timedelta(days=days),
                report=report(place=place, category=category, title=f"Laporan uji {category}"),
            )
        )
        for days, category in ((1, "waste"), (2, "roads"), (5, "roads"), (9, "markets"))
    ]
    ids = [chain.complaint_id for chain in cases]
    here: Json = {"district": district, "limit": 2}
    assert await routing.listed(CENTRAL, desk="central", **here) == ids[::-1], "what is due first"
    assert await routing.listed(CENTRAL, **here) == ids, "what moved last"
    assert await routing.listed(CENTRAL, sort="submitted_at", **here) == ids[::-1]
    assert await routing.listed(CENTRAL, sort="-due_at", **here) == ids
    assert await routing.listed(CENTRAL, category="roads", **here) == ids[1:3]
    assert await routing.listed(CENTRAL, status="forwarded", **here) == []
    assert await routing.listed(CENTRAL, desk="regional", **here) == []
    assert set(await routing.listed(CENTRAL, age="3d", **here)) == set(ids[2:])
    assert set(await routing.listed(CENTRAL, overdue=True, **here)) == set(ids[2:]), "SOP step 2: three days"
    soon = (now() + timedelta(days=1, hours=12)).isoformat()
    assert set(await routing.listed(CENTRAL, due_before=soon, **here)) == set(ids[1:])
    assert set(await routing.listed(CENTRAL, due_before=soon, overdue=True, **here)) == set(ids[2:])
    assert await routing.listed(CENTRAL, q="uji waste", **here) == ids[:1]
    for query in ({"age": "soon"}, {"cursor": "xx"}, {"sort": "title"}, {"limit": 101}, {"status": "lost"}, {"q": "x"}):
        answer = await routing.get(CENTRAL, "/v1/cases", **query)
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:lapor:problem:invalid-request"), query


async def test_search_by_words_and_number(routing: Routing) -> None:
    lamp = await routing.has(
        Chain(report=report(title="Lampu jalan padam", description="Sudah seminggu gelap di Gang Bersatu."))
    )
    tree = await routing.has(Chain(report=report(title="Pohon tumbang", description="Menutup jalan di Gang Bersatu.")))
    closed = Chain(report=report(title="Zebra cross pudar")).through(T.FORWARDED, T.RETURNED, T.CLOSED)
    closed.number = "LP-7K3M-9QX2-T"
    closed.events = [event.model_copy(update={"number": closed.number}) for event in closed.events]
    await routing.has(closed)

    async def found(q: str) -> set[str]:
        return set(await routing.listed(COORDINATOR, q=q))

    assert await found("gang bersatu") == {lamp.complaint_id, tree.complaint_id}
    assert await found("Gelap Bersatu") == {lamp.complaint_id}, "all words, in title or description"
    assert await found("padam gelap") == {lamp.complaint_id}
    assert await found("gelap tumbang") == set()
    assert await found('"-gelap"') == {lamp.complaint_id}, "what people type is words, not operators"
    assert await found("lp-7k3m") == {closed.complaint_id}, "closed cases are found too"
    assert await found("LP-.*") == set()


async def test_alarms_of_the_running_clock_show_until_taken_back(routing: Routing) -> None:
    chain = await routing.has(Chain())
    opened_at = chain.last.occurred_at
    breach = alarm(SlaBreached, chain, Clock.FORWARD, opened_at)
    chain.events += [alarm(SlaWarned, chain, Clock.FORWARD, opened_at), breach]
    chain.events.append(alarm(SlaBreached, chain, Clock.RECEIPT, opened_at, id=f"{chain.complaint_id}:1:receipt"))
    await routing.has(chain)
    case = await routing.case(chain)
    assert (case["alarm"], case["overdue"]) == ("sla.breached", True)
    assert sorted((a["event"], a["clock"]) for a in case["alarms"]) == [
        ("sla.breached", "forward"),
        ("sla.breached", "receipt"),
        ("sla.warned", "forward"),
    ]
    chain.events.append(alarm(SlaWithdrawn, chain, Clock.FORWARD, opened_at, alarm=breach.id))
    await routing.has(chain)
    assert (await routing.case(chain))["alarm"] == "sla.warned"
    await routing.move(CENTRAL, chain, "forward")
    assert (await routing.case(chain))["alarm"] is None


async def test_nobody_is_late_in_the_citizens_own_time(routing: Routing) -> None:
    chain = await routing.has(Chain(at=now() - timedelta(days=60)).through(T.FORWARDED, T.RETURNED))
    case = await routing.case(chain)
    assert (case["status"], case["due_at"], case["overdue"]) == ("returned", None, False)
    assert (case["running"]["clock"], case["running"]["step"]) == ("correct", None)
    assert chain.complaint_id not in await routing.listed(COORDINATOR, overdue=True)


async def test_the_coordinator_is_told_and_counts(routing: Routing) -> None:
    before = (await routing.get(COORDINATOR, "/v1/summary")).json()
    old = now() - timedelta(days=400)
    chains = [
        Chain(at=old).through(T.FORWARDED, T.ASSIGNED),
        Chain(at=now()).through(*TO_COMPLETED, T.DOCUMENTED),
        Chain(at=now()).through(T.FORWARDED, T.RETURNED, T.CLOSED),
    ]
    for chain in chains:
        await routing.has(chain)
    after = (await routing.get(COORDINATOR, "/v1/summary")).json()
    gained = {
        status: after["by_status"][status] - before["by_status"][status]
        for status in Status
        if after["by_status"][status] != before["by_status"][status]
    }
    assert gained == {"assigned": 1, "documented": 1, "closed": 1}
    assert after["overdue_by_status"]["assigned"] - before["overdue_by_status"]["assigned"] == 1
    assert after["open_by_agency"]["DPUPR"] - before["open_by_agency"].get("DPUPR", 0) == 2
    assert datetime.fromisoformat(after["oldest_open_at"]) == old

    page = (await routing.get(COORDINATOR, "/v1/informed", limit=1)).json()
    assert (page["items"][0]["complaint_id"], len(page["items"])) == (chains[1].complaint_id, 1)
    assert [told["event"] for told in page["items"][0]["informed"]] == ["complaint.assigned", "complaint.documented"]
    following = (await routing.get(COORDINATOR, "/v1/informed", limit=100, cursor=page["next"])).json()
    told = [row["complaint_id"] for row in following["items"]]
    assert chains[0].complaint_id in told
    assert not {chains[1].complaint_id, chains[2].complaint_id} & set(told)


async def test_operations(routing: Routing) -> None:
    description = (await routing.client.get("/openapi.json")).json()
    assert {"/v1/cases", "/v1/cases/{complaint_id}/assign", "/v1/agencies/{code}"} <= set(description["paths"])
    channels = (await routing.client.get("/asyncapi.json")).json()["channels"]
    assert any("complaint.assigned" in name for name in channels)
    assert "lapor_complaints" in (await routing.client.get("/metrics")).text
