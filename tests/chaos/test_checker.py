"""Each property is seen to be violated by a history or evidence that is bent by hand, and is silent before that."""

import copy
import dataclasses
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from services.intake.projection import deriving as in_intake
from services.notify.projection import project
from services.opd.projection import derive as in_opd
from services.routing.projection import deriving as in_routing
from services.sla.desk import Rules, due
from services.sla.projection import deriving as in_sla
from shared.agency_feed import copies
from shared.calendar import Deadlines
from shared.events import AuditAnchored, ChainEvent, ComplaintEvent, NotificationDelivered
from shared.projection import chain_order, fold
from shared.records import headers_of
from shared.sop import MOVES, Transition
from tests.chaos.checker import PROPERTIES, Matter, check
from tests.chaos.effects import Disturbance, message_id
from tests.chaos.evidence import INJECTED, Evidence, Mail, Record, consumed_topics, taken_topics
from tests.chaos.history import Attempt, History, Json
from tests.support.events import BEGAN_AT, PERKIM, Chain

DEADLINES = Deadlines.model_validate({"forward": "6s", "assign": "9s", "document": "8s", "reopen": "10s"})
RULES = Rules(DEADLINES, timedelta(seconds=2), timedelta(seconds=60))
DERIVE = {
    "intake": in_intake(DEADLINES),
    "routing": in_routing(DEADLINES),
    "opd": in_opd,
    "sla": in_sla(RULES),
}
ISSUERS = {"work.progress": "opd", "notification.delivered": "notify"}
LAST = BEGAN_AT + timedelta(hours=1)


def whole_life() -> Chain:
    """A complaint with a decline, a note, a rework and two late steps."""
    chain = Chain(report=marked_report("op-0001"))
    chain.then(Transition.FORWARDED, analysis="Lengkap. [op-0002]")
    chain.through(Transition.ASSIGNED, Transition.DECLINED).then(Transition.ASSIGNED, agency=PERKIM)
    chain.then(Transition.STARTED)
    chain.noted()
    chain.through(Transition.COMPLETED, Transition.REWORK_REQUESTED, Transition.COMPLETED, Transition.DOCUMENTED)
    return chain.through(Transition.ANSWERED, Transition.CLOSED)


def marked_report(op: str) -> Any:
    """A report whose title has a client's mark."""
    return Chain().report.model_copy(update={"title": f"Jalan berlubang [{op}]"})


def service_of(event: ComplaintEvent) -> str:
    """The service in whose journal an event belongs."""
    if isinstance(event, ChainEvent):
        return MOVES[event.transition].desk.value
    return ISSUERS.get(event.topic, "sla")


def reported(events: Sequence[ComplaintEvent]) -> list[NotificationDelivered]:
    """A report of the receipt's delivery."""
    made = project(events, LAST, DEADLINES, timedelta())
    return [
        NotificationDelivered(
            id=f"{d['about']}:delivered:{d['notice']}",
            occurred_at=d["occurred_at"] + timedelta(seconds=1),
            complaint_id=d["complaint_id"],
            seq=d["seq"],
            number=d["number"],
            reporter_id=d["citizen_id"],
            notice=d["notice"],
            about=d["about"],
            channels=("inbox", "email"),
        )
        for d in made.deliveries
        if d["notice"] == "receipt"
    ]


def attempt(op: str, move: str, service: str, answer: Json | None, status: int | None = 201, **fields: Any) -> Attempt:
    """A request and what it was told."""
    given = Attempt(op, move, "somebody", "citizen", service, "/v1", f"key-{op}", "", None, "r", 1, "", "", status)
    given.answer = answer
    for name, value in fields.items():
        setattr(given, name, value)
    return given


def sound(chain: Chain | None = None) -> Matter:
    """A history and the evidence of one complaint, with nothing wrong; without ``chain``, of one that is closed."""
    chain = chain or whole_life()
    events: list[ComplaintEvent] = [*chain.events]
    events += reported(events)
    events += due(sorted(events, key=chain_order), RULES, LAST)
    made = project(events, LAST, DEADLINES, timedelta())
    evidence = Evidence()
    for service in ("intake", "routing", "opd", "notify", "sla"):
        evidence.journals[service] = []
        evidence.dead_letters[service] = []
    for place, event in enumerate(events):
        entry = {"_id": event.id, "topic": event.topic, "event": event.model_dump(), "published": True}
        evidence.journals[service_of(event)].append(copy.deepcopy(entry))
        for topic, told in ((event.topic, event), *copies(event)):
            evidence.records.append(record(topic, place, event.key, told.model_dump_json(), headers_of(told, "x")))
    anchor = AuditAnchored(id="audit:opd:7", occurred_at=LAST, service="opd", n=7, hash="0" * 64)
    evidence.journals["opd"].append({"_id": anchor.id, "topic": anchor.topic, "event": anchor.model_dump()})
    evidence.records.append(record(anchor.topic, 0, anchor.key, anchor.model_dump_json(), headers_of(anchor, "x")))
    for service, derive in DERIVE.items():
        taken = [e for e in events if e.topic in taken_topics(service)]
        first = f"{chain.complaint_id}:1"
        taken = [e for e in taken if not isinstance(e, NotificationDelivered) or e.about == first]
        document = fold(None, taken, derive)
        evidence.documents[service] = {chain.complaint_id: document} if document else {}
    evidence.inbox, evidence.deliveries = made.inbox, made.deliveries
    for delivery in evidence.deliveries:
        delivery |= {"state": "sent", "open": False, "reported": True}
        evidence.mails.append(Mail(message_id(delivery["about"], delivery["notice"]), "x", LAST))
    evidence.codes = {"challenge-1"}
    evidence.mails.insert(1, Mail("<code.challenge-1@lapor.localhost>", "x", LAST))
    evidence.committed = {s: {(topic, 0): len(events) + 10 for topic in consumed_topics(s)} for s in evidence.journals}
    evidence.accounts = [{"_id": "citizen-1", "logins": ["a@b.example"]}]
    history = History()
    history.add(attempt("op-0001", "submitted", "intake", None, None))
    history.add(attempt("op-0001", "submitted", "intake", {"complaint_id": chain.complaint_id}))
    history.add(attempt("op-0002", "forwarded", "routing", {"event_id": f"{chain.complaint_id}:2"}))
    history.add(attempt("op-0003", "registered", "intake", {"citizen_id": "citizen-1"}))
    return Matter(history, evidence, LAST)


def record(topic: str, offset: int, key: str, value: str, headers: Sequence[tuple[str, bytes]]) -> Record:
    """A record as the reader gives it."""
    return Record(topic, 0, offset, key.encode(), value.encode(), json.loads(value), dict(headers))


def properties(matter: Matter) -> set[str]:
    """Those that fall."""
    return {violation.prop for violation in check(Matter(matter.history, matter.evidence, matter.at))}


def test_nothing_is_wrong_with_what_is_sound() -> None:
    assert [violation.what for violation in check(sound())] == []


@pytest.mark.parametrize("moves", range(2, 13))
def test_nothing_is_wrong_with_the_documents_of_what_is_under_way(moves: int) -> None:
    """Twice declined in the middle, so that each desk has it once, the coordinator's too."""
    chain = Chain().through(*UNDER_WAY[1:moves])
    assert [violation.what for violation in check(sound(chain)) if violation.prop == "P4"] == [], chain.status


UNDER_WAY = (
    Transition.SUBMITTED, Transition.FORWARDED, Transition.ASSIGNED, Transition.DECLINED, Transition.ASSIGNED,
    Transition.DECLINED, Transition.ASSIGNED, Transition.STARTED, Transition.COMPLETED, Transition.REWORK_REQUESTED,
    Transition.COMPLETED, Transition.DOCUMENTED,
)  # fmt: skip

Bend = Callable[[Matter], Any]


def chain_entry(matter: Matter, transition: str) -> Json:
    """The journal's entry of a move."""
    return next(e for _, e in matter.evidence.events() if e["topic"] == f"complaint.{transition}")


def agency_record(matter: Matter) -> Record:
    """A record of an agency's own topic."""
    return next(one for one in matter.evidence.records if one.topic.startswith("agency."))


def anchor_record(matter: Matter) -> Record:
    """The record of an audit log's anchor."""
    return next(one for one in matter.evidence.records if one.topic == AuditAnchored.topic)


def document_of(matter: Matter, service: str) -> Json:
    """The one document of a service."""
    return next(iter(matter.evidence.documents[service].values()))


def receipt_entry(matter: Matter) -> Json:
    """The journal's entry that tells of the receipt."""
    return next(e for e in matter.evidence.journals["notify"] if e["topic"] == "notification.delivered")


def report_of_another(matter: Matter) -> Json:
    """The same about the notice of having been forwarded, which nobody waits for."""
    told = receipt_entry(matter)
    about = chain_entry(matter, "forwarded")["_id"]
    event = {**told["event"], "id": f"{about}:delivered:forwarded", "about": about, "notice": "forwarded"}
    return {**told, "_id": event["id"], "event": event}


def again_as(matter: Matter, complaint_id: str) -> Json:
    """The same complaint a second time."""
    event = {**chain_entry(matter, "submitted")["event"], "id": f"{complaint_id}:1", "complaint_id": complaint_id}
    return {"_id": event["id"], "topic": "complaint.submitted", "event": event}


def letter_of(topic: bytes, offset: bytes) -> Record:
    """A dead letter."""
    return Record("dlq", 0, 0, None, None, None, {"dlq_topic": topic, "dlq_partition": b"0", "dlq_offset": offset})


def poison(matter: Matter, *, aside: bool, committed: int = 1000) -> None:
    """A poison record, with or without its dead letters."""
    matter.evidence.records.append(Record("complaint.answered", 0, 999, b"k", b"?", None, {INJECTED: b"poison-x"}))
    for service, offsets in matter.evidence.committed.items():
        if ("complaint.answered", 0) in offsets:
            offsets["complaint.answered", 0] = committed
            if aside:
                matter.evidence.dead_letters[service].append(letter_of(b"ns.complaint.answered", b"999"))


BENDS: dict[str, tuple[str, Bend]] = {
    "an acknowledged complaint is in no journal": ("P1", lambda m: m.evidence.journals["intake"].clear()),
    "an acknowledged move is another's": (
        "P1",
        lambda m: chain_entry(m, "forwarded")["event"].update(analysis="Lain. [op-9999]"),
    ),
    "an acknowledged citizen has no account": ("P1", lambda m: m.evidence.accounts.clear()),
    "a seq is missing": ("P2", lambda m: m.evidence.journals["opd"].pop(0)),
    "two events have one seq": (
        "P2",
        lambda m: m.evidence.journals["routing"].append({**chain_entry(m, "forwarded"), "_id": "another"}),
    ),
    "a role makes a move that is not its own": (
        "P2",
        lambda m: chain_entry(m, "documented")["event"]["actor"].update(role="citizen"),
    ),
    "a move is in the journal of another desk": (
        "P2",
        lambda m: m.evidence.journals["sla"].append(m.evidence.journals["opd"].pop(0)),
    ),
    "an event is not on its topic": ("P3", lambda m: m.evidence.records.pop(0)),
    "an agency is not told what is assigned to it": ("P3", lambda m: m.evidence.records.remove(agency_record(m))),
    "an agency is told who has reported": (
        "P3",
        lambda m: agency_record(m).value.update(reporter_id="citizen-1"),  # type: ignore[union-attr]
    ),
    "an anchor of an audit log is under another service's key": (
        "P3",
        lambda m: m.evidence.records.append(dataclasses.replace(anchor_record(m), key=b"sla")),
    ),
    "a code was sent that nobody asked for": ("P5", lambda m: m.evidence.codes.clear()),
    "a record has an event that nobody issued": (
        "P3",
        lambda m: m.evidence.records.append(record("complaint.closed", 99, "x", '{"id": "x:9"}', [("ce_id", b"x:9")])),
    ),
    "a record tells it otherwise": (
        "P3",
        lambda m: m.evidence.records[0].value.update(number="LP-1"),  # type: ignore[union-attr]
    ),
    "a projection is missing": ("P4", lambda m: m.evidence.documents["routing"].clear()),
    "a projection lacks an event": ("P4", lambda m: document_of(m, "intake")["history"].pop()),
    "a projection has another status": ("P4", lambda m: document_of(m, "opd").update(status="assigned")),
    "a projection has an event twice": (
        "P4",
        lambda m: document_of(m, "sla")["history"].append(document_of(m, "sla")["history"][0]),
    ),
    "an inbox lacks an entry": ("P5", lambda m: m.evidence.inbox.pop()),
    "an inbox has an entry twice": ("P5", lambda m: m.evidence.inbox.append({**m.evidence.inbox[0], "_id": "again"})),
    "a delivery was made twice": ("P5", lambda m: m.evidence.deliveries.append(dict(m.evidence.deliveries[0]))),
    "a receipt was not reported": ("P5", lambda m: m.evidence.journals["notify"].remove(receipt_entry(m))),
    "a notice was reported that is no receipt": (
        "P5",
        lambda m: m.evidence.journals["notify"].append(report_of_another(m)),
    ),
    "an e-mail came twice for no reason": ("P5", lambda m: m.evidence.mails.append(m.evidence.mails[0])),
    "an e-mail never came": ("P5", lambda m: m.evidence.mails.pop()),
    "poison is not in the dead letters": ("P6", lambda m: poison(m, aside=False)),
    "poison holds up a consumer": ("P6", lambda m: poison(m, aside=True, committed=999)),
    "a good event was put aside": (
        "P6",
        lambda m: m.evidence.dead_letters["sla"].append(letter_of(b"ns.complaint.submitted", b"0")),
    ),
    "one key made two complaints": (
        "P7",
        lambda m: m.evidence.journals["intake"].append(again_as(m, "b")),
    ),
    "one key was told two things": (
        "P7",
        lambda m: m.history.add(attempt("op-0001", "submitted", "intake", {"complaint_id": "another"})),
    ),
    "a clock was stopped by another event": (
        "P8",
        lambda m: document_of(m, "sla")["clocks"][2].update(stopped_by="x"),
    ),
    "a clock is missing": ("P8", lambda m: document_of(m, "sla")["clocks"].pop()),
    "a breach is missing": (
        "P8",
        lambda m: m.evidence.journals["sla"].remove(
            next(e for e in m.evidence.journals["sla"] if e["topic"] == "sla.breached")
        ),
    ),
    "a refusal is a 500": (
        "clean",
        lambda m: m.history.add(attempt("op-0004", "submitted", "intake", None, 500, problem="x")),
    ),
}


@pytest.mark.parametrize("name", BENDS)
def test_what_is_bent_is_seen(name: str) -> None:
    prop, bend = BENDS[name]
    matter = sound()
    bend(matter)
    assert prop in properties(matter)


def test_every_property_has_been_seen_to_fall() -> None:
    assert {prop for prop, _ in BENDS.values()} == PROPERTIES.keys() - {"rest"}


def test_poison_that_was_put_aside_is_no_violation() -> None:
    matter = sound()
    poison(matter, aside=True)
    assert properties(matter) == set()


def test_a_repeated_mail_is_excused_by_a_crash_at_that_moment_only() -> None:
    matter = sound()
    first = matter.evidence.mails[0]
    matter.evidence.mails.append(Mail(first.message_id, first.to, first.at + timedelta(seconds=15)))
    near = Disturbance("kill", ("notify",), first.at + timedelta(seconds=1), first.at + timedelta(seconds=2))
    far = Disturbance("kill", ("notify",), first.at + timedelta(seconds=9), first.at + timedelta(seconds=12))
    elsewhere = Disturbance("kill", ("opd",), near.began_at, near.ended_at)
    for disturbance, fell in ((near, set()), (far, {"P5"}), (elsewhere, {"P5"})):
        judged = Matter(matter.history, matter.evidence, LAST, [disturbance])
        assert {violation.prop for violation in check(judged)} == fell
