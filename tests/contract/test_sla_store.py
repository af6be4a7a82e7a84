"""The clocks' collection on real MongoDB: what each query finds, and that none reads more than it must. What the ticker
and the consumer ask runs over the clocks in memory as well."""

from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import chain

import pytest

from deploy.local.servers import Servers
from services.sla import desk
from services.sla.clocks import State
from services.sla.desk import Rules
from services.sla.store import ANSWERED_FOR, ClockStore
from shared.calendar import Deadlines
from shared.projection import history
from shared.sop import Clock, Transition
from shared.storage import Database, connect
from tests.support.events import BEGAN_AT, PERKIM, PUPR, Chain
from tests.support.memory_clocks import MemoryClocks

RULES = Rules(Deadlines(), grace=timedelta(seconds=2), patience=timedelta(minutes=1))
T = Transition
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


@pytest.fixture
async def database(servers: Servers, namespace: str) -> AsyncIterator[Database]:
    client = connect(servers.mongo_url)
    yield client[f"{namespace}_sla"]
    client.close()


@pytest.fixture
async def clocks(database: Database) -> ClockStore:
    store = ClockStore(database, RULES)
    await store.ensure_indexes()
    return store


@pytest.fixture(params=["memory", "mongodb"])
def ticking(request: pytest.FixtureRequest) -> ClockStore | MemoryClocks:
    return MemoryClocks(RULES) if request.param == "memory" else request.getfixturevalue("clocks")


async def held(clocks: ClockStore | MemoryClocks, *chains: Chain) -> None:
    await clocks.projection.apply([event for chain in chains for event in chain.events])


async def test_every_page_of_what_is_overdue_comes_in_the_order_of_its_due_dates(clocks: ClockStore) -> None:
    chains = [Chain(at=BEGAN_AT + n * MINUTE).received() for n in range(7)]
    await held(clocks, *reversed(chains))
    at = BEGAN_AT + 3 * DAY + 4.5 * MINUTE  # the first five are past their three days
    for scope in ([Clock.FORWARD], list(ANSWERED_FOR)):
        found, cursor = [], None
        while True:
            page, cursor = await clocks.due(scope, before=at, limit=2, cursor=cursor)
            found += [document["_id"] for document in page]
            if cursor is None:
                break
        assert found == [chain.complaint_id for chain in chains[:5]]


async def test_who_is_late_with_two_clocks_is_listed_at_the_first_and_once(clocks: ClockStore) -> None:
    """Without receipt: late with that and, three days later, with step 2, while others become late."""
    chains = [Chain(at=BEGAN_AT + n * DAY / 2) for n in range(10)]
    await held(clocks, *chains)
    at = BEGAN_AT + 20 * DAY
    for limit in (1, 3, 8, 20):
        pages: list[list[str]] = []
        cursor = None
        while cursor or not pages:
            page, cursor = await clocks.due(list(ANSWERED_FOR), before=at, limit=limit, cursor=cursor)
            pages.append([document["_id"] for document in page])
        assert list(chain.from_iterable(pages)) == [one.complaint_id for one in chains]
        assert len(pages[0]) == min(limit, 10), "who comes again leaves no gap on a page"


async def test_a_page_of_several_clocks_reads_the_documents_that_it_shows(
    clocks: ClockStore, database: Database
) -> None:
    waiting = [Chain(at=BEGAN_AT + n * MINUTE).received() for n in range(9)]
    assigned = [Chain(at=BEGAN_AT + n * MINUTE).received().through(T.FORWARDED, T.ASSIGNED) for n in range(9)]
    await held(clocks, *waiting, *assigned)
    await database.command("profile", 2)
    page, _ = await clocks.due(list(ANSWERED_FOR), before=BEGAN_AT + 20 * DAY, limit=4)
    await database.command("profile", 0)
    assert [document["_id"] for document in page] == [chain.complaint_id for chain in waiting[:4]]
    reads = await database["system.profile"].find({"ns": database["clocks"].full_name}).to_list(None)
    assert sum(entry["docsExamined"] for entry in reads) == 4


async def test_what_is_due_soon_is_not_what_is_overdue(clocks: ClockStore) -> None:
    overdue, soon, later = (Chain(at=BEGAN_AT + days * DAY).received() for days in (0, 1, 5))
    await held(clocks, overdue, soon, later)
    at = BEGAN_AT + 3.5 * DAY
    for scope in ([Clock.FORWARD], list(ANSWERED_FOR)):
        found, _ = await clocks.due(scope, after=at, before=at + DAY)
        assert [document["_id"] for document in found] == [soon.complaint_id]


async def test_a_receipt_that_is_late_hides_nothing_that_is_due_soon(clocks: ClockStore) -> None:
    chain = Chain()  # without receipt: overdue after ten minutes
    await held(clocks, chain)
    at = BEGAN_AT + 2.5 * DAY
    found, _ = await clocks.due(list(ANSWERED_FOR), after=at, before=at + DAY)
    assert [document["_id"] for document in found] == [chain.complaint_id]


async def test_filters_by_agency_and_district(clocks: ClockStore) -> None:
    ours = Chain().received().through(T.FORWARDED, T.ASSIGNED)
    theirs = Chain().received().then(T.FORWARDED).then(T.ASSIGNED, agency=PERKIM)
    await held(clocks, ours, theirs)
    at = BEGAN_AT + 30 * DAY
    found, _ = await clocks.due([Clock.FOLLOW_UP], before=at, agency=PERKIM.code)
    assert [document["_id"] for document in found] == [theirs.complaint_id]
    assert len((await clocks.due([Clock.FOLLOW_UP], before=at, district="Pontianak Kota"))[0]) == 2
    assert (await clocks.due([Clock.FOLLOW_UP], before=at, district="Pontianak Barat"))[0] == []


async def test_an_alarm_is_found_until_it_is_folded_in_and_not_again(ticking: ClockStore | MemoryClocks) -> None:
    chain = Chain().received()
    await held(ticking, chain)
    at = BEGAN_AT + 4 * DAY
    (document,) = await ticking.alarming(at, 10)
    issued = desk.due(history(document), RULES, at)
    assert [event.id for event in issued] == [f"{chain.complaint_id}:1:forward:breached"]
    await ticking.projection.apply(issued)
    assert await ticking.alarming(at, 10) == []


async def test_alarms_come_longest_waiting_first_and_not_before_their_time(ticking: ClockStore | MemoryClocks) -> None:
    late, later, not_yet = (Chain(at=BEGAN_AT + hours * HOUR) for hours in (0, 1, 9))
    await held(ticking, not_yet, later, late)
    at = BEGAN_AT + 2 * HOUR
    found = await ticking.alarming(at, 10)
    assert [document["_id"] for document in found] == [late.complaint_id, later.complaint_id]
    assert [document["_id"] for document in await ticking.alarming(at, 1)] == [late.complaint_id]
    (first,) = await ticking.alarming(min(document["next_alarm_at"] for document in found), 10)
    assert first["_id"] == late.complaint_id, "at its very moment"


async def test_clocks_are_found_with_their_events(ticking: ClockStore | MemoryClocks) -> None:
    chain, other = Chain().received(), Chain()
    await held(ticking, chain, other)
    found = await ticking.find(chain.complaint_id)
    assert found is not None
    assert found["_id"] == chain.complaint_id
    assert [event["id"] for event in found["history"]] == [event.id for event in chain.events]
    assert [clock["clock"] for clock in found["clocks"]] == ["receipt", "forward"]
    assert await ticking.find("none") is None


async def test_counts_what_runs_by_step_agency_and_state(clocks: ClockStore) -> None:
    assigned = [Chain().received().through(T.FORWARDED, T.ASSIGNED) for _ in range(2)]
    theirs = Chain().received().then(T.FORWARDED).then(T.ASSIGNED, agency=PERKIM)
    await held(clocks, *assigned, theirs, Chain(at=BEGAN_AT + 8.5 * DAY).received())
    assert set(await clocks.count_running(BEGAN_AT + 9 * DAY)) == {
        (Clock.FOLLOW_UP, PUPR.code, State.WARNED, 2),
        (Clock.FOLLOW_UP, PERKIM.code, State.WARNED, 1),
        (Clock.FORWARD, None, State.RUNNING, 1),
    }
    assert (Clock.FOLLOW_UP, PUPR.code, State.OVERDUE, 2) in await clocks.count_running(BEGAN_AT + 11 * DAY)


async def test_compliance_counts_the_clocks_started_in_the_period_once_each(clocks: ClockStore) -> None:
    kept = Chain().received(at=BEGAN_AT + MINUTE).then(T.FORWARDED)
    late = Chain().received(at=BEGAN_AT + 20 * MINUTE).then(T.FORWARDED, after=4 * DAY)
    waiting = Chain(at=BEGAN_AT + DAY).received()
    before = Chain(at=BEGAN_AT - DAY)
    await held(clocks, kept, late, waiting, before)
    at = BEGAN_AT + 4.5 * DAY
    rows = await clocks.compliance(BEGAN_AT, BEGAN_AT + 5 * DAY, at)
    found = {row["_id"]["clock"]: [row[n] for n in ("in_time", "late", "running", "overdue")] for row in rows}
    assert found == {"receipt": [2, 1, 0, 0], "forward": [1, 1, 0, 1], "assign": [0, 0, 1, 1]}


async def test_no_query_scans_the_collection_or_sorts_what_an_index_has_sorted(
    clocks: ClockStore, database: Database
) -> None:
    await held(clocks, *(Chain(at=BEGAN_AT + n * MINUTE).through(T.FORWARDED, T.ASSIGNED) for n in range(30)))
    await database.create_collection("system.profile", capped=True, size=16 * 2**20)
    await database.command("profile", 2)
    at = BEGAN_AT + 20 * DAY
    await clocks.alarming(at, 5)
    for scope in (*([clock] for clock in ANSWERED_FOR), [Clock.ASSIGN, Clock.DOCUMENT], list(ANSWERED_FOR)):
        _, cursor = await clocks.due(scope, before=at, limit=2)
        await clocks.due(scope, before=at, after=BEGAN_AT, limit=2, cursor=cursor)
    await clocks.due([Clock.FOLLOW_UP], before=at, agency=PUPR.code, limit=2)
    await clocks.count_running(at)
    await clocks.compliance(BEGAN_AT, at, at)
    await clocks.count_by_status()
    await database.command("profile", 0)
    entries = await database["system.profile"].find({"ns": database["clocks"].full_name}).to_list(None)
    assert len(entries) > 30
    assert [str(e["command"]) for e in entries if "COLLSCAN" in e["planSummary"]] == []
    assert [e["planSummary"] for e in entries if e.get("hasSortStage")] == []
    counted = [e for e in entries if "$switch" in str(e["command"])]
    assert len(counted) == len(ANSWERED_FOR)
    assert [(e["planSummary"], e["docsExamined"]) for e in counted if e["docsExamined"]] == []
