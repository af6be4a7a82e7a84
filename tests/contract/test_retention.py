"""What has been kept long enough is removed, and nothing else, on real MongoDB; and the log that is shortened so stays
one that verifies."""

import asyncio
import os
import secrets
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy.commands.audit import verdict_on
from deploy.local.servers import Servers
from services.intake import retention as intake
from services.intake.account_store import AccountStore, removed_login
from services.intake.store import AccessStore, ComplaintStore
from services.notify import retention as notify
from services.notify.delivery_store import DeliveryStore
from services.notify.projection import project
from services.notify.store import InboxStore
from shared import retention, topics
from shared.audit import Action
from shared.audit_store import AgeingAudit, MongoAudit, audit_log
from shared.calendar import Deadlines
from shared.events import CLOCK, IDENTIFIERS, Event, first_id, new_id, now
from shared.kept import AUDIT, DELIVERIES, IDENTITY_ACCESSES, INBOX, KEPT, PHOTOS, STAFF, RetentionSettings
from shared.keyfile import UnusableKey
from shared.media import prepare
from shared.media_store import PhotoStore
from shared.projection import Document
from shared.retention import REMOVED, Keeping, Retention
from shared.settings import ServiceSettings
from shared.sop import Role, Transition
from shared.storage import Database, connect
from tests.images import jpeg
from tests.support.audit import audit_key
from tests.support.events import Chain
from tests.support.explain import indexed

ROOT = Path(__file__).parents[2]
DAY = timedelta(days=1)
USUAL = RetentionSettings()


@pytest.fixture
def settings(servers: Servers, namespace: str) -> ServiceSettings:
    return ServiceSettings(
        namespace=namespace,
        kafka_bootstrap=servers.kafka_bootstrap,
        mongo_url=servers.mongo_url,
        audit_key_file=audit_key(),
    )


@pytest.fixture
async def databases(settings: ServiceSettings) -> AsyncIterator[dict[str, Database]]:
    """Those of intake and notify, with their indexes."""
    client = connect(settings)
    found: dict[str, Database] = {name: client[settings.database(name)] for name in ("intake", "notify")}
    for store in (InboxStore(found["notify"]), DeliveryStore(found["notify"]), AccessStore(found["intake"])):
        await store.ensure_indexes()
    await AccountStore(found["intake"]).ensure_indexes()
    await PhotoStore(found["intake"]).ensure_indexes()
    for database in found.values():
        await MongoAudit(database).ensure_indexes()
    yield found
    client.close()


@contextmanager
def at(moment: datetime) -> Iterator[None]:
    """When it is inside."""
    before, drawn = CLOCK.set(lambda: moment), IDENTIFIERS.set(lambda: id_of(moment))
    try:
        yield
    finally:
        CLOCK.reset(before)
        IDENTIFIERS.reset(drawn)


def work(database: Database, service: str) -> Retention:
    """A service's part of the table."""
    log = audit_log(database, service, audit_key())
    own = intake.keepings(database) if service == "intake" else notify.keepings(database)
    return Retention(USUAL, log, [*own, Keeping(AUDIT, AgeingAudit(database, log))])


def id_of(moment: datetime) -> str:
    """A UUIDv7 that was made then."""
    milliseconds = int(moment.timestamp() * 1000)
    return str(
        uuid.UUID(int=milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62))
    )


def filed(age: timedelta) -> Chain:
    """A complaint that was filed so long ago, and returned the next day."""
    moment = now() - age
    chain = Chain(at=moment, complaint_id=id_of(moment))
    return chain.then(Transition.FORWARDED).then(Transition.RETURNED, after=DAY)


async def arrives(database: Database, events: list[Event], **changes: Any) -> list[Document]:
    """What notify keeps of events; returns the deliveries that are new."""
    made = project(events, events[-1].occurred_at, ServiceSettings().deadlines, timedelta(0))
    await InboxStore(database).add(made.inbox)
    return await DeliveryStore(database).add([delivery | changes for delivery in made.deliveries])


DONE = {"open": False, "reported": True, "state": "sent"}


async def runs(database: Database, action: Action = Action.RETENTION_RUN) -> list[Document]:
    """What the audit log says of runs, oldest first."""
    return await database["audit"].find({"action": action}).sort("_id", 1).to_list(None)


async def test_old_entries_of_inboxes_go_and_young_ones_stay(databases: dict[str, Database]) -> None:
    database = databases["notify"]
    old, young = filed(INBOX.age(USUAL) + 3 * DAY), filed(INBOX.age(USUAL) - 3 * DAY)
    long = filed(INBOX.age(USUAL) + 3 * DAY)  # an old complaint, of which something is told today
    long.then(Transition.RESUBMITTED).then(Transition.FORWARDED).then(Transition.RETURNED, after=30 * DAY)
    await arrives(database, [*old.events, *young.events, *long.events], **DONE)
    kept = {*(await database["inbox"].distinct("_id", {"at": {"$gte": now() - INBOX.age(USUAL)}}))}
    assert any(key.startswith(long.complaint_id) for key in kept)
    before, total = REMOVED.labels("inbox")._value.get(), await database["inbox"].count_documents({})
    async with indexed(database, "inbox", "deliveries", "audit"):
        due = await work(database, "notify").due()
        removed = await work(database, "notify").run()
    assert removed["inbox"] == due["inbox"] == total - len(kept) > 0
    assert {*(await database["inbox"].distinct("_id"))} == kept
    assert REMOVED.labels("inbox")._value.get() - before == removed["inbox"]
    told = [(entry["actor"], entry["subject"], entry["facts"]["due"]) for entry in await runs(database)]
    assert ("system", "inbox", removed["inbox"]) in told
    said = len(await runs(database))
    assert set((await work(database, "notify").run()).values()) == {0}
    assert len(await runs(database)) == said, "a run that removes nothing says nothing"


async def test_old_deliveries_are_emptied_and_their_mails_not_sent_again(databases: dict[str, Database]) -> None:
    database = databases["notify"]
    old, young, stuck = (filed(age) for age in (DELIVERIES.age(USUAL) + 3 * DAY, DAY, DELIVERIES.age(USUAL) + 3 * DAY))
    for chain, state in ((old, DONE), (young, DONE), (stuck, {})):
        assert await arrives(database, [*chain.events], **state)
    others = await database["deliveries"].find({"complaint_id": {"$ne": old.complaint_id}}).to_list(None)
    count = await database["deliveries"].count_documents({"complaint_id": old.complaint_id})
    assert (await work(database, "notify").run())["deliveries"] == count
    assert await database["deliveries"].find({"complaint_id": {"$exists": True}}).to_list(None) == others
    emptied = await database["deliveries"].find({"complaint_id": {"$exists": False}}).to_list(None)
    assert len(emptied) == count
    assert all(set(d) == {"_id", "open", "reported", "state"} for d in emptied)
    assert await arrives(database, [*old.events]) == [], "its events are read again, and nobody is told again"
    assert (await work(database, "notify").run())["deliveries"] == 0


async def test_old_accesses_go_and_young_ones_stay(databases: dict[str, Database]) -> None:
    database = databases["intake"]
    store, age = AccessStore(database), IDENTITY_ACCESSES.age(USUAL)
    for name, moment in (("old", now() - age - DAY), ("young", now() - age + DAY), ("new", now())):
        with at(moment):
            await store.record("siti", "01", name, "koordinator-1", Role.COORDINATOR, "karena perlu")
    async with indexed(database, "identity_accesses", "accounts"):
        assert (await work(database, "intake").run())["identity_accesses"] == 1
    assert await database["identity_accesses"].distinct("number") == ["new", "young"]


async def test_who_has_left_is_taken_out_of_his_account(databases: dict[str, Database]) -> None:
    database = databases["intake"]
    accounts = database["accounts"]

    def account(name: str, disabled_at: datetime | None, role: str = "admin") -> Document:
        return {
            "_id": name, "logins": [f"{name}@kota.example"], "role": role, "name": name, "email": None, "phone": None,
            "password_hash": "x", "active": disabled_at is None, "disabled_at": disabled_at, "version": 1,
        }  # fmt: skip

    long_ago = now() - STAFF.age(USUAL) - DAY
    await accounts.insert_many(
        [
            account("old", long_ago),
            account("young", now() - DAY),
            account("here", None),
            account("siti", None, "citizen"),
        ]
    )
    async with indexed(database, "accounts"):
        assert (await work(database, "intake").run())["staff"] == 1
    found = {one["_id"]: one async for one in accounts.find()}
    assert (found["old"]["name"], found["old"]["password_hash"], found["old"]["role"]) == ("", None, "admin")
    assert found["old"]["logins"] == [removed_login("old@kota.example")]
    assert "kota.example" not in str(found["old"])
    assert {name: found[name]["logins"] for name in ("young", "here", "siti")} == {
        name: [f"{name}@kota.example"] for name in ("young", "here", "siti")
    }
    assert (await work(database, "intake").run())["staff"] == 0


async def test_photos_that_are_in_no_report_go_and_the_others_are_looked_for_once(
    databases: dict[str, Database],
) -> None:
    database = databases["intake"]
    store, stored_at = PhotoStore(database), now() - PHOTOS.age(USUAL) - DAY
    await ComplaintStore(database, Deadlines()).ensure_indexes()
    in_report, corrected, loose, young = (prepare(jpeg(seed=seed)) for seed in range(4))
    for photo in (in_report, corrected, loose, young):
        await store.put(photo, "siti")
    await store.put(in_report, "budi")
    await database["photos"].update_many({"_id": {"$ne": young.content_hash}}, {"$set": {"stored_at": stored_at}})
    reports = [{"report": {"photos": [{"id": photo.content_hash}]}} for photo in (corrected, in_report)]
    await database["complaints"].insert_one({"_id": "1", "reporter_id": "siti", "history": [{"topic": "x"}, *reports]})
    async with indexed(database, "photos", "complaints"):
        assert (await work(database, "intake").due())["photos"] == 1
        assert (await work(database, "intake").run())["photos"] == 1
    assert {*(await database["photos"].distinct("_id"))} == {p.content_hash for p in (in_report, corrected, young)}
    assert await database["photos.files"].count_documents({}) == 9
    assert {*(await database["photos"].distinct("_id", {"kept": True}))} == {
        photo.content_hash for photo in (in_report, corrected)
    }
    assert (await work(database, "intake").run())["photos"] == 0


async def recorded(settings: ServiceSettings, database: Database, *ages: timedelta) -> None:
    """Entries of so long ago."""
    for number, age in enumerate(ages):
        with at(now() - age):
            await audit_log(database, "notify", settings.audit_key_file).record(
                Action.AGENCY_ADDED, "cli:tests", f"OPD-{number}"
            )


async def test_a_log_that_was_shortened_verifies_and_one_that_was_shortened_further_does_not(
    settings: ServiceSettings, databases: dict[str, Database]
) -> None:
    await topics.create(settings)
    database, age = databases["notify"], AUDIT.age(USUAL)
    await recorded(settings, database, *[age + DAY] * 7, *[DAY] * 3)
    async with indexed(database, "audit"):
        assert (await work(database, "notify").run())["audit"] == 7
    verdict, _ = await verdict_on(settings, "notify")
    assert (verdict.fault, verdict.first) == ("", 8)
    (shortened,) = await runs(database, Action.LOG_SHORTENED)
    assert shortened["facts"] == {"begins": 8}
    await database["audit"].delete_one({"_id": 8})
    verdict, _ = await verdict_on(settings, "notify")
    assert "entries 1 to 8 are missing at the beginning" in verdict.fault


async def test_numbers_go_on_when_all_entries_were_old(
    settings: ServiceSettings, databases: dict[str, Database]
) -> None:
    await topics.create(settings)
    database = databases["notify"]
    await recorded(settings, database, *[AUDIT.age(USUAL) + DAY] * 3)
    await work(database, "notify").run()
    await recorded(settings, database, DAY)
    assert await database["audit"].distinct("_id") == [4, 5, 6], "the run, where the log begins, and what came next"
    verdict, _ = await verdict_on(settings, "notify")
    assert verdict.fault == ""


def test_ids_sort_by_the_time_they_were_made() -> None:
    """By which stores look for what is old, without an index of its own."""
    before, made, after = first_id(datetime.now(UTC)), new_id(), first_id(datetime.now(UTC) + timedelta(milliseconds=1))
    assert before < made < after
    assert uuid.UUID(made).version == uuid.UUID(id_of(now())).version == 7


class Killed(Exception):
    """The process is gone."""


async def test_a_run_that_was_killed_is_gone_on_with(
    settings: ServiceSettings, databases: dict[str, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    await topics.create(settings)
    database = databases["notify"]
    await recorded(settings, database, *[AUDIT.age(USUAL) + DAY] * 9, DAY)
    old = [filed(INBOX.age(USUAL) + 9 * DAY) for _ in range(5)]
    await arrives(database, [event for chain in old for event in chain.events], **DONE)
    monkeypatch.setattr(retention, "BATCH", 3)
    batches = 0

    async def die() -> None:
        nonlocal batches
        batches += 1
        if batches % 2 == 0:
            raise Killed

    totals = await work(database, "notify").due()
    assert min(totals["inbox"], totals["deliveries"], totals["audit"]) > 6
    with monkeypatch.context() as patched:
        patched.setattr(retention, "_rest", die)
        for _ in range(20):
            try:
                await work(database, "notify").run()
                break
            except Killed:
                verdict, _ = await verdict_on(settings, "notify")
                assert verdict.fault == "", "at each moment of it"
    assert batches > 6
    assert set((await work(database, "notify").due()).values()) == {0}
    assert await database["inbox"].count_documents({}) == 0
    verdict, _ = await verdict_on(settings, "notify")
    assert (verdict.fault, verdict.first) == ("", 10)


async def test_nothing_is_removed_that_could_not_be_recorded(databases: dict[str, Database]) -> None:
    database = databases["notify"]
    await arrives(database, [*filed(INBOX.age(USUAL) + 3 * DAY).events], **DONE)
    before = await database["inbox"].count_documents({})
    without = Retention(USUAL, audit_log(database, "notify", None), notify.keepings(database))
    await without.turn()
    with pytest.raises(UnusableKey):
        await without.run()
    assert await database["inbox"].count_documents({}) == before > 0


async def test_the_commands(settings: ServiceSettings, databases: dict[str, Database]) -> None:
    database = databases["notify"]
    await arrives(database, [*filed(INBOX.age(USUAL) + 3 * DAY).events], **DONE)
    entries = await database["inbox"].count_documents({})

    async def lapor(*arguments: str) -> "subprocess.CompletedProcess[str]":
        own = {
            "LAPOR_NAMESPACE": settings.namespace,
            "LAPOR_MONGO_URL": settings.mongo_url,
            "LAPOR_AUDIT_KEY_FILE": str(settings.audit_key_file),
        }
        command = [sys.executable, "-m", "deploy.cli", "retention", *arguments]
        return await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, env=os.environ | own, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    shown = (await lapor("show")).stdout
    assert all(kept.name in shown for kept in KEPT)
    assert f"LAPOR_RETENTION__{INBOX.setting.upper()}" in shown
    assert (await lapor("run")).returncode == 1
    assert f"inbox: {entries} to be removed" in (await lapor("run", "--dry-run")).stdout
    assert await database["inbox"].count_documents({}) == entries
    assert f"inbox: {entries} removed" in (await lapor("run", "--now")).stdout
    assert await database["inbox"].count_documents({}) == 0
    assert [entry["actor"][:4] for entry in await runs(database)] == ["cli:", "cli:"]
    assert "Nothing has come to its end" in (await lapor("run", "--now")).stdout
