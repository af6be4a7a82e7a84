"""Routing's collections on real MongoDB: each query goes by an index; the directory's import."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from deploy.local.servers import Servers
from services.routing.__main__ import main
from services.routing.agencies import import_agencies, list_agencies
from services.routing.agency_store import AgencyStore
from services.routing.settings import Settings
from services.routing.store import CaseStore, Search
from shared.audit_store import audit_log
from shared.projection import Document
from shared.sop import Role, Status, Transition
from shared.storage import Database
from tests.conftest import fresh_namespace
from tests.support.audit import audit_key
from tests.support.events import BEGAN_AT, STRAIGHT, Chain, report
from tests.support.profile import profiled

T = Transition
SORTS = ("due_at", "-due_at", "submitted_at", "-submitted_at", "moved_at", "-moved_at")


@dataclass
class Stores:
    settings: Settings
    database: Database
    cases: CaseStore
    agencies: AgencyStore
    ids: list[str]

    async def plans(self) -> list[Document]:
        """What the profiler recorded of the reads so far, latest last."""
        reads = {"ns": {"$regex": r"\.cases$"}, "planSummary": {"$exists": True}, "op": "query"}
        return [entry async for entry in self.database["system.profile"].find(reads).sort("ts", 1)]


@pytest.fixture(scope="module")
async def stores(servers: Servers) -> AsyncIterator[Stores]:
    """Two hundred cases in all statuses, three minutes apart."""
    async with fresh_namespace(servers) as namespace:
        settings = Settings(namespace=namespace, mongo_url=servers.mongo_url, audit_key_file=audit_key())
        async with profiled(settings, "routing") as database:
            cases, agencies = CaseStore(database, settings.deadlines), AgencyStore(database)
            for _ in range(2):
                await cases.ensure_indexes()
                await agencies.ensure_indexes()
            chains = [
                Chain(
                    at=BEGAN_AT + timedelta(minutes=3 * n),
                    report=report(category=f"category{n % 7}", title=f"Laporan nomor {n}"),
                ).through(*STRAIGHT[1 : 1 + n % 7])
                for n in range(200)
            ]
            await cases.projection.apply(
                event.model_copy(update={"number": f"LP-{n:04}-TEST-0"})
                for n, chain in enumerate(chains)
                for event in chain.events
            )
            yield Stores(settings, database, cases, agencies, [chain.complaint_id for chain in chains])


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize(
    "search",
    [
        Search(),
        Search(desk=Role.CENTRAL_OPERATOR),
        Search(status=Status.ASSIGNED),
        Search(category="category3"),
        Search(district="Pontianak Kota"),
        Search(agency="DPUPR"),
        Search(submitted_before=BEGAN_AT + timedelta(hours=1)),
        Search(due_before=BEGAN_AT + timedelta(days=4)),
        Search(text="laporan nomor"),
        Search(text="lp-0"),
        Search(desk=Role.REGIONAL_OPERATOR, status=Status.COMPLETED, category="category4", text="laporan"),
    ],
    ids=str,
)
async def test_every_queue_pages_by_an_index(stores: Stores, search: Search, sort: str) -> None:
    search = replace(search, confidential={Status.SUBMITTED})
    found: list[Document] = []
    cursor: str | None = None
    while True:
        rows, cursor = await stores.cases.queue(search, sort, 30, cursor)
        found += rows
        if cursor is None:
            break
    whole, _ = await stores.cases.queue(replace(search, confidential=None), sort, 1000, None)
    assert [document["_id"] for document in found] == [document["_id"] for document in whole]
    name = _sorted_by(search, sort)
    values = [(document[name], document["_id"]) for document in found]
    assert values == sorted(values, reverse=sort.startswith("-") and name != "number")
    assert values, "a search that finds nothing shows nothing"
    last = (await stores.plans())[-1]
    assert last["planSummary"].startswith("IXSCAN"), last["planSummary"]
    assert not last.get("hasSortStage")


def _sorted_by(search: Search, sort: str) -> str:
    """Queues by what is asked for; what words find by submission, and what a number finds by number."""
    if search.text is None:
        return sort.removeprefix("-")
    return "number" if search.text.startswith("lp-") else "submitted_at"


async def test_confidential_cases_are_shown_in_some_statuses_only(stores: Stores) -> None:
    """In every order, by words and by number; and where all that is asked for may be shown, no case is looked at."""
    chains = [
        Chain(report=report(title="Sangat pribadi", visibility="rahasia")).through(*STRAIGHT[1:n]) for n in (1, 2)
    ]
    submitted, forwarded = (chain.complaint_id for chain in chains)
    await stores.cases.projection.apply(event for chain in chains for event in chain.events)
    try:
        for search in (Search(), Search(text="pribadi"), Search(text="lp-"), Search(category="jalan")):
            for sort in SORTS:
                everybody, _ = await stores.cases.queue(search, sort, 300, None)
                central, _ = await stores.cases.queue(replace(search, confidential={Status.SUBMITTED}), sort, 300, None)
                ids = [[document["_id"] for document in found] for found in (everybody, central)]
                assert {submitted, forwarded} <= set(ids[0]) or search.text == "lp-"
                assert ids[1] == [i for i in ids[0] if i != forwarded]
    finally:
        await stores.database["cases"].delete_many({"_id": {"$in": [submitted, forwarded]}})


async def test_a_case_that_was_declined_twice_is_in_the_coordinators_queue_and_still_forwarded(stores: Stores) -> None:
    chain = Chain().then(T.FORWARDED)
    for _ in range(2):
        chain.then(T.ASSIGNED).then(T.DECLINED)
    await stores.cases.projection.apply(chain.events)
    try:
        found = {
            desk: {d["_id"] for d in (await stores.cases.queue(Search(desk=desk), "due_at", 300, None))[0]}
            for desk in (Role.COORDINATOR, Role.REGIONAL_OPERATOR, Role.CENTRAL_OPERATOR)
        }
        assert [chain.complaint_id in ids for ids in found.values()] == [True, False, False]
        forwarded, _ = await stores.cases.queue(Search(status=Status.FORWARDED), "moved_at", 300, None)
        assert chain.complaint_id in {document["_id"] for document in forwarded}
        assert (await stores.cases.count_by_status())["forwarded"] == len(forwarded)
        assert (await stores.cases.overdue_by_status(BEGAN_AT + timedelta(days=365)))["forwarded"] == len(forwarded)
        none, _ = await stores.cases.queue(Search(desk=Role.COORDINATOR, status=Status.COMPLETED), "due_at", 9, None)
        assert none == []
    finally:
        await stores.database["cases"].delete_one({"_id": chain.complaint_id})


async def test_what_a_desk_works_off_is_read_in_order_and_no_more_than_the_page(stores: Stores) -> None:
    await stores.cases.queue(Search(desk=Role.CENTRAL_OPERATOR), "due_at", 5, None)
    last = (await stores.plans())[-1]
    assert last["docsExamined"] <= 6
    assert not last.get("hasSortStage")


async def test_counts(stores: Stores) -> None:
    by_status = await stores.cases.count_by_status()
    assert sum(by_status.values()) == 200
    assert by_status[Status.CLOSED] == 0
    assert await stores.cases.open_by_agency() == {"DPUPR": 200 - by_status["submitted"] - by_status["forwarded"]}
    late = await stores.cases.overdue_by_status(BEGAN_AT + timedelta(days=365))
    assert late[Status.ANSWERED] == 0
    assert late[Status.ASSIGNED] == by_status["assigned"]
    assert await stores.cases.oldest_open() == BEGAN_AT


async def test_words_are_looked_for_in_every_language_alike(stores: Stores) -> None:
    """No stemming and no stop words; a word's keys do not change when the case moves."""
    found, _ = await stores.cases.queue(Search(text="Nómor 17"), "submitted_at", 10, None)
    assert [document["_id"] for document in found] == [stores.ids[17]]
    assert (await stores.cases.queue(Search(text="nomo"), "submitted_at", 10, None))[0] == [], "whole words"
    keys = (await stores.database["cases"].index_information())["words"]["key"]
    assert [name for name, _ in keys] == ["words", "submitted_at", "_id"]


async def test_an_import_says_what_it_did_and_does_nothing_twice(stores: Stores, tmp_path: Path) -> None:
    first = await import_agencies(stores.settings)
    assert (first.added, first.changed) == (len(await list_agencies(stores.settings)), 0)
    again = await import_agencies(stores.settings)
    assert (again.added, again.changed, again.unchanged) == (0, 0, first.added)
    file = tmp_path / "agencies.csv"
    file.write_text("code,name,categories,units\nDLH,Dinas Lingkungan dan Hutan,waste,\nBARU,Dinas Baru,other,\n")
    log = audit_log(stores.database, "routing", audit_key())
    await stores.agencies.put({"_id": "DLH", "active": False}, log, "cli:tests")
    changed = await import_agencies(stores.settings, file)
    assert (changed.added, changed.changed, changed.unchanged) == (1, 1, 0)
    dlh = await stores.agencies.find("DLH")
    assert dlh is not None
    assert (dlh["name"], dlh["active"]) == ("Dinas Lingkungan dan Hutan", False)
    assert "DLH" not in {agency["_id"] for agency in await stores.agencies.for_category("waste")}
    assert "DLH" not in {agency["_id"] for agency in await stores.agencies.all()}


def test_the_command(
    servers: Servers,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    stores: Stores,
) -> None:
    monkeypatch.setenv("LAPOR_MONGO_URL", servers.mongo_url)
    monkeypatch.setenv("LAPOR_NAMESPACE", stores.settings.namespace)
    monkeypatch.setenv("LAPOR_AUDIT_KEY_FILE", str(stores.settings.audit_key_file))
    file = tmp_path / "agencies.csv"
    file.write_text("code,name,categories,units\nPASAR,Dinas Pasar,markets,\nrusak,Dinas,markets,\n")
    failure = main(["agencies", "import", str(file)])
    assert failure is not None
    assert "line 3, column code" in failure
    file.write_text("code,name,categories,units\nPASAR,Dinas Pasar,markets,\n")
    assert main(["agencies", "import", str(file)]) is None
    assert main(["agencies", "list"]) is None
    said = capsys.readouterr().out
    assert said.startswith("1 added, 0 changed, 0 unchanged.\n")
    assert "PASAR         Dinas Pasar: markets\n" in said
