"""Decides P1 to P8 from the history and the evidence. Each property yields its violations, in words.

A violation names its subject, so that the same one is not counted again in a later look.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from shared.sop import Status, Transition
from tests.chaos import effects
from tests.chaos.chains import Life, Standing, faults_of_chain, lives, same, standing
from tests.chaos.clockwork import faults_of_clocks
from tests.chaos.effects import Disturbance
from tests.chaos.evidence import IN_POISON, Evidence, Record, consumed_topics
from tests.chaos.history import History, Json

PROPERTIES: dict[str, str] = {
    "P1": "every complaint and move that was acknowledged exists",
    "P2": "a complaint's events are a legal path of the SOP's table, seq 1 to n",
    "P3": "each event is on its topic at least once, and none was invented",
    "P4": "every projection equals a fold of the journals",
    "P5": "each effect exactly once; an e-mail repeated only around a crash",
    "P6": "a poison message is in the dead letters and delays no other complaint",
    "P7": "one complaint, move and account per Idempotency-Key",
    "P8": "every clock is what its complaint's events give",
    "clean": "a refusal for want of a server is a 503 problem document",
    "rest": "after the faults everything comes to rest: all published, consumed, delivered",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that must not be. ``subject`` and ``prop`` tell it from others."""

    prop: str
    subject: str
    what: str


@dataclass(slots=True)
class Matter:
    """What is judged, and as of when. ``grace`` is for alarms; ``poison`` are the tags of injected records that no
    consumer can use."""

    history: History
    evidence: Evidence
    at: datetime
    disturbances: Sequence[Disturbance] = ()
    grace: timedelta = timedelta(seconds=30)
    lives: dict[str, Life] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lives = {k: v for k, v in lives(self.evidence).items() if not k.startswith(IN_POISON)}


Check = Callable[[Matter], Iterable[Violation]]

MARKED: dict[str, tuple[str, ...]] = {
    "submitted": ("report", "title"),
    "resubmitted": ("report", "title"),
    "forwarded": ("analysis",),
    "returned": ("explanation",),
    "assigned": ("considerations",),
    "declined": ("reason",),
    "started": ("unit",),
    "completed": ("note",),
    "rework_requested": ("reason",),
    "documented": ("note",),
    "reopened": ("reason",),
    "closed": ("comment",),
    "progress": ("note",),
}
"""Where the text of an event is into which the client wrote what it wanted done."""


def mark_of(topic: str, event: Json) -> str | None:
    """The client's mark in an event, if a client made it."""
    value: Any = event
    for name in MARKED.get(topic.partition(".")[2], ()):
        value = (value or {}).get(name) if isinstance(value, dict) else None
    if not isinstance(value, str) or "[op-" not in value:
        return None
    return value[value.rindex("[op-") + 1 :].partition("]")[0]


def check(matter: Matter) -> list[Violation]:
    """All violations."""
    return [violation for one in CHECKS for violation in one(matter)]


def acknowledged_exists(matter: Matter) -> Iterable[Violation]:
    """P1. What was acknowledged is in the journal under the id told, and it is what this client asked for."""
    entries = {str(entry["_id"]): (service, entry) for service, entry in matter.evidence.events()}
    accounts = {account["_id"] for account in matter.evidence.accounts}
    for op, attempts in matter.history.ops():
        for told in (a for a in attempts if a.acknowledged):
            answer = told.answer or {}
            if told.move == "asked":  # for a code; the account comes with "registered"
                continue
            if told.move == "registered":
                if answer.get("citizen_id") not in accounts:
                    yield Violation("P1", op, f"citizen {answer.get('citizen_id')} was told that they are registered")
                continue
            event_id = str(answer.get("event_id") or answer.get("id") or f"{answer.get('complaint_id')}:1")
            if event_id not in entries:
                yield Violation("P1", op, f"{told.move} was acknowledged as {event_id}, which is in no journal")
                continue
            service, entry = entries[event_id]
            if service != told.service or mark_of(entry["topic"], entry["event"]) != op:
                yield Violation("P1", op, f"{told.move} was acknowledged as {event_id}, and another's event is there")


def legal_paths(matter: Matter) -> Iterable[Violation]:
    """P2."""
    for life in matter.lives.values():
        for what in faults_of_chain(life):
            yield Violation("P2", f"{life.complaint_id} {what}", f"complaint {life.complaint_id}: {what}")


_KEYS = ("complaint_id", "citizen_id", "service")
"""What an event is keyed by: the first of these that it has."""


def on_topics(matter: Matter) -> Iterable[Violation]:
    """P3. Of each event at least one record, the same to the letter, under its key; and no record without an event. An
    assignment is on its agency's own topic as well, without the ids of people."""
    events: dict[tuple[str, str], Json] = {}
    for _, entry in matter.evidence.events():
        event = entry["event"]
        events[entry["topic"], str(event["id"])] = event
        if entry["topic"] == "complaint.assigned":
            nobody = {"reporter_id": "withheld", "actor": {**event["actor"], "id": "withheld"}}
            events[f"agency.{event['agency']['code']}.assigned", str(event["id"])] = {**event, **nobody}
    unseen = set(events)
    for record in matter.evidence.records:
        if record.injected:
            continue
        event_id = record.headers.get("ce_id", b"").decode(errors="replace")
        key = (record.topic, event_id)
        event = events.get(key)
        where = f"{record.topic} {record.partition}/{record.offset}"
        if event is None:
            yield Violation("P3", where, f"{where} has event {event_id}, which no journal has")
        elif record.value is None or not same(event, record.value):
            yield Violation("P3", where, f"{where} tells event {event_id} otherwise than its journal")
        elif record.key != str(next(event[of] for of in _KEYS if event.get(of))).encode():
            yield Violation("P3", where, f"{where} has the key {record.key!r}")
        unseen.discard(key)
    for topic, event_id in sorted(unseen):
        yield Violation("P3", event_id, f"{event_id} is in a journal and not on the topic {topic}")


def projections(matter: Matter) -> Iterable[Violation]:
    """P4."""
    for service, documents in matter.evidence.documents.items():
        wanted = {key: life.taken_by(service) for key, life in matter.lives.items()}
        wanted = {key: life for key, life in wanted.items() if life.ids}
        for key in documents.keys() | wanted.keys():
            if key.startswith(IN_POISON):
                continue
            for what in _faults_of_document(service, documents.get(key), wanted.get(key)):
                yield Violation("P4", f"{service} {key} {what[:40]}", f"{service}'s document of {key}: {what}")


def _faults_of_document(service: str, document: Json | None, life: Life | None) -> Iterable[str]:
    if life is None or document is None:
        yield "it should not be there" if document else "it is missing"
        return
    kept = [entry["id"] for entry in document["history"]]
    if sorted(kept) != sorted(life.ids):
        missing, extra = life.ids - set(kept), set(kept) - life.ids
        yield f"its events differ: {sorted(missing)} missing, {sorted(extra)} too many, {len(kept)} in all"
        return
    now = standing(life.chain)
    for name, value in FIELDS[service](now, life).items():
        if not same(document.get(name), value):
            yield f"{name} is {document.get(name)!r}, by the journals {value!r}"


def _of_report(now: Standing, *names: str) -> Json:
    return {name: now.report[name] if now.report else None for name in names}


def _in_intake(now: Standing, _: Life) -> Json:
    return {
        "status": now.status, "number": now.number, "reporter_id": now.reporter_id,
        "submitted_at": now.submitted_at, "moved_at": now.moved_at, **_of_report(now, "title", "category"),
    }  # fmt: skip


def _in_routing(now: Standing, life: Life) -> Json:
    stage = "escalated" if now.status is Status.FORWARDED and now.declines >= 2 else now.status
    informs = [t for t in life.chain if t.transition in (Transition.ASSIGNED, Transition.DOCUMENTED)]
    return {
        "status": now.status, "number": now.number, "stage": stage,
        "agency": now.agency["code"] if now.agency else None, "due_at": now.due_at,
        "submitted_at": now.submitted_at, "moved_at": now.moved_at, "alarm": _alarm(now, life),
        "informed": [{"at": t.at, "event": t.topic, "seq": t.seq} for t in informs],
        "district": now.report["place"]["district"] if now.report else None,
        **_of_report(now, "title", "category", "visibility"),
    }  # fmt: skip


def _alarm(now: Standing, life: Life) -> str | None:
    back = {t.event["alarm"] for t in life.beside if t.topic == "sla.withdrawn"}
    running = {
        t.topic
        for t in life.beside
        if t.topic in ("sla.warned", "sla.breached")
        and t.id not in back
        and now.rule
        and t.event["clock"] == now.rule.clock.value
        and t.event["opened_at"] == now.opened_at
    }
    return next((topic for topic in ("sla.breached", "sla.warned") if topic in running), None)


def _in_opd(now: Standing, life: Life) -> Json:
    photos = {p["id"] for t in life.chain if t.transition is Transition.COMPLETED for p in t.event["photos"]}
    assigned = [t.at for t in life.chain if t.transition is Transition.ASSIGNED]
    return {
        "status": now.status, "number": now.number, "agency": now.agency["code"] if now.agency else None,
        "due_at": now.told_due_at, "assigned_at": max(assigned, default=None), "photos": sorted(photos),
        **_of_report(now, "title", "category"),
    }  # fmt: skip


def _in_sla(now: Standing, _: Life) -> Json:
    agency = now.agency["code"] if now.agency else None
    return {"status": now.status, "number": now.number, "agency": agency}


FIELDS: Mapping[str, Callable[[Standing, Life], Json]] = {
    "intake": _in_intake,
    "routing": _in_routing,
    "opd": _in_opd,
    "sla": _in_sla,
}


def once(matter: Matter) -> Iterable[Violation]:
    """P5."""
    for subject, what in effects.faults_of_inbox(matter.evidence, matter.lives):
        yield Violation("P5", subject, what)
    for repeat in effects.repeats(matter.evidence.mails, matter.disturbances):
        if repeat.cause is None:
            yield Violation(
                "P5", repeat.message_id, f"the e-mail {repeat.message_id} came {repeat.times} times, by no crash"
            )
    for subject, what in effects.faults_of_mail(matter.evidence):
        yield Violation("P5", subject, what)


def poison(matter: Matter) -> Iterable[Violation]:
    """P6. What was injected and cannot be used is in the dead letters of each group that reads the topic, or has been
    taken; and each group has gone beyond it."""
    letters = {
        (service, *_origin(letter)) for service, found in matter.evidence.dead_letters.items() for letter in found
    }
    for record in matter.evidence.records:
        if not record.injected.startswith("poison"):
            continue
        for service, offsets in matter.evidence.committed.items():
            if record.topic not in consumed_topics(service):
                continue
            where = f"{record.injected} at {record.topic} {record.partition}/{record.offset}"
            aside = (service, record.topic, record.partition, record.offset) in letters
            if not aside and not (record.injected == "poison-of-handler" and _taken(matter, service, record)):
                yield Violation("P6", f"{service} {where}", f"{where} is not in the dead letters of {service}")
            if offsets.get((record.topic, record.partition), 0) <= record.offset:
                yield Violation("P6", f"{service} {where} behind", f"{service} has not gone beyond {where}")
    for service, topic, partition, offset in sorted(letters):
        known = next(
            (r for r in matter.evidence.records if (r.topic, r.partition, r.offset) == (topic, partition, offset)), None
        )
        if known is not None and not known.injected.startswith("poison"):
            what = f"{service} has put aside {topic} {partition}/{offset}, a good event"
            yield Violation("P6", f"{service} {topic} {partition}/{offset}", what)


def _origin(letter: Record) -> tuple[str, int, int]:
    """Topic, partition and offset that a dead letter says it comes from."""
    told = {name: letter.headers.get(f"dlq_{name}", b"-1").decode() for name in ("topic", "partition", "offset")}
    return told["topic"].partition(".")[2], int(told["partition"]), int(told["offset"])


def _taken(matter: Matter, service: str, record: Record) -> bool:
    """Whether a record that is well-formed, and that some handlers cannot bear, was borne by this one."""
    event_id = record.headers.get("ce_id", b"").decode()
    documents = matter.evidence.documents.get(service, {}).values()
    if service == "notify":
        return any(entry["about"] == event_id for entry in matter.evidence.inbox)
    return any(entry["id"] == event_id for document in documents for entry in document["history"])


def one_per_key(matter: Matter) -> Iterable[Violation]:
    """P7."""
    made = Counter(
        mark for _, entry in matter.evidence.events() if (mark := mark_of(entry["topic"], entry["event"])) is not None
    )
    for op, times in made.items():
        if times > 1:
            yield Violation("P7", op, f"{op} was carried out {times} times")
    for op, attempts in matter.history.ops():
        answers = {str((a.answer or {}).get("event_id") or a.answer) for a in attempts if a.acknowledged}
        if len(answers) > 1:
            yield Violation("P7", f"{op} answers", f"{op} ({attempts[0].move}) was told {sorted(answers)}")
    logins = Counter(login for account in matter.evidence.accounts for login in account["logins"])
    for login, times in logins.items():
        if times > 1:
            yield Violation("P7", login, f"{login} has {times} accounts")


def clocks(matter: Matter) -> Iterable[Violation]:
    """P8."""
    documents = matter.evidence.documents.get("sla", {})
    for key, life in matter.lives.items():
        for what in faults_of_clocks(life, documents.get(key), matter.at, matter.grace):
            yield Violation("P8", f"{key} {what[:60]}", f"complaint {key}: {what}")


def clean_refusals(matter: Matter) -> Iterable[Violation]:
    """Whatever faults there are, a service answers 5xx only as 503 with a problem document."""
    for attempt in matter.history.attempts:
        if attempt.status is None or attempt.status < 500:
            continue
        if attempt.status != 503 or attempt.problem != "urn:lapor:problem:unavailable":
            what = f"{attempt.service} {attempt.path} answered {attempt.status} ({attempt.problem})"
            yield Violation("clean", f"{attempt.op} {attempt.attempt}", what)


CHECKS: tuple[Check, ...] = (
    acknowledged_exists,
    legal_paths,
    on_topics,
    projections,
    once,
    poison,
    one_per_key,
    clocks,
    clean_refusals,
)
