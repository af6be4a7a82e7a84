"""What queries cost where much is stored, in each service: thousands of documents that nobody asks for, and then every
query that its store makes, recorded by the database. None may read more than a page's bound; shared/queries.py says
why. (That no query of a running service reads a whole collection is seen in the journeys.)"""

import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from deploy.local.servers import Servers
from services.intake.account_store import AccountStore
from services.intake.store import AccessStore, ComplaintStore
from services.notify.delivery_store import DeliveryStore
from services.notify.desk import Finish
from services.notify.projection import project
from services.notify.store import CitizenStore, InboxStore
from services.opd.store import WorkStore
from services.routing.agency_store import AgencyStore
from services.routing.store import CaseStore, Search
from services.sla.desk import Rules
from services.sla.store import ANSWERED_FOR, ClockStore, TooMuch
from shared.calendar import Deadlines
from shared.events import new_id, now
from shared.projection import Document, Projection
from shared.queries import KEYS
from shared.settings import ServiceSettings
from shared.sop import Clock, Role, Status, Transition
from shared.storage import Database, Documents, MongoJournal
from tests.support.events import STRAIGHT, Chain, report
from tests.support.explain import MOST_DOCUMENTS, MOST_KEYS
from tests.support.profile import profiled

T = Transition
MANY = 2 * KEYS[-1]
FEW = 240
CITIZEN = new_id()
ENDED = (*STRAIGHT[1:], T.CLOSED)
UNDER_WAY = (
    *(STRAIGHT[1:n] for n in range(1, 8)),
    (T.FORWARDED, T.RETURNED),
    (T.FORWARDED, T.ASSIGNED, T.DECLINED, T.ASSIGNED, T.DECLINED),
)


async def crowd(rows: Documents, kept: Projection) -> None:
    """Very many closed complaints over two years, and a few under way: each kind is folded once and copied, without its
    history."""
    at = now()
    kinds = [Chain(at=at, report=report(category="roads")).through(*moves) for moves in (ENDED, *UNDER_WAY)]
    await kept.apply(event for chain in kinds for event in chain.events)
    folded = {document["_id"]: document async for document in rows.find({})}
    stored = [folded[chain.complaint_id] for chain in kinds if chain.complaint_id in folded]
    copies = []
    for n in range(MANY + FEW):
        document = stored[0 if n < MANY else 1 + n % (len(stored) - 1)]
        earlier = timedelta(days=730) * (MANY - n) / MANY if n < MANY else timedelta(hours=n - MANY)
        changes = {"_id": f"{n:06}", "number": f"LP-{n:06}", "reporter_id": CITIZEN, "history": [], "revision": 1}
        copies.append({**_earlier(document, earlier), **changes})
    await rows.insert_many(copies, ordered=False)


@asynccontextmanager
async def unrecorded(database: Database) -> AsyncIterator[None]:
    """What is done inside is not the service's."""
    await database.command("profile", 0)
    yield
    await database.command("profile", 2)


def _earlier(value: Any, by: timedelta) -> Any:
    if isinstance(value, datetime):
        return (value - by).replace(microsecond=0)
    if isinstance(value, dict):
        return {name: _earlier(part, by) for name, part in value.items()}
    return [_earlier(part, by) for part in value] if isinstance(value, list) else value


@pytest.fixture
async def settings(servers: Servers, namespace: str) -> ServiceSettings:
    return ServiceSettings(namespace=namespace, mongo_url=servers.mongo_url)


async def two_pages(ask: Callable[[str | None], Awaitable[tuple[Sequence[Document], str | None]]]) -> None:
    """The first page and the next."""
    _, cursor = await ask(None)
    await ask(cursor)


def some(number: int, **values: Sequence[Any]) -> list[dict[str, Any]]:
    """So many of all the combinations of values, by chance but the same each time."""
    combinations = list(itertools.product(*values.values()))
    chosen = random.Random(4).sample(combinations, number)
    return [dict(zip(values, combination, strict=True)) for combination in chosen]


async def test_routing(settings: ServiceSettings) -> None:
    at = now()
    async with profiled(settings, "routing") as database:
        cases, agencies = CaseStore(database, Deadlines()), AgencyStore(database)
        await cases.ensure_indexes()
        await agencies.ensure_indexes()
        async with unrecorded(database):
            await crowd(database["cases"], cases.projection)
        searches = some(
            250,
            desk=(None, Role.CENTRAL_OPERATOR, Role.REGIONAL_OPERATOR, Role.COORDINATOR),
            status=(None, *Status),
            category=(None, "roads", "markets"),
            district=(None, "Pontianak Kota", "Pontianak Barat"),
            agency=(None, "DPUPR", "DLH"),
            submitted_before=(None, at - timedelta(days=300)),
            due_before=(None, at),
            text=(None, "jalan", "berlubang pasar", "jalan nirwana", "LP-0", "LP-000017"),
            confidential=(None, {Status.SUBMITTED}, {Status.FORWARDED, Status.COMPLETED}),
        )
        sorts = itertools.cycle(("due_at", "-due_at", "submitted_at", "-submitted_at", "moved_at", "-moved_at"))
        for search, sort in zip(searches, sorts, strict=False):
            await two_pages(partial(cases.queue, Search(**search), sort, 20))
        await two_pages(partial(cases.informed, 20))
        await cases.find("000001")
        await cases.count_by_status()
        await cases.open_by_agency()
        await cases.oldest_open()
        await cases.overdue_by_status(at)
        await agencies.find("DPUPR")
        await agencies.all()
        await agencies.for_category("roads")


async def test_opd(settings: ServiceSettings) -> None:
    async with profiled(settings, "opd") as database:
        work = WorkStore(database)
        await work.ensure_indexes()
        async with unrecorded(database):
            await crowd(database["work"], work.projection)
        for query in some(
            150,
            status=(None, *Status),
            category=(None, "roads", "markets"),
            district=(None, "Pontianak Kota", "Pontianak Barat"),
            due_before=(None, now()),
            text=(None, "jalan", "berlubang pasar", "jalan nirwana", "LP-0", "LP-000017"),
            sort=("due_at", "-due_at", "assigned_at", "-assigned_at"),
        ):
            await two_pages(lambda cursor, query=query: work.queue("DPUPR", **query, cursor=cursor))  # type: ignore[misc]
        await work.find("000001")
        await work.count_by_status()


async def test_intake(settings: ServiceSettings) -> None:
    at = now()
    async with profiled(settings, "intake") as database:
        complaints, accounts, accesses = (
            ComplaintStore(database, Deadlines()),
            AccountStore(database),
            AccessStore(database),
        )
        for store in (MongoJournal(database), complaints, accounts, accesses):
            await store.ensure_indexes()
        async with unrecorded(database):
            await crowd(database["complaints"], complaints.projection)
            people = [
                {"_id": f"{n}", "logins": [f"{n}"], "role": "citizen", "name": "W", "contact_due": False, "version": 1}
                for n in range(MANY)
            ]
            await database["accounts"].insert_many(people)
            seen = [{"_id": f"{n}", "citizen_id": CITIZEN, "at": at - timedelta(minutes=n)} for n in range(MANY)]
            await database["identity_accesses"].insert_many(seen)
        for status, category in itertools.product((None, *Status), (None, "roads", "markets")):
            await two_pages(partial(complaints.of_reporter, CITIZEN, status, category, 20))
        assert len(await complaints.lapsed(at + timedelta(days=60), 10)) == 10
        await complaints.find("000001")
        await complaints.find_number("LP-000017")
        await complaints.count_by_status()
        await two_pages(partial(accesses.of_citizen, CITIZEN, 20))
        await accounts.find("17")
        await accounts.by_login("17")
        await accounts.contacts_due()
        await accounts.staff()
        await accounts.change("17", 1, {"name": "Budi"})
        await accounts.contact_told("17", 2)


async def test_notify(settings: ServiceSettings) -> None:
    at = now()
    async with profiled(settings, "notify") as database:
        inbox, deliveries, citizens = InboxStore(database), DeliveryStore(database), CitizenStore(database)
        await inbox.ensure_indexes()
        await deliveries.ensure_indexes()
        async with unrecorded(database):
            made = project(Chain(at=at).events, at, Deadlines(), timedelta(minutes=1))
            entry, delivery = made.inbox[0], made.deliveries[0]
            done = {"open": False, "reported": True, "state": "sent"}
            await database["inbox"].insert_many(
                entry | {"_id": f"{n}", "at": at - timedelta(minutes=n), "unread": n < FEW} for n in range(MANY)
            )
            await database["deliveries"].insert_many(
                delivery | {"_id": f"{n}", "created_at": at - timedelta(minutes=n)} | (done if n >= FEW else {})
                for n in range(MANY)
            )
        for unread in (False, True):
            await two_pages(lambda cursor, unread=unread: inbox.read(entry["audience"], unread=unread, cursor=cursor))  # type: ignore[misc]
        assert await inbox.count_unread(entry["audience"]) == FEW
        await inbox.mark_read("1", entry["audience"], at)
        for complaint, state in itertools.product((None, delivery["complaint_id"], "x"), (None, "sent", "failed")):
            await two_pages(partial(deliveries.find, complaint, state, 20))
        leased, _ = await deliveries.lease(50, at, at + timedelta(seconds=30))
        await deliveries.settle([(one, Finish("sent")) for one in leased], at, at)
        await deliveries.unreported(at, 50)
        await deliveries.mark_reported([one["_id"] for one in leased])
        await deliveries.load(["1", "2"])
        assert await deliveries.count_open() == FEW - 50
        await citizens.contacts([CITIZEN])
        await citizens.preferences([CITIZEN])
        await citizens.prefer(CITIZEN, {"reply": True}, at)


async def test_sla(settings: ServiceSettings) -> None:
    at = now()
    async with profiled(settings, "sla") as database:
        clocks = ClockStore(database, Rules(Deadlines(), timedelta(seconds=2), timedelta(minutes=1)))
        await clocks.ensure_indexes()
        async with unrecorded(database):
            await crowd(database["clocks"], clocks.projection)
        scopes = [*([clock] for clock in ANSWERED_FOR), [Clock.ASSIGN, Clock.DOCUMENT], list(ANSWERED_FOR)]
        for scope, after, agency, district in itertools.product(
            scopes, (None, at), (None, "DPUPR", "DLH"), (None, "Pontianak Kota", "Pontianak Barat")
        ):
            asked = partial(clocks.due, scope, before=at + timedelta(days=9), after=after, agency=agency)
            await two_pages(lambda cursor, a=asked, d=district: a(district=d, cursor=cursor))  # type: ignore[misc]
        await clocks.alarming(at, 50)
        await clocks.find("000001")
        await clocks.count_running(at)
        await clocks.compliance(at - timedelta(days=7), at, at)
        await clocks.count_by_status()
        async with unrecorded(database):
            with pytest.raises(TooMuch):
                await clocks.compliance(at - timedelta(days=900), at, at, within=timedelta(milliseconds=1))


async def test_the_journal(settings: ServiceSettings) -> None:
    at = now()
    async with profiled(settings, "journal") as database:
        journal = MongoJournal(database)
        await journal.ensure_indexes()
        event = Chain().last
        entry = {"topic": event.topic, "event": event.model_dump(), "recorded_at": at - timedelta(hours=1)}
        async with unrecorded(database):
            await database["journal"].insert_many(
                {"_id": f"{n}", **entry, "published": n >= FEW, "idempotency": {"key": f"{n}", "request": "r"}}
                for n in range(MANY)
            )
        assert len(await journal.unpublished(at, 100)) == 100
        assert await journal.count_unpublished() == FEW
        await journal.oldest_unpublished()
        await journal.find_key("17")
        await journal.mark([f"{n}" for n in range(100)])


def test_what_one_operation_may_look_at_is_far_less_than_what_is_stored() -> None:
    assert max(MOST_KEYS, MOST_DOCUMENTS) < MANY * 0.6
