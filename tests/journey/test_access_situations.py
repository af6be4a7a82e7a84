"""Who gets what of a case: every route that shows cases, by every kind of caller, for a case of each visibility in each
status, on the running services. What is expected stands in ``tests/access.py``.

What somebody may not see must not show by anything: by its id the answer is, byte for byte, that of an id that nobody
has; lists, searches, pages and counts are those of a city in which it does not exist.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from deploy.local.servers import Servers
from services.intake.store import ComplaintStore
from services.notify.app import build as build_notify
from services.notify.settings import Settings as NotifySettings
from services.opd.store import WorkStore
from services.routing.store import CaseStore
from services.sla.app import build as build_sla
from services.sla.desk import Rules
from services.sla.settings import Settings as SlaSettings
from services.sla.store import ClockStore
from shared import topics
from shared.events import Assigned, Photo, Report, new_id, now
from shared.projection import Projection
from shared.settings import ServiceSettings
from shared.sop import Status
from shared.storage import connect
from tests.access import MATRIX, ROLE_OF, SEES, SHOWS, Caller, Shows, let_in
from tests.conftest import fresh_namespace
from tests.support import tokens
from tests.support.events import BEGAN_AT, photo, report
from tests.support.intake import intake_at_work
from tests.support.opd import BODIES as OPD_BODIES
from tests.support.opd import opd_at_work
from tests.support.routing import BODIES as ROUTING_BODIES
from tests.support.routing import routing_at_work
from tests.support.running import UNHURRIED, publish, running, until
from tests.support.situations import Situation, situations

Json = dict[str, Any]
Settings = TypeVar("Settings", bound=ServiceSettings)
OWN_AGENCY, OTHER_AGENCY = "DPUPR", "DLH"
NOWHERE = "01990000-0000-7000-8000-000000000000"
"""An id of the right shape that no complaint has."""
DECIDED = (Status.DOCUMENTED, Status.ANSWERED, Status.CLOSED)
WITH_EVIDENCE = (Status.COMPLETED, *DECIDED)


@pytest.fixture(autouse=True)
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same few people ask for everything at once, which is a flood."""
    monkeypatch.setenv("LAPOR_LIMITS__ENABLED", "false")


@dataclass
class World:
    """A running service that knows a case in each situation."""

    service: str
    client: httpx.AsyncClient
    cases: list[Situation]
    reporter: str
    bodies: Json = field(default_factory=dict)
    photos: dict[Caller, str] = field(default_factory=dict)
    other: str = "some-citizen"
    photo_id: str = "0" * 64

    def headers(self, caller: Caller) -> dict[str, str]:
        role = ROLE_OF[caller]
        if role is None:
            return {}
        agency = {Caller.ITS_AGENCY: OWN_AGENCY, Caller.OTHER_AGENCY: OTHER_AGENCY}.get(caller)
        citizens = {Caller.REPORTER: self.reporter, Caller.OTHER_CITIZEN: self.other}
        return tokens.bearer(role, citizens.get(caller, f"some-{role}"), agency)

    async def ask(self, route: str, caller: Caller, complaint_id: str = NOWHERE) -> httpx.Response:
        """Ask for a route with a body that could be taken."""
        method, path = route.split()
        address = path.replace("{complaint_id}", complaint_id).replace("{photo_id}", self.photo_id)
        body = self.bodies.get(path.rpartition("/")[2])
        if body and "photos" in body and caller in self.photos:
            body = body | {"photos": [self.photos[caller]]}
        return await self.client.request(method, address, json=body, headers=self.headers(caller))

    async def listed(self, caller: Caller, path: str, **query: Any) -> list[str]:
        """The complaints of all pages of a list."""
        found: list[str] = []
        cursor: Json = {}
        while True:
            answer = await self.client.get(path, params={**query, **cursor}, headers=self.headers(caller))
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found += [row["complaint_id"] for row in page["items"]]
            if page["next"] is None:
                return found
            cursor = {"cursor": page["next"]}

    def seen(self, caller: Caller, *statuses: Status) -> set[str]:
        """The cases that a caller sees, of those in ``statuses`` if any are named."""
        return {
            case.chain.complaint_id
            for case in self.cases
            if case.status in SEES[case.visibility][caller] and (not statuses or case.status in statuses)
        }


def written(*photos: Photo) -> Callable[..., Report]:
    return lambda **changes: report(photos=photos or (photo(),), **changes)


async def known(projection: Projection, cases: Iterable[Situation]) -> None:
    """The cases' events, in the service's documents."""
    await projection.apply([event for case in cases for event in case.chain.events])


@asynccontextmanager
async def intake(servers: Servers, folder: Path) -> AsyncIterator[World]:
    async with fresh_namespace(servers) as namespace, intake_at_work(servers, namespace, folder) as service:
        siti, budi = await service.citizen(), await service.citizen()
        own = Photo(id=await siti.photo(), held_by="intake", content_type="image/jpeg", width=64, height=48)
        cases = list(situations(siti.id, now() - timedelta(hours=2), written(own), photo("b", "opd")))
        await known(ComplaintStore(service.database, service.settings.deadlines).projection, cases)
        bodies = {
            "resubmit": await siti.report(photos=[own.id]),
            "reopen": {"reason": "Jalan berlubang lagi setelah hujan pertama."},
            "rate": {"rating": 5},
            "withdraw": {},
            "reporter": {"reason": "Menanyakan patokan lokasi kepada pelapor."},
        }
        photos = {Caller.REPORTER: own.id, Caller.OTHER_CITIZEN: await budi.photo()}
        yield World("intake", service.client, cases, siti.id, bodies, photos, budi.id, own.id)


@asynccontextmanager
async def routing(servers: Servers, _: Path) -> AsyncIterator[World]:
    async with routing_at_work(servers) as service:
        cases = list(situations(new_id(), now() - timedelta(hours=2), written(), photo("b", "opd")))
        await known(CaseStore(service.database, service.settings.deadlines).projection, cases)
        yield World("routing", service.client, cases, cases[0].chain.reporter_id, ROUTING_BODIES)


@asynccontextmanager
async def opd(servers: Servers, _: Path) -> AsyncIterator[World]:
    async with opd_at_work(servers) as service:
        done = Photo(id=await service.photo(), held_by="opd", content_type="image/jpeg", width=64, height=48)
        cases = list(situations(new_id(), now() - timedelta(hours=2), written(), done))
        await known(WorkStore(service.database).projection, cases)
        bodies = OPD_BODIES | {"complete": OPD_BODIES["complete"] | {"photos": [done.id]}}
        photos = {Caller.ITS_AGENCY: done.id, Caller.OTHER_AGENCY: await service.photo(OTHER_AGENCY)}
        reporter = cases[0].chain.reporter_id
        yield World("opd", service.client, cases, reporter, bodies, photos, photo_id=done.id)


@asynccontextmanager
async def settled(servers: Servers, kind: type[Settings]) -> AsyncIterator[Settings]:
    """A service's settings for a namespace of its own, whose topics are there."""
    async with fresh_namespace(servers) as namespace:
        settings = kind(
            namespace=namespace,
            kafka_bootstrap=servers.kafka_bootstrap,
            mongo_url=servers.mongo_url,
            limits=UNHURRIED,
        )
        await topics.create(settings)
        yield settings


@asynccontextmanager
async def sla(servers: Servers, _: Path) -> AsyncIterator[World]:
    """All clocks that run are overdue: the cases are old."""
    async with settled(servers, SlaSettings) as settings, running(build_sla(settings)) as client:
        cases = list(situations(new_id(), BEGAN_AT, written(), photo("b", "opd")))
        connection = connect(settings.mongo_url)
        rules = Rules(settings.deadlines, settings.grace, settings.patience)
        await known(ClockStore(connection[settings.database("sla")], rules).projection, cases)
        connection.close()
        yield World("sla", client, cases, cases[0].chain.reporter_id)


@asynccontextmanager
async def notify(servers: Servers, _: Path) -> AsyncIterator[World]:
    async with settled(servers, NotifySettings) as settings, running(build_notify(settings)) as client:
        cases = list(situations(new_id(), now() - timedelta(hours=2), written(), photo("b", "opd")))
        world = World("notify", client, cases, cases[0].chain.reporter_id)
        await publish(settings, [event for case in cases for event in case.chain.events])

        async def told() -> bool:
            found = set(await world.listed(Caller.REPORTER, "/v1/inbox", limit=100))
            agencys = set(await world.listed(Caller.ITS_AGENCY, "/v1/inbox", limit=100))
            return len(found) == len(cases) and len(agencys) == len(assigned(cases))

        await until(told)
        yield world


def assigned(cases: Iterable[Situation]) -> set[str]:
    """The cases that were ever assigned to the agency."""
    return {c.chain.complaint_id for c in cases if any(isinstance(event, Assigned) for event in c.chain.events)}


WORLDS = {"intake": intake, "routing": routing, "opd": opd, "sla": sla, "notify": notify}


@pytest.mark.parametrize("service", ["intake", "routing", "opd", "sla"])
async def test_who_does_not_see_a_case_is_answered_as_if_there_were_none(
    servers: Servers, tmp_path: Path, service: str
) -> None:
    """Every route about one case x every caller x every situation. Moves that would be made come last, each case's
    first one only: it changes the case."""
    tried, wrong = 0, []
    async with WORLDS[service](servers, tmp_path) as world:
        moving: list[tuple[str, Caller, Situation]] = []
        for route, shows in SHOWS[service].items():
            if "{complaint_id}" not in route:
                continue
            for caller in Caller:
                absent = await world.ask(route, caller)
                if not let_in(MATRIX[service][route], caller):
                    assert absent.status_code == (401 if caller is Caller.NOBODY else 403), (route, caller)
                else:
                    assert absent.status_code == 404, (route, caller, absent.text)
                for case in world.cases:
                    tried += 1
                    if let_in(MATRIX[service][route], caller) and _shown(shows, case, caller):
                        if route.startswith("POST"):
                            moving.append((route, caller, case))
                            continue
                        expected = {200}
                        answer = await world.ask(route, caller, case.chain.complaint_id)
                    else:
                        expected = {absent.status_code}
                        answer = await world.ask(route, caller, case.chain.complaint_id)
                        if answer.content != absent.content:
                            wrong.append(f"{route} by {caller}: {case.visibility} {case.status} is told from none")
                    if answer.status_code not in expected:
                        wrong.append(f"{route} by {caller}: {case.visibility} {case.status}: {answer.status_code}")
        moved: set[str] = set()
        for route, caller, case in moving:
            if case.chain.complaint_id in moved:
                continue
            answer = await world.ask(route, caller, case.chain.complaint_id)
            if SHOWS[service][route] is Shows.REPORTER:
                expected = {403} if case.visibility == "anonim" else {201}
            else:
                expected = {201, 409}
                if route.endswith("assign") and caller is Caller.COORDINATOR:
                    expected = {403, 409}  # his turn comes after two declines
                if answer.status_code == 201 and not route.endswith("/notes"):
                    moved.add(case.chain.complaint_id)
            if answer.status_code not in expected:
                wrong.append(f"{route} by {caller}: {case.visibility} {case.status}: {answer.status_code}")
    assert wrong == []
    assert tried >= len(Caller) * 27
    assert service == "sla" or moved, "no move was made: the seers were never let through"


def _shown(shows: Shows, case: Situation, caller: Caller) -> bool:
    seen = case.status in SEES[case.visibility][caller]
    if shows is Shows.EVIDENCE:
        return seen and case.status in (DECIDED if caller is Caller.REPORTER else WITH_EVIDENCE)
    return seen


async def test_lists_and_searches_of_intake(servers: Servers, tmp_path: Path) -> None:
    async with intake(servers, tmp_path) as world:
        assert set(await world.listed(Caller.REPORTER, "/v1/complaints", limit=5)) == world.seen(Caller.REPORTER)
        answer = await world.client.get("/v1/complaints", headers=world.headers(Caller.OTHER_CITIZEN))
        assert answer.json() == {"items": [], "next": None}
        for case in world.cases:
            wrong = {"number": case.chain.number, "tracking_code": "A" * 26}
            unknown = wrong | {"number": "LP-0000-0000-0"}
            answers = [await world.client.post("/v1/tracking", json=body) for body in (wrong, unknown)]
            assert answers[0].status_code == answers[1].status_code == 404
            assert answers[0].content == answers[1].content


async def test_lists_and_searches_of_routing(servers: Servers, tmp_path: Path) -> None:
    async with routing(servers, tmp_path) as world:
        desks = (Caller.CENTRAL, Caller.REGIONAL, Caller.COORDINATOR)
        for caller in desks:
            seen = world.seen(caller)
            for size in (1, 7, 100):
                assert set(await world.listed(caller, "/v1/cases", limit=size)) == seen
            for status in Status:
                found = await world.listed(caller, "/v1/cases", status=status.value)
                assert set(found) == world.seen(caller, status), (caller, status)
            for queue, statuses in (
                ("central", (Status.SUBMITTED,)),
                ("regional", (Status.FORWARDED, Status.COMPLETED)),
            ):
                assert set(await world.listed(caller, "/v1/cases", desk=queue)) == world.seen(caller, *statuses)
            assert set(await world.listed(caller, "/v1/cases", q="jalan rusak", limit=3)) == seen
            assert set(await world.listed(caller, "/v1/cases", agency=OWN_AGENCY)) <= seen
            for case in world.cases:
                for words in (case.word, case.chain.number):
                    answer = await world.client.get("/v1/cases", params={"q": words}, headers=world.headers(caller))
                    rows = [row["complaint_id"] for row in answer.json()["items"]]
                    assert rows == ([case.chain.complaint_id] if case.chain.complaint_id in seen else []), words
                    assert answer.json()["next"] is None, "a cursor would tell that there is something"
        told = set(await world.listed(Caller.COORDINATOR, "/v1/informed", limit=5))
        assert told == assigned(world.cases)


async def test_lists_and_searches_of_opd(servers: Servers, tmp_path: Path) -> None:
    async with opd(servers, tmp_path) as world:
        for caller in (Caller.ITS_AGENCY, Caller.OTHER_AGENCY):
            seen = world.seen(caller)
            for size in (1, 100):
                assert set(await world.listed(caller, "/v1/work", sort="assigned_at", limit=size)) == seen
            for status in Status:
                found = await world.listed(caller, "/v1/work", status=status.value, sort="assigned_at")
                assert set(found) == world.seen(caller, status)
            for case in world.cases:
                for words in (case.word, case.chain.number):
                    answer = await world.client.get("/v1/work", params={"q": words}, headers=world.headers(caller))
                    rows = [row["complaint_id"] for row in answer.json()["items"]]
                    assert rows == ([case.chain.complaint_id] if case.chain.complaint_id in seen else [])
                    assert answer.json()["next"] is None


OWN_STEP: dict[Caller, tuple[Status, ...]] = {
    Caller.CENTRAL: (Status.SUBMITTED,),
    Caller.REGIONAL: (Status.FORWARDED, Status.COMPLETED),
    Caller.COORDINATOR: tuple(status for status in Status if status is not Status.CLOSED),
    Caller.ITS_AGENCY: (Status.ASSIGNED, Status.IN_PROGRESS),
    Caller.OTHER_AGENCY: (),
}
"""Where a clock of the caller's own step runs. No receipt was ever delivered, so that the coordinator has all."""


async def test_lists_of_sla(servers: Servers, tmp_path: Path) -> None:
    async with sla(servers, tmp_path) as world:
        for caller, statuses in OWN_STEP.items():
            late = world.seen(caller, *statuses) if statuses else set()
            assert set(await world.listed(caller, "/v1/overdue", limit=5)) == late, caller
            assert set(await world.listed(caller, "/v1/overdue", district="Pontianak Kota")) == late
            assert await world.listed(caller, "/v1/due-soon", hours=700) == []
            for agency in (OWN_AGENCY, OTHER_AGENCY):
                assert set(await world.listed(caller, "/v1/overdue", agency=agency)) <= world.seen(caller)


async def test_inboxes_and_deliveries(servers: Servers, tmp_path: Path) -> None:
    """Notices are addressed: nobody reads, counts or marks another's."""
    async with notify(servers, tmp_path) as world:
        everything, ever = world.seen(Caller.REPORTER), assigned(world.cases)
        expected = {
            Caller.REPORTER: everything,
            Caller.OTHER_CITIZEN: set[str](),
            Caller.CENTRAL: set[str](),
            Caller.REGIONAL: set[str](),
            Caller.COORDINATOR: ever,
            Caller.ITS_AGENCY: ever,
            Caller.OTHER_AGENCY: set[str](),
            Caller.ADMIN: set[str](),
        }
        for caller, complaints in expected.items():
            found = await world.listed(caller, "/v1/inbox", limit=100)
            assert set(found) == complaints, caller
            count = await world.client.get("/v1/inbox/unread-count", headers=world.headers(caller))
            assert count.json()["unread"] == len(found)
        entry = (await world.client.get("/v1/inbox", headers=world.headers(Caller.REPORTER))).json()["items"][0]["id"]
        for caller in expected:
            if caller is Caller.REPORTER:
                continue
            answers = [
                await world.client.post(f"/v1/inbox/{which}/read", headers=world.headers(caller))
                for which in (entry, "none-of-that-name")
            ]
            assert answers[0].status_code == 404
            assert answers[0].content == answers[1].content
        assert set(await world.listed(Caller.COORDINATOR, "/v1/deliveries", limit=100)) == everything
        assert world.reporter not in (await world.ask("GET /v1/deliveries", Caller.COORDINATOR)).text
