"""What the operators and the coordinator see over HTTP on real Kafka and MongoDB: queues, search, alarms, figures."""

import itertools
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from deploy.local.servers import Servers
from shared.events import ClockEvent, SlaBreached, SlaWarned, SlaWithdrawn, now
from shared.sop import Clock, Desk, Role, Status, Transition
from tests.support.events import STRAIGHT, Chain, report
from tests.support.routing import Json, Routing, routing_at_work

T = Transition
CENTRAL, REGIONAL, COORDINATOR = Role.CENTRAL_OPERATOR, Role.REGIONAL_OPERATOR, Role.COORDINATOR


@pytest.fixture(scope="module")
async def routing(servers: Servers) -> AsyncIterator[Routing]:
    async with routing_at_work(servers) as service:
        yield service


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
    both = {lamp.complaint_id, tree.complaint_id}
    for sort, limit in itertools.product(("submitted_at", "-submitted_at"), (1, 20)):
        assert set(await routing.listed(COORDINATOR, q="gang bersatu", sort=sort, limit=limit)) == both
    assert set(await routing.listed(COORDINATOR, q="gang bersatu", desk="central", limit=1)) == both
    for query in ({"q": "gang", "sort": "due_at"}, {"q": "lp-7k3m", "sort": "submitted_at"}, {"q": "a b !"}):
        answer = await routing.get(COORDINATOR, "/v1/cases", **query)
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:lapor:problem:invalid-request"), query


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
        Chain(at=now()).through(*STRAIGHT[1:6]),
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
