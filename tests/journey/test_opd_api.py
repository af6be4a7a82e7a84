"""The agencies' desks over HTTP on real Kafka and MongoDB: SOP step 4, refusals, races, and nobody else's work."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from deploy.local.servers import Servers
from shared.events import Agency, Completed, Declined, Started, now
from shared.sop import Role, Transition
from tests.support import tokens
from tests.support.events import STRAIGHT, Chain, photo, report
from tests.support.opd import Json, Opd, opd_at_work
from tests.support.running import read_topics

T = Transition
TO_ASSIGNED = STRAIGHT[1:3]
TO_STARTED = STRAIGHT[1:4]
DLH = Agency(code="DLH", name="Dinas Lingkungan Hidup")


@pytest.fixture(scope="module")
async def opd(servers: Servers) -> AsyncIterator[Opd]:
    async with opd_at_work(servers) as service:
        yield service


async def issued(opd: Opd, chain: Chain, *topics: str) -> list[Any]:
    """What the service has put on its topics about a complaint."""
    return [e for e in await read_topics(opd.settings, *topics) if getattr(e, "complaint_id", "") == chain.complaint_id]


async def test_an_agency_follows_a_complaint_up(opd: Opd) -> None:
    chain = await opd.has(Chain(at=now()).through(*TO_ASSIGNED))
    work = await opd.work(chain)
    assert (work["status"], work["allowed"], work["binding"]) == ("assigned", ["declined", "started"], False)
    assert work["considerations"] == "Sesuai kewenangan OPD."
    assert datetime.fromisoformat(work["due_at"]) == chain.at + timedelta(days=10), "SOP step 4"
    assert (await opd.act(chain, "start")).status_code == 201
    noted = await opd.act(chain, "notes")
    assert noted.status_code == 201
    pictures = [await opd.photo(), await opd.photo()]
    done = await opd.act(chain, "complete", photos=pictures)
    assert (done.status_code, done.json()["seq"], done.json()["transition"]) == (201, 5, "completed")

    work = await opd.work(chain)
    assert (work["status"], work["unit"], work["allowed"]) == ("completed", "Sekretariat, Subbagian Umum", [])
    assert [note["note"] for note in work["notes"]] == ["Tim sudah di lokasi."]
    assert [evidence["id"] for evidence in work["evidence"]] == pictures
    assert chain.reporter_id not in str(work)
    events = await issued(opd, chain, "complaint.started", "complaint.completed", "work.progress")
    assert {event.topic: event.seq for event in events} == {
        "complaint.started": 4,
        "work.progress": 4,
        "complaint.completed": 5,
    }
    assert next(e.photos for e in events if isinstance(e, Completed))[0].held_by == "opd"
    assert [e.agency.code for e in events if isinstance(e, Started)] == ["DPUPR"]


async def test_a_declined_complaint_is_out_of_sight_and_the_repeated_request_gets_its_answer(opd: Opd) -> None:
    chain = await opd.has(Chain().through(*TO_ASSIGNED))
    key = secrets.token_hex(8)
    first = await opd.act(chain, "decline", key=key)
    assert first.status_code == 201
    assert (await opd.get(f"/v1/work/{chain.complaint_id}")).status_code == 404
    again = await opd.act(chain, "decline", key=key)
    assert (again.status_code, again.json()) == (201, first.json())
    assert (await opd.act(chain, "decline")).status_code == 404
    event = (await issued(opd, chain, "complaint.declined"))[0]
    assert isinstance(event, Declined)
    assert (event.suggested_agency, event.agency.code) == ("DPRKP", "DPUPR")


async def test_what_the_coordinator_assigned_binds(opd: Opd) -> None:
    chain = await opd.has(Chain().then(T.FORWARDED).then(T.ASSIGNED, binding=True))
    assert (await opd.work(chain))["allowed"] == ["started"]
    refused = await opd.act(chain, "decline")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:lapor:problem:assignment-binds")
    assert (await opd.act(chain, "start")).status_code == 201


async def test_another_agencys_work_looks_like_none(opd: Opd) -> None:
    chain = await opd.has(Chain().through(*TO_STARTED))
    nothing = Chain()
    for action in ("start", "decline", "notes"):
        answers = [await opd.act(c, action, agency="DLH") for c in (chain, nothing)]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].json() == answers[1].json()
    picture = await opd.photo("DLH")
    assert (await opd.act(chain, "complete", agency="DLH", photos=[picture])).status_code == 404
    assert (await opd.get(f"/v1/work/{chain.complaint_id}", "DLH")).status_code == 404
    assert chain.complaint_id not in await opd.listed("DLH")
    assert chain.complaint_id in await opd.listed()


async def test_only_agency_operators_work_here(opd: Opd) -> None:
    chain = await opd.has(Chain().through(*TO_ASSIGNED))
    path = f"/v1/work/{chain.complaint_id}"
    for role in set(Role) - {Role.AGENCY_OPERATOR}:
        headers = tokens.bearer(role, "somebody")
        assert (await opd.client.get("/v1/work", headers=headers)).status_code == 403, role
        assert (await opd.client.get(path, headers=headers)).status_code == 403
        assert (await opd.client.post(f"{path}/start", json={"unit": "Unit"}, headers=headers)).status_code == 403
        assert (await opd.client.post("/v1/photos", content=b"x", headers=headers)).status_code == 403
    assert (await opd.client.get(path)).status_code == 401
    nowhere = tokens.bearer(Role.AGENCY_OPERATOR, "somebody")
    assert (await opd.client.get(path, headers=nowhere)).status_code == 404, "an operator without an agency"


async def test_of_twenty_who_start_at_once_one_does(opd: Opd) -> None:
    chain = await opd.has(Chain().through(*TO_ASSIGNED))
    answers = await asyncio.gather(*(opd.act(chain, "start") for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 19
    lost = next(answer for answer in answers if answer.status_code == 409)
    assert lost.json()["state"] == {"status": "in_progress", "seq": 4, "allowed": ["completed"]}
    assert len(await issued(opd, chain, "complaint.started")) == 1


async def test_a_move_that_the_status_does_not_allow(opd: Opd) -> None:
    chain = await opd.has(Chain().through(*TO_ASSIGNED))
    for answer in (await opd.act(chain, "complete", photos=[await opd.photo()]), await opd.act(chain, "notes")):
        assert (answer.status_code, answer.json()["state"]["status"]) == (409, "assigned")
    assert (await opd.act(chain, "start")).status_code == 201
    for action in ("start", "decline"):
        assert (await opd.act(chain, action)).status_code == 409


async def test_the_same_key_makes_one_note_even_when_the_work_has_gone_on(opd: Opd) -> None:
    chain = await opd.has(Chain().through(*TO_STARTED))
    key = secrets.token_hex(8)
    answers = await asyncio.gather(*(opd.act(chain, "notes", key=key) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert (await opd.act(chain, "complete", photos=[await opd.photo()])).status_code == 201
    again = await opd.act(chain, "notes", key=key)
    assert (again.status_code, again.json()) == (201, answers[0].json())
    other = await opd.act(chain, "notes", key=key, note="Sesuatu yang lain.")
    assert (other.status_code, other.json()["type"]) == (422, "urn:lapor:problem:idempotency-key-reused")
    assert len((await opd.work(chain))["notes"]) == 1


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("start", {"unit": "   "}),
        ("start", {"unit": "u" * 201}),
        ("decline", {"reason": "tidak"}),
        ("decline", {"suggested_agency": "what?"}),
        ("notes", {"note": ""}),
        ("complete", {}),
        ("complete", {"photos": []}),
        ("complete", {"photos": ["a" * 64] * 6}),
        ("complete", {"photos": ["not a photo"]}),
        ("complete", {"photos": ["a" * 64]}),
        ("complete", {"photos": ["a" * 64], "note": "ok"}),
    ],
)
async def test_bodies_that_cannot_be(opd: Opd, action: str, body: Json) -> None:
    answer = await opd.act(Chain(), action, **body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["errors"][0]["field"].startswith("body")


async def test_evidence_is_an_agencys_own_photo(opd: Opd) -> None:
    chain = await opd.has(Chain().through(*TO_STARTED))
    answer = await opd.act(chain, "complete", photos=[await opd.photo(), await opd.photo("DLH")])
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "body.photos.1")
    for body, status in ((b"not a photo at all", 415), (b"", 422)):
        answer = await opd.client.post("/v1/photos", content=body, headers=opd.bearer("DPUPR"))
        assert answer.status_code == status


async def test_who_sees_the_photos_of_the_finished_work(opd: Opd) -> None:
    for visibility in ("public", "rahasia"):
        chain = await opd.has(Chain(report=report(visibility=visibility)).through(*TO_STARTED))
        refused, good, stranger = await opd.photo(), await opd.photo(), await opd.photo()
        assert (await opd.act(chain, "complete", photos=[refused])).status_code == 201

        async def seeing(picture: str, chain: Chain = chain) -> set[str]:
            path = f"/v1/work/{chain.complaint_id}/photos/{picture}"
            people = {role.value: tokens.bearer(role, "somebody") for role in Role if role is not Role.AGENCY_OPERATOR}
            people |= {"reporter": tokens.bearer(Role.CITIZEN, chain.reporter_id)}
            people |= {agency: opd.bearer(agency) for agency in ("DPUPR", "DLH")}
            answers = {who: await opd.client.get(path, headers=headers) for who, headers in people.items()}
            assert {answer.status_code for answer in answers.values()} <= {200, 404}
            return {who for who, answer in answers.items() if answer.status_code == 200}

        always = {"coordinator", "system", "DPUPR"}
        central = set() if visibility == "rahasia" else {"central_operator"}
        assert await seeing(refused) == always | {"regional_operator"} | central
        chain.at, chain.seq = now(), 5
        chain.events.clear()
        await opd.has(chain.then(T.REWORK_REQUESTED))
        assert (await opd.act(chain, "complete", photos=[good])).status_code == 201
        chain.at, chain.seq = now(), 7
        evidence = (photo().model_copy(update={"id": good, "held_by": "opd"}),)
        await opd.has(chain.then(T.DOCUMENTED, evidence=evidence))
        regional = set() if visibility == "rahasia" else {"regional_operator"}
        assert await seeing(good) == always | central | regional | {"reporter"}
        assert await seeing(refused) == always | central | regional, "what was refused is not shown to the citizen"
        assert await seeing(stranger) == set(), "a photo of no complaint"


async def test_the_queue_filters_sorts_and_pages(opd: Opd) -> None:
    """An agency of its own, so that other tests' work does not count."""
    perkim = Agency(code="DPRKP", name="Dinas Perumahan Rakyat dan Kawasan Permukiman")
    chains = []
    for days, category in ((1, "waste"), (5, "roads"), (12, "roads"), (20, "markets")):
        chain = Chain(at=now() - timedelta(days=days), report=report(category=category, title=f"Laporan {category}"))
        chains.append(await opd.has(chain.then(T.FORWARDED).then(T.ASSIGNED, agency=perkim)))
    done = Chain(report=report(title="Laporan selesai")).then(T.FORWARDED).then(T.ASSIGNED, agency=perkim)
    await opd.has(done.through(T.STARTED, T.COMPLETED))
    ids = [chain.complaint_id for chain in chains]

    async def listed(**query: Any) -> list[str]:
        return await opd.listed("DPRKP", limit=2, **query)

    assert await listed() == ids[::-1], "what is due first"
    assert await listed(sort="-due_at") == ids
    assert await listed(sort="-assigned_at") == [*ids, done.complaint_id]
    assert await listed(category="roads") == ids[2:0:-1]
    assert await listed(overdue=True) == ids[:1:-1], "SOP step 4: ten days"
    assert await listed(status="completed") == [done.complaint_id]
    assert await listed(district="Pontianak Barat") == []
    assert await listed(q="laporan selesai") == [done.complaint_id]
    assert await listed(q="Lubang ROADS") == ids[1:3], "words of title and description"
    refused: list[dict[str, Any]] = [{"cursor": "xx"}, {"sort": "title"}, {"limit": 0}, {"q": "x"}, {"status": "lost"}]
    for query in (*refused, {"q": "lubang", "sort": "due_at"}, {"q": "lp-7", "sort": "assigned_at"}, {"q": "a !"}):
        assert (await opd.get("/v1/work", **query)).status_code == 422, query


async def test_a_complaint_of_a_number(opd: Opd) -> None:
    chain = Chain().through(*TO_ASSIGNED)
    chain.events = [event.model_copy(update={"number": "LP-7K3M-9QX2-T"}) for event in chain.events]
    await opd.has(chain)
    assert await opd.listed(q="lp-7k3m") == [chain.complaint_id]
    assert await opd.listed("DLH", q="lp-7k3m") == []


async def test_reassigned_work_changes_hands(opd: Opd) -> None:
    chain = await opd.has(Chain().through(*TO_ASSIGNED))
    assert (await opd.act(chain, "decline")).status_code == 201
    chain.at, chain.seq = now(), 4
    chain.events.clear()
    await opd.has(chain.then(T.ASSIGNED, agency=DLH))
    assert (await opd.get(f"/v1/work/{chain.complaint_id}")).status_code == 404
    work = await opd.work(chain, "DLH")
    assert (work["agency"]["code"], work["allowed"]) == ("DLH", ["declined", "started"])
    assert [entry["event"] for entry in work["history"]].count("complaint.declined") == 1
