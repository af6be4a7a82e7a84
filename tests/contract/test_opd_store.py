"""The agencies' work on real MongoDB: each query goes by an index, a page is read in order and no further."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from deploy.local.servers import Servers
from services.opd.settings import Settings
from services.opd.store import WorkStore
from shared.projection import Document
from shared.sop import Status
from shared.storage import Database
from tests.conftest import fresh_namespace
from tests.support.events import BEGAN_AT, PERKIM, PUPR, STRAIGHT, Chain, report
from tests.support.profile import profiled


@dataclass
class Stores:
    database: Database
    work: WorkStore

    async def last_plan(self) -> Document:
        """What the profiler recorded of the latest read."""
        reads = {"ns": {"$regex": r"\.work$"}, "planSummary": {"$exists": True}, "op": "query"}
        found: Document | None = await self.database["system.profile"].find_one(reads, sort=[("$natural", -1)])
        assert found is not None
        return found


@pytest.fixture(scope="module")
async def stores(servers: Servers) -> AsyncIterator[Stores]:
    """Two hundred complaints of two agencies, in all statuses from the assignment on."""
    async with fresh_namespace(servers) as namespace:
        settings = Settings(namespace=namespace, mongo_url=servers.mongo_url)
        async with profiled(settings, "opd") as database:
            work = WorkStore(database)
            for _ in range(2):
                await work.ensure_indexes()
            chains = []
            for n in range(200):
                content = report(category=f"category{n % 3}", title=f"Laporan nomor {n}")
                chain = Chain(at=BEGAN_AT + timedelta(minutes=3 * n), report=content).then(STRAIGHT[1])
                chain.then(STRAIGHT[2], agency=(PUPR, PERKIM)[n % 2]).through(*STRAIGHT[3 : 3 + n % 5])
                chains.append([event.model_copy(update={"number": f"LP-{n:04}-TEST-0"}) for event in chain.events])
            await work.projection.apply(event for events in chains for event in events)
            yield Stores(database, work)


@pytest.mark.parametrize("sort", ["due_at", "-due_at", "assigned_at", "-assigned_at"])
@pytest.mark.parametrize(
    "search",
    [
        {},
        {"status": Status.IN_PROGRESS},
        {"category": "category1"},
        {"district": "Pontianak Kota"},
        {"due_before": BEGAN_AT + timedelta(days=30)},
        {"text": "laporan berbahaya"},
        {"text": "lp-0"},
        {"status": Status.ASSIGNED, "category": "category2", "text": "nomor"},
    ],
    ids=str,
)
async def test_every_queue_pages_by_an_index(stores: Stores, search: dict[str, Any], sort: str) -> None:
    found: list[Document] = []
    cursor: str | None = None
    while True:
        rows, cursor = await stores.work.queue("DPUPR", **search, sort=sort, limit=15, cursor=cursor)
        found += rows
        if cursor is None:
            break
    text = search.get("text", "")
    name = "number" if text == "lp-0" else "assigned_at" if text else sort.removeprefix("-")
    values = [(document[name], document["_id"]) for document in found]
    assert values, "a search that finds nothing shows nothing"
    assert len(set(values)) == len(values)
    assert values == sorted(values, reverse=sort.startswith("-") and name != "number")
    assert {document["agency"] for document in found} == {"DPUPR"}
    plan = await stores.last_plan()
    assert plan["planSummary"].startswith("IXSCAN"), plan
    assert not plan.get("hasSortStage")


async def test_a_page_is_read_in_order_and_no_further(stores: Stores) -> None:
    await stores.work.queue("DPUPR", sort="due_at", limit=5)
    plan = await stores.last_plan()
    assert plan["docsExamined"] <= 6
    assert not plan.get("hasSortStage")


async def test_words_are_looked_for_in_one_agencys_work_only(stores: Stores) -> None:
    """The words' index begins with the agency, so that a large city's other agencies cost nothing."""
    found, _ = await stores.work.queue("DPRKP", text="17", sort="assigned_at")
    assert [document["title"] for document in found] == ["Laporan nomor 17"]
    assert (await stores.work.queue("DPUPR", text="17", sort="assigned_at"))[0] == []
    await stores.work.queue("DPUPR", text="laporan", sort="assigned_at")
    assert (await stores.last_plan())["keysExamined"] == 21, "a page and one, of two hundred"


async def test_counts(stores: Stores) -> None:
    known = {"assigned", "in_progress", "completed", "documented", "answered"}
    assert await stores.work.count_by_status() == {s.value: 40 if s.value in known else 0 for s in Status}
