"""The notify service alone on real Kafka, MongoDB and SMTP: what arrives as events leaves as entries and e-mails."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from deploy.local.ports import free_ports
from deploy.local.servers import Servers
from services.notify.app import build
from services.notify.notices import CitizenNotice
from services.notify.settings import Settings
from shared import topics
from shared.events import Answered, CitizenContact, Event, NotificationDelivered, SlaBreached, new_id, now
from shared.sop import Clock, Desk, Role, Status, Transition
from tests.conftest import fresh_namespace
from tests.support.audit import audit_key
from tests.support.events import STRAIGHT, Chain
from tests.support.mail import Mailbox, mail_server, plain_text
from tests.support.profile import profiled
from tests.support.running import publish, read_topics, running, until
from tests.support.tokens import bearer

TO_STEP_5 = STRAIGHT[1:-1]


@dataclass
class Notify:
    """A running notify service and its mail server."""

    settings: Settings
    client: httpx.AsyncClient
    mailbox: Mailbox

    async def tell(self, *events: Event) -> None:
        await publish(self.settings, events)

    async def inbox(self, role: Role, account: str = "x", agency: str | None = None, **query: Any) -> list[Any]:
        answer = await self.client.get("/v1/inbox", headers=bearer(role, account, agency), params=query)
        assert answer.status_code == 200, answer.text
        items: list[Any] = answer.json()["items"]
        return items

    async def deliveries(self, chain: Chain) -> dict[str, Any]:
        query = {"complaint_id": chain.complaint_id, "limit": "100"}
        answer = await self.client.get("/v1/deliveries", headers=bearer(Role.COORDINATOR), params=query)
        return {d["notice"]: d for d in answer.json()["items"]}

    async def finished(self, chain: Chain, *notices: str, state: str = "sent", within: float = 15) -> dict[str, Any]:
        """Wait until these notices' e-mails are in ``state``; the deliveries of the complaint."""

        async def look() -> dict[str, Any]:
            found = await self.deliveries(chain)
            return found if all(found.get(n, {}).get("state") == state for n in notices) else {}

        return await until(look, within=within)

    async def issued(self, chain: Chain, *topic: str) -> list[Any]:
        found = await read_topics(self.settings, *topic)
        return [e for e in found if getattr(e, "complaint_id", None) == chain.complaint_id]


def contact_of(chain: Chain, version: int = 1, **changes: Any) -> CitizenContact:
    fields: dict[str, Any] = {
        "name": "Siti Aminah",
        "email": f"siti.{chain.reporter_id[-8:]}@warga.example",
        "phone": "+62 812 0000 0000",
        "language": "id",
    }
    return CitizenContact(
        id=new_id(), occurred_at=now(), citizen_id=chain.reporter_id, version=version, **fields | changes
    )


def begun(*moves: Transition) -> Chain:
    return Chain(at=now() - timedelta(seconds=20)).through(*moves, after=timedelta(seconds=1))


def settings_for(servers: Servers, namespace: str, smtp_port: int, **changes: Any) -> Settings:
    fields: dict[str, Any] = {
        "mail_retry_seconds": 0.2,
        "mail_retry_max_seconds": 0.5,
        "smtp_timeout_seconds": 1,
        "photo_timeout_seconds": 0.5,
        "photo_retry_seconds": 0.2,
        "photo_wait_seconds": 0.5,
        "delivery_lease_seconds": 3,
        "relay_after_seconds": 0.5,
        "opd_url": f"http://127.0.0.1:{free_ports(1)[0]}",
    }
    return Settings(
        namespace=namespace,
        kafka_bootstrap=servers.kafka_bootstrap,
        mongo_url=servers.mongo_url,
        topic_partitions=2,
        audit_key_file=audit_key(),
        smtp_host="127.0.0.1",
        smtp_port=smtp_port,
        **fields | changes,
    )


@asynccontextmanager
async def notifying(settings: Settings, mailbox: Mailbox | None = None) -> AsyncIterator[Notify]:
    async with running(build(settings)) as client:
        yield Notify(settings, client, mailbox or Mailbox())


@pytest.fixture(scope="module")
async def namespace(servers: Servers) -> AsyncIterator[str]:
    async with fresh_namespace(servers) as name:
        await topics.create(settings_for(servers, name, 1))
        yield name


@pytest.fixture(scope="module")
async def notify(servers: Servers, namespace: str) -> AsyncIterator[Notify]:
    settings, mailbox = settings_for(servers, namespace, free_ports(1)[0]), Mailbox()
    async with (
        mail_server(settings.smtp_port, mailbox),
        profiled(settings, "notify"),
        notifying(settings, mailbox) as service,
    ):
        yield service


@pytest.fixture(autouse=True)
def obliging(notify: Notify) -> None:
    """The mail server takes everything, unless the test says otherwise."""
    notify.mailbox.on_recipient = lambda _: None
    notify.mailbox.on_data = lambda _: None


async def test_all_six_steps_are_told_to_the_citizen_and_step_6_is_answered(notify: Notify) -> None:
    chain = begun(*TO_STEP_5)
    await notify.tell(contact_of(chain), *chain.events)
    told = ("receipt", "forwarded", "assigned", "started", "reply")
    await notify.finished(chain, *told)

    async def invited() -> list[Any]:
        found = await notify.inbox(Role.CITIZEN, chain.reporter_id)
        return found if found[0]["notice"] == "rating_invited" else []

    inbox = await until(invited)
    assert [e["notice"] for e in reversed(inbox)] == [
        "receipt", "forwarded", "assigned", "started", "completed", "reply", "rating_invited",
    ]  # fmt: skip
    reply = inbox[1]
    assert reply["subject"] == f"Laporan {chain.number} telah selesai ditindaklanjuti"
    assert "Lubang sudah ditambal." in reply["text"]
    assert [p["held_by"] for p in reply["photos"]] == ["opd"]

    assert {str(m["To"]) for m in notify.mailbox.about(chain.complaint_id)} == {
        f"Siti Aminah <siti.{chain.reporter_id[-8:]}@warga.example>"
    }
    answered = await notify.issued(chain, Answered.topic)
    assert [(e.id, e.seq, e.channels) for e in answered] == [(f"{chain.complaint_id}:7", 7, ("inbox", "email"))]
    (receipt,) = await notify.issued(chain, NotificationDelivered.topic)
    assert receipt.id == f"{chain.complaint_id}:1:delivered:receipt"
    assert (receipt.notice, receipt.about, receipt.seq) == ("receipt", f"{chain.complaint_id}:1", 1)
    assert receipt.channels == ("inbox", "email")


async def test_a_reply_whose_photo_cannot_be_had_goes_without_and_says_where_it_is(notify: Notify) -> None:
    chain = begun(*TO_STEP_5)
    await notify.tell(contact_of(chain, language="en"), *chain.events)
    deliveries = await notify.finished(chain, "reply")
    assert deliveries["reply"]["attempts"] > 1, "it has not waited for the photo"
    (mail,) = [m for m in notify.mailbox.about(chain.complaint_id) if "finished" in m["Subject"]]
    assert "We could not attach the photo" in plain_text(mail)
    assert not [part for part in mail.walk() if part.get_content_maintype() == "image"]
    assert mail["Content-Language"] == "en"


async def test_replayed_and_disordered_events_have_no_effect_twice(notify: Notify) -> None:
    chain = begun(*TO_STEP_5)
    await notify.tell(*reversed(chain.events), *chain.events, contact_of(chain))
    await notify.finished(chain, "receipt", "reply")
    await until(lambda: _has(notify, chain, "rating_invited"))
    again = begun()
    await notify.tell(*chain.events, *chain.events, contact_of(chain), contact_of(again), again.events[0])
    await notify.finished(again, "receipt")  # so that all before it has been taken
    inbox = await notify.inbox(Role.CITIZEN, chain.reporter_id)
    assert len(inbox) == len({e["id"] for e in inbox}) == 7
    mails = [str(m["Message-ID"]) for m in notify.mailbox.about(chain.complaint_id)]
    assert len(mails) == len(set(mails)) == 5
    assert len(await notify.issued(chain, Answered.topic)) == 1
    assert len(await notify.issued(chain, NotificationDelivered.topic)) == 1


async def _has(notify: Notify, chain: Chain, notice: str) -> bool:
    return any(e["notice"] == notice for e in await notify.inbox(Role.CITIZEN, chain.reporter_id))


async def test_an_event_before_the_contact_waits_for_it_and_the_highest_version_counts(notify: Notify) -> None:
    chain = begun()
    await notify.tell(*chain.events)

    async def waits() -> bool:
        found = await notify.deliveries(chain)
        return bool(found) and found["receipt"]["reason"] == "contact-unknown"

    await until(waits)
    assert await _has(notify, chain, "receipt"), "the inbox needs no contact"
    await notify.tell(contact_of(chain, version=2, email="baru@warga.example"), contact_of(chain, version=1))
    await notify.finished(chain, "receipt")
    (mail,) = notify.mailbox.about(chain.complaint_id)
    assert str(mail["To"]) == "Siti Aminah <baru@warga.example>"


async def test_a_4xx_reply_is_tried_again(notify: Notify) -> None:
    chain, replies = begun(), ["451 4.3.0 try later", "452 4.2.2 mailbox full"]
    notify.mailbox.on_data = lambda _: replies.pop(0) if replies else None
    await notify.tell(contact_of(chain), *chain.events)
    delivery = (await notify.finished(chain, "receipt"))["receipt"]
    assert delivery["attempts"] == 3
    assert delivery["reason"] is None
    assert len(notify.mailbox.about(chain.complaint_id)) == 1


async def test_a_5xx_reply_is_final_and_the_answer_goes_by_the_inbox(notify: Notify) -> None:
    chain, tries = begun(*TO_STEP_5), []
    address = f"siti.{chain.reporter_id[-8:]}@warga.example"

    def refuse(to: str) -> str | None:
        tries.append(to)
        return f"550 5.1.1 <{to}> no such user"

    notify.mailbox.on_recipient = refuse
    await notify.tell(contact_of(chain), *chain.events)
    deliveries = await notify.finished(chain, "receipt", "reply", state="failed")
    assert deliveries["receipt"]["reason"] == "smtp-550"
    assert tries.count(address) == 5, "each e-mail was tried once"
    (answered,) = await notify.issued(chain, Answered.topic)
    assert answered.channels == ("inbox",)
    assert address not in str(await notify.deliveries(chain))


async def test_an_address_that_cannot_be_one_fails_for_good(notify: Notify) -> None:
    chain = begun()
    await notify.tell(contact_of(chain, email="siti@warga.example\r\nBcc: all@warga.example"), *chain.events)
    assert (await notify.finished(chain, "receipt", state="failed"))["receipt"]["reason"] == "address-invalid"


async def test_citizens_without_an_address_or_who_want_none_get_the_inbox(notify: Notify) -> None:
    none, off = begun(), begun(*TO_STEP_5)
    choice = {"email": {"receipt": False, "reply": False, "completed": True}}
    answer = await notify.client.put("/v1/preferences", json=choice, headers=bearer(Role.CITIZEN, off.reporter_id))
    assert answer.status_code == 200
    await notify.tell(contact_of(none, email=None), contact_of(off), *none.events, *off.events)
    assert (await notify.finished(none, "receipt", state="skipped"))["receipt"]["reason"] == "no-address"
    assert (await notify.finished(off, "reply", state="skipped"))["reply"]["reason"] == "switched-off"
    await notify.finished(off, "completed")
    (answered,) = await notify.issued(off, Answered.topic)
    assert answered.channels == ("inbox",)
    assert await _has(notify, off, "receipt")


async def test_a_note_of_progress_reaches_the_citizen_each_time(notify: Notify) -> None:
    chain = begun(*TO_STEP_5[:3]).noted("Material datang besok.").noted("Pengaspalan hari ini.")
    await notify.tell(contact_of(chain), *chain.events)
    await until(lambda: _both_notes(notify, chain))


async def _both_notes(notify: Notify, chain: Chain) -> bool:
    texts = [plain_text(m) for m in notify.mailbox.about(chain.complaint_id)]
    return all(any(note in t for t in texts) for note in ("Material datang besok.", "Pengaspalan hari ini."))


def breach(chain: Chain) -> SlaBreached:
    opened = chain.events[0].occurred_at
    return SlaBreached(
        id=f"{chain.complaint_id}:1:forward:breached",
        **{name: getattr(chain.events[0], name) for name in ("complaint_id", "seq", "number", "reporter_id")},
        occurred_at=now(),
        clock=Clock.FORWARD,
        step=2,
        status=Status.SUBMITTED,
        holder=Desk.ROUTING,
        responsible=Role.CENTRAL_OPERATOR,
        agency=None,
        opened_at=opened,
        due_at=opened + timedelta(seconds=5),
    )


async def test_staff_read_the_inbox_of_their_role_or_agency_and_no_other(notify: Notify) -> None:
    chain = begun(*TO_STEP_5)
    await notify.tell(contact_of(chain), *chain.events, breach(chain))
    await notify.finished(chain, "reply")

    async def about(role: Role, agency: str | None = None) -> list[str]:
        found = await notify.inbox(role, "staff", agency, limit=100)
        return sorted(e["notice"] for e in found if e["complaint_id"] == chain.complaint_id)

    async def breached() -> bool:
        return "deadline_breached" in await about(Role.CENTRAL_OPERATOR)

    await until(breached)
    assert await about(Role.COORDINATOR) == ["assignment_reported", "deadline_breached", "documentation_reported"]
    assert await about(Role.CENTRAL_OPERATOR) == ["deadline_breached"]
    assert await about(Role.AGENCY_OPERATOR, "DPUPR") == ["assignment_received"]
    assert await about(Role.AGENCY_OPERATOR, "DPRKP") == []
    assert await about(Role.REGIONAL_OPERATOR) == []
    assert (await notify.client.get("/v1/inbox", headers=bearer(Role.SYSTEM))).status_code == 403
    assert (await notify.client.get("/v1/inbox")).status_code == 401
    citizen = bearer(Role.CITIZEN, chain.reporter_id)
    assert (await notify.client.get("/v1/deliveries", headers=citizen)).status_code == 403
    assert (await notify.client.get("/v1/preferences", headers=bearer(Role.ADMIN))).status_code == 403


async def test_reading_counts_down_and_another_inbox_is_not_there(notify: Notify) -> None:
    chain = begun(*TO_STEP_5[:2])
    await notify.tell(contact_of(chain), *chain.events)
    await notify.finished(chain, "receipt", "forwarded", "assigned")
    mine, other = bearer(Role.CITIZEN, chain.reporter_id), bearer(Role.CITIZEN, new_id())

    async def unread() -> int:
        count: int = (await notify.client.get("/v1/inbox/unread-count", headers=mine)).json()["unread"]
        return count

    assert await unread() == 3
    entry = (await notify.inbox(Role.CITIZEN, chain.reporter_id))[0]["id"]
    assert (await notify.client.post(f"/v1/inbox/{entry}/read", headers=other)).status_code == 404
    first = await notify.client.post(f"/v1/inbox/{entry}/read", headers=mine)
    again = await notify.client.post(f"/v1/inbox/{entry}/read", headers=mine)
    assert first.status_code == again.status_code == 200
    assert first.json()["read_at"] == again.json()["read_at"] is not None
    assert await unread() == 2
    assert entry not in {e["id"] for e in await notify.inbox(Role.CITIZEN, chain.reporter_id, unread=True)}


async def test_pages_of_an_inbox_join_without_gap_or_overlap(notify: Notify) -> None:
    chain = begun(*TO_STEP_5)
    await notify.tell(contact_of(chain), *chain.events)
    await notify.finished(chain, "reply")
    await until(lambda: _has(notify, chain, "rating_invited"))
    seen, cursor, headers = [], None, bearer(Role.CITIZEN, chain.reporter_id)
    while True:
        params = {"limit": "3", **({"cursor": cursor} if cursor else {})}
        page = (await notify.client.get("/v1/inbox", headers=headers, params=params)).json()
        seen += [e["id"] for e in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 7
    bad = await notify.client.get("/v1/inbox", headers=headers, params={"cursor": "x"})
    assert (bad.status_code, bad.headers["content-type"]) == (422, "application/problem+json")


async def test_a_citizen_takes_along_all_that_is_known_of_them_and_of_nobody_else(notify: Notify) -> None:
    chain, other = begun(*TO_STEP_5), begun(Transition.FORWARDED)
    await notify.tell(contact_of(chain, language="en"), contact_of(other), *chain.events, *other.events)
    await until(lambda: _has(notify, chain, "rating_invited"))
    headers = bearer(Role.CITIZEN, chain.reporter_id)
    choice = {"email": {"progress": False}}
    assert (await notify.client.put("/v1/preferences", json=choice, headers=headers)).status_code == 200
    page = (await notify.client.get("/v1/inbox", headers=headers, params={"limit": "100"})).json()
    answer = await notify.client.get("/v1/me/export", headers=headers)
    assert answer.headers["content-type"] == "application/json"
    assert re.fullmatch(r'attachment; filename="lapor-kotak-masuk-[\d-]+\.json"', answer.headers["content-disposition"])
    taken = answer.json()
    assert taken["inbox"] == page["items"]
    assert taken["contact"]["email"] == contact_of(chain).email
    assert taken["contact"]["language"] == "en"
    assert taken["preferences"]["email"]["progress"] is False
    assert str(contact_of(other).email) not in answer.text
    nobody = (await notify.client.get("/v1/me/export", headers=bearer(Role.CITIZEN, new_id()))).json()
    assert (nobody["contact"], nobody["inbox"]) == (None, [])
    assert (await notify.client.get("/v1/me/export", headers=bearer(Role.COORDINATOR))).status_code == 403


@pytest.mark.parametrize("body", [{"email": {"gossip": True}}, {"email": {"reply": "perhaps"}}, {}, {"email": []}])
async def test_preferences_that_make_no_sense_are_refused(notify: Notify, body: Any) -> None:
    answer = await notify.client.put("/v1/preferences", json=body, headers=bearer(Role.CITIZEN, new_id()))
    assert answer.status_code == 422
    assert answer.json()["errors"]


async def test_preferences_start_from_the_table(notify: Notify) -> None:
    answer = (await notify.client.get("/v1/preferences", headers=bearer(Role.CITIZEN, new_id()))).json()
    assert set(answer["email"]) == set(CitizenNotice)
    assert answer["email"]["reply"]
    assert not answer["email"]["completed"]


async def test_nothing_that_leaves_by_topics_or_metrics_tells_who_or_where(notify: Notify) -> None:
    chain = begun(*TO_STEP_5)
    contact = contact_of(chain, name="Mariani Rahasia")
    await notify.tell(contact, *chain.events)
    await notify.finished(chain, "reply")
    await until(lambda: _has(notify, chain, "rating_invited"))
    issued: Sequence[Event] = await notify.issued(chain, Answered.topic, NotificationDelivered.topic)
    text = "".join(e.model_dump_json() for e in issued) + (await notify.client.get("/metrics")).text
    assert issued
    for told in (contact.name, contact.email, contact.phone):
        assert told
        assert told not in text
    assert 'lapor_notices_total{notice="reply"}' in text
    assert (REGISTRY.get_sample_value("lapor_deliveries_total", {"channel": "email", "outcome": "sent"}) or 0) > 0
