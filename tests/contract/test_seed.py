"""What the bench's seeder stores is what the services would have stored: every document is folded anew from the
journals."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from deploy.local.servers import Servers
from services.intake import projection as complaints
from services.opd import projection as work
from services.routing import projection as cases
from services.sla import projection as clocks
from services.sla.desk import Rules
from shared.calendar import Deadlines
from shared.events import ChainEvent, ComplaintEvent, from_document
from shared.projection import Derive, chain_order, concerns, fold
from tests.load.seed import NotAlike, Template, seed
from tests.load.stories import PLOTS

COUNT = 300
SERVICES = ("intake", "routing", "opd", "notify", "sla")


async def test_each_projection_is_the_fold_of_the_journals(servers: Servers, namespace: str) -> None:
    await asyncio.to_thread(seed, servers.mongo_url, namespace, COUNT, say=lambda _: None)
    rules = Rules(Deadlines(), timedelta(seconds=2), timedelta(seconds=60))
    folds: dict[tuple[str, str], tuple[Derive, tuple[str, ...]]] = {
        ("intake", "complaints"): (complaints.deriving(rules.deadlines), complaints.TAKES),
        ("routing", "cases"): (cases.deriving(rules.deadlines), cases.TAKES),
        ("opd", "work"): (work.derive, work.TAKES),
        ("sla", "clocks"): (clocks.deriving(rules), clocks.TAKES),
    }
    async with AsyncMongoClient[dict[str, Any]](servers.mongo_url, tz_aware=True) as client:
        chains: dict[str, list[ComplaintEvent]] = {}
        for service in SERVICES:
            async for entry in client[f"{namespace}_{service}"]["journal"].find():
                event = from_document(entry["topic"], entry["event"])
                assert entry["_id"] == event.id
                assert entry["published"]
                if isinstance(event, ComplaintEvent):
                    chains.setdefault(event.complaint_id, []).append(event)
        assert len(chains) == COUNT
        for events in chains.values():
            seqs = sorted(event.seq for event in events if isinstance(event, ChainEvent))
            assert seqs == list(range(1, len(seqs) + 1))
        assert len({events[0].number for events in chains.values()}) == COUNT

        for (service, collection), (derive, takes) in folds.items():
            stored = {d["_id"]: d async for d in client[f"{namespace}_{service}"][collection].find()}
            for complaint, events in chains.items():
                taken = [event for event in sorted(events, key=chain_order) if concerns(event, takes)]
                wanted = fold(None, taken, derive) if taken else None
                found = stored.pop(complaint, None)
                if wanted and found:
                    wanted["revision"] = found["revision"]
                # by way of BSON both: tuples and enumerations come back as lists and texts
                assert _plain(found) == _plain(wanted), f"{collection} {complaint}"
            assert not stored

        states = Counter[str]()
        async for case in client[f"{namespace}_routing"]["cases"].find({}, {"status": 1}):
            states[case["status"]] += 1
        assert states["closed"] > 0.9 * COUNT
        assert len({p.name for p in PLOTS}) == len(PLOTS)


async def test_services_find_the_notices_of_the_seeded(servers: Servers, namespace: str) -> None:
    stored = await asyncio.to_thread(seed, servers.mongo_url, namespace, 50, say=lambda _: None)
    async with AsyncMongoClient[dict[str, Any]](servers.mongo_url, tz_aware=True) as client:
        notify = client[f"{namespace}_notify"]
        assert await notify["inbox"].count_documents({}) == stored[f"{namespace}_notify.inbox"]
        async for delivery in notify["deliveries"].find():
            assert not delivery["open"]
            assert delivery["reported"]
            assert await notify["inbox"].find_one({"about": delivery["about"]}) is not None
            assert await notify["contacts"].find_one({"_id": delivery["citizen_id"]}) is not None


def test_a_document_that_differs_in_more_is_not_copied() -> None:
    with pytest.raises(NotAlike):
        Template.of({"_id": 1, "note": "satu"}, {"_id": 1, "note": "lain"})
    with pytest.raises(NotAlike):
        Template.of({"_id": 1, "note": "satu"}, {"_id": 1, "note": "satunya"})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, str) else value
