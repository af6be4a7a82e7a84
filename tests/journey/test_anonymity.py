"""Anonymous reporters on the whole system: whoever reads the topics cannot put together what one person reports, and
yet that person is answered, follows, corrects, reopens, sees the photos and rates."""

import re
from collections import defaultdict
from contextlib import AsyncExitStack
from itertools import combinations
from typing import Any

import httpx
import pytest

from deploy.demo.people import Person
from deploy.demo.pictures import street
from deploy.demo.target import Target
from shared.events import now
from shared.pseudonyms import PREFIX
from tests.journey.test_canaries import Canary, carried_through, desks, filed, letters, records, registered
from tests.support.events import TRACE
from tests.support.running import until

REPORT = {
    "title": "Jalan berlubang di Gajah Mada",
    "description": "Lubang besar di tengah jalan, berbahaya bagi pengendara motor.",
    "category": "roads",
    "place": {"longitude": 109.3425, "latitude": -0.0263},
}


async def status(person: Person, complaint: str, wanted: str) -> dict[str, Any]:
    """Wait until the reporter sees the complaint in a status."""

    async def look() -> dict[str, Any] | None:
        shown = await person.get("intake", f"/v1/complaints/{complaint}")
        return shown if shown["status"] == wanted else None

    found = await until(look, within=60)
    assert found is not None
    return found


@pytest.mark.timeout(240)
async def test_nobody_links_what_one_person_reports_anonymously(target: Target) -> None:
    canary = Canary.hatched()
    async with AsyncExitStack() as stack:
        people = await desks(target, stack)
        siti = await stack.enter_async_context(await registered(target, canary))
        siti._client.headers["traceparent"] = TRACE  # her app asks always in the same trace
        account = (await siti.get("intake", "/v1/me"))["id"]
        stranger = await stack.enter_async_context(await registered(target, Canary.hatched()))

        answered, reopened, returned = [await filed(siti, "anonim") for _ in range(3)]
        open_ = await filed(siti, "public")
        shown = [text for one in (answered, reopened) for text in await carried_through(one, people)]
        for one in (answered, reopened):
            await status(siti, one, "answered")

        # The agency's evidence reaches the reporter, and no other citizen.
        evidence = (await siti.get("intake", f"/v1/complaints/{answered}"))["evidence"]
        assert evidence
        path = f"{target.urls['opd']}/v1/work/{answered}/photos/{evidence[0]['id']}"
        for person, expected in ((siti, 200), (stranger, 404)):
            headers = {"Authorization": person._client.headers["Authorization"]}
            async with httpx.AsyncClient() as client:
                assert (await client.get(path, headers=headers)).status_code == expected

        # The inbox and the e-mail tell the steps, the answer among them.
        inbox = (await siti.get("notify", "/v1/inbox", limit=100))["items"]
        told = {row["notice"] for row in inbox if row["complaint_id"] == answered}
        assert {"receipt", "assigned", "reply", "rating_invited"} <= told

        async def mailed() -> bool:
            return sum(to == canary.email for to, _ in letters(target)) >= 8

        await until(mailed, within=60)

        await siti.post("intake", f"/v1/complaints/{answered}/rate", {"rating": 5})
        await siti.post("intake", f"/v1/complaints/{reopened}/reopen", {"reason": "Lubangnya terbuka lagi."})
        await people["assign"].can("routing", f"/v1/cases/{reopened}", "assigned")

        # Who corrects a report and leaves its visibility out stays anonymous.
        await people["forward"].can("routing", f"/v1/cases/{returned}", "forwarded")
        analysis = {"analysis": "Lengkap dan jelas; kewenangan kota."}
        await people["forward"].post("routing", f"/v1/cases/{returned}/forward", analysis)
        await people["assign"].can("routing", f"/v1/cases/{returned}", "returned")
        missing = {"reason": "incomplete", "explanation": "Mohon sebutkan nama jalan."}
        await people["assign"].post("routing", f"/v1/cases/{returned}/return", missing)
        await status(siti, returned, "returned")
        photo = await siti.photo("intake", street(3, repaired=False))
        corrected = REPORT | {"seen_at": now().isoformat(), "photos": [photo]}
        await siti.post("intake", f"/v1/complaints/{returned}/resubmit", corrected)
        again = await people["assign"].can("routing", f"/v1/cases/{returned}", "assigned")
        assert (again["visibility"], again["reporter"]) == ("anonim", None)
        own = {row["complaint_id"] for row in (await siti.get("intake", "/v1/complaints"))["items"]}
        assert own == {answered, reopened, returned, open_}

    assert not any(account.encode() in text for text in shown)
    seen: dict[str, set[str]] = defaultdict(set)
    traces: dict[str, list[str]] = defaultdict(list)
    async for topic, record in records(target):
        for complaint in (answered, reopened, returned, open_):
            if complaint.encode() in record:
                seen[complaint] |= {word for word in _ids(record) if word == account or word.startswith(PREFIX)}
                assert complaint == open_ or account.encode() not in record, topic
                traces[complaint] += re.findall(r"traceparent=00-([0-9a-f]{32})-", record.decode(errors="replace"))
    assert seen[open_] == {account}, "a search that could find nothing proves nothing"
    hidden = [seen[complaint] for complaint in (answered, reopened, returned)]
    assert [len(ids) for ids in hidden] == [1, 1, 1], "one complaint, one pseudonym, whoever issues the event"
    assert len(set.union(*hidden)) == 3, "and no two complaints have the same"
    assert all(len(traces[complaint]) >= 2 for complaint in (answered, reopened, returned)), "of her and of the desks"
    assert TRACE[3:35] not in {trace for several in traces.values() for trace in several}
    for mine, others in combinations(traces.values(), 2):
        assert not set(mine) & set(others), "no request is about two complaints"


def _ids(record: bytes) -> list[str]:
    """The texts between quotation marks."""
    return record.decode(errors="replace").split('"')
