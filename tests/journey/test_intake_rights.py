"""Citizens have their data deleted, or kept and not used (UU PDP 27/2022): what goes at once, what stays, and what a
crash or a race cannot spoil. That nothing is left anywhere: `tests/journey/test_erasure.py`."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy.local.servers import Servers
from services.intake.account_store import AccountStore
from services.intake.challenge_store import ChallengeStore
from services.intake.erasure import Erasure
from services.intake.store import AccessStore, ComplaintStore
from shared.calendar import Deadlines
from shared.events import CitizenContact, ContactErased, Event, now
from shared.journal import NO_TRACES
from shared.media_store import PhotoStore
from shared.publisher import Publisher
from shared.sop import Role, Transition
from tests.support import tokens
from tests.support.intake import PASSWORD, Citizen, Intake, intake_at_work
from tests.support.running import read_topics, until

OPERATOR = tokens.bearer(Role.CENTRAL_OPERATOR, "operator-1")


@pytest.fixture
async def intake(servers: Servers, namespace: str, tmp_path: Path) -> AsyncIterator[Intake]:
    """The service at work."""
    async with intake_at_work(servers, namespace, tmp_path) as at_work:
        yield at_work


async def erased(intake: Intake, citizen: Citizen) -> None:
    """The citizen deletes their data, and the first round of it is done."""
    answer = await citizen.post("/v1/me/deletion", {"current_password": PASSWORD})
    assert answer.status_code == 202, answer.text
    assert "dihapus" in answer.json()["message"]

    async def done() -> bool:
        account = await intake.database["accounts"].find_one({"_id": citizen.id})
        return account is not None and account["erase_at"] > now()

    await until(done)


async def looked_up(intake: Intake, complaint_id: str) -> Any:
    """What an operator is answered who wants to know the reporter."""
    path, why = f"/v1/complaints/{complaint_id}/reporter", {"reason": "Warga diminta dihubungi kembali."}
    return await intake.client.post(path, json=why, headers=OPERATOR)


async def test_the_person_goes_and_the_case_stays(intake: Intake) -> None:
    siti = await intake.citizen()
    attached, unattached = await siti.photo(), await siti.photo()
    filed = await siti.files(photos=[attached])
    assert (await looked_up(intake, filed["complaint_id"])).status_code == 201
    await erased(intake, siti)

    assert (await siti.get("/v1/me")).status_code == 401, "signed out"
    by_password = {"login": siti.email, "password": PASSWORD}
    assert (await intake.client.post("/v1/tokens", json=by_password)).status_code == 401
    account = await intake.database["accounts"].find_one({"_id": siti.id})
    assert account is not None
    assert {account[field] for field in ("name", "email", "phone", "password_hash")} == {"", None}
    assert await intake.database["journal"].find_one({"_id": f"contact:{siti.id}:1"}) is None
    access = await intake.database["identity_accesses"].find_one({"citizen_id": siti.id})
    assert access is not None
    assert (access["reason"], access["staff_id"]) == ("", "operator-1"), "who looked, stays"

    assert await intake.database["photos"].count_documents({"owners": siti.id}) == 0
    for photo, there in ((attached, 1), (unattached, 0)):
        for collection, field in (("photos", "_id"), ("photos.files", "_id"), ("photos.chunks", "files_id")):
            found = await intake.database[collection].count_documents({field: photo}, limit=1)
            assert found == there, f"{collection}: {photo}"

    case = await intake.client.get(f"/v1/complaints/{filed['complaint_id']}", headers=OPERATOR)
    assert case.json()["title"] == "Jalan berlubang di Gajah Mada"
    by_code = {"number": filed["number"], "tracking_code": filed["tracking_code"]}
    assert (await intake.client.post("/v1/tracking", json=by_code)).status_code == 200
    refused = await looked_up(intake, filed["complaint_id"])
    assert (refused.status_code, refused.json()["type"]) == (410, "urn:lapor:problem:reporter-erased")


async def test_the_address_is_free_for_a_new_person(intake: Intake) -> None:
    siti = await intake.citizen()
    old = await siti.files()
    await erased(intake, siti)
    await intake.forget_counts()
    again = await intake.citizen(email=siti.email)
    assert again.id != siti.id
    assert (await again.get("/v1/complaints")).json()["items"] == []
    assert (await again.get(f"/v1/complaints/{old['complaint_id']}")).status_code == 404


async def test_who_cannot_show_that_it_is_them_deletes_nothing(intake: Intake) -> None:
    siti = await intake.citizen()
    for body in ({}, {"current_password": "kata sandi yang keliru"}):
        refused = await siti.post("/v1/me/deletion", body)
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:lapor:problem:proof-needed")
    assert (await siti.get("/v1/me")).json()["email"] == siti.email


async def test_the_topic_says_that_the_contact_is_gone(intake: Intake) -> None:
    siti, budi = await intake.citizen(), await intake.citizen()
    await erased(intake, siti)

    async def told() -> list[Event]:
        events = await read_topics(intake.settings, "citizen.contact")
        return events if any(isinstance(event, ContactErased) for event in events) else []

    events = await until(told)
    of_siti = [event for event in events if event.key == siti.id]
    assert isinstance(of_siti[-1], ContactErased)
    assert [type(event) for event in events if event.key == budi.id] == [CitizenContact]


class Unheard:
    """Brokers that acknowledge nothing."""

    async def publish(self, events: Sequence[Event], traces: Mapping[str, str] = NO_TRACES, /) -> list[str]:
        return []


async def test_what_was_not_acknowledged_is_done_again(intake: Intake) -> None:
    siti = await intake.citizen()
    account = await intake.database["accounts"].find_one({"_id": siti.id})
    assert account is not None
    database = intake.database
    store = ComplaintStore(database, Deadlines())

    class NoSessions:
        async def end_all(self, account_id: str) -> None: ...

    def erasure(publisher: Any, *again: timedelta) -> Erasure:
        parts = (AccountStore(database), store, AccessStore(database), PhotoStore(database))
        sessions: Any = NoSessions()
        return Erasure(*parts, sessions, ChallengeStore(database), publisher, again)

    async def due() -> Any:
        return (await database["accounts"].find_one({"_id": siti.id}) or {})["erase_at"]

    unheard = erasure(Unheard(), timedelta(0))
    assert await AccountStore(database).erase(account, now() + timedelta(hours=1))  # so that the service leaves it
    await database["accounts"].update_one({"_id": siti.id}, {"$set": {"erased_at": now()}})
    await database["accounts"].update_one({"_id": siti.id}, {"$set": {"erase_at": now() + timedelta(hours=1)}})
    before = await due()
    await unheard._erase({**account, "erased_at": now()})
    assert await due() == before, "still to be done"
    publisher = Publisher(intake.settings.kafka_bootstrap, intake.settings.topic_prefix, "tests")
    try:
        await erasure(publisher, timedelta(hours=2))._erase({**account, "erased_at": now()})
        assert await due() > before, "once more, later"
        await erasure(publisher)._erase({**account, "erased_at": now()})
        assert await due() is None, "that was the last time"
    finally:
        await publisher.stop()


async def test_a_change_at_the_same_time_brings_nothing_back(intake: Intake) -> None:
    siti = await intake.citizen()
    accounts = AccountStore(intake.database)
    account = await accounts.find(siti.id)
    assert account is not None
    assert await accounts.erase(account, now())
    assert not await accounts.change(siti.id, account["version"], {"name": "Siti Kembali"})
    assert not await accounts.erase(account, now())


async def test_a_photo_that_somebody_else_has_too_stays_theirs(intake: Intake) -> None:
    siti, budi = await intake.citizen(), await intake.citizen()
    intake.seed[0] += 1
    seed = intake.seed[0]
    photo = await siti.photo()
    intake.seed[0] = seed
    assert await budi.photo() == photo
    await erased(intake, siti)
    assert (await intake.database["photos"].find_one({"_id": photo}) or {})["owners"] == [budi.id]
    filed = await budi.files(photos=[photo])
    shown = await budi.get(f"/v1/complaints/{filed['complaint_id']}/photos/{photo}")
    assert shown.content[:2] == b"\xff\xd8", "a JPEG"


async def test_restricted_data_are_kept_and_not_used(intake: Intake) -> None:
    siti = await intake.citizen()
    filed = await siti.files()
    put = await intake.client.put("/v1/me/restriction", headers=siti.headers)
    assert put.json()["restricted_at"]
    assert (await siti.get("/v1/me")).json()["restricted_at"] == put.json()["restricted_at"]
    again = await intake.client.put("/v1/me/restriction", headers=siti.headers)
    assert again.json() == put.json(), "since when, stays"

    refused = await siti.post("/v1/complaints", await siti.report())
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:lapor:problem:data-restricted")
    nobody = await looked_up(intake, filed["complaint_id"])
    assert (nobody.status_code, nobody.json()["type"]) == (409, "urn:lapor:problem:reporter-restricted")
    await intake.continues(filed, siti.id, Transition.FORWARDED, Transition.RETURNED)
    corrected = await siti.post(f"/v1/complaints/{filed['complaint_id']}/resubmit", await siti.report())
    assert corrected.status_code == 201, "what is under way goes on"

    lifted = await intake.client.delete("/v1/me/restriction", headers=siti.headers)
    assert lifted.json() == {"restricted_at": None}
    await siti.files()
    told = [e for e in await read_topics(intake.settings, "citizen.contact") if isinstance(e, CitizenContact)]
    assert [event.restricted for event in told if event.citizen_id == siti.id][-2:] == [True, False]
