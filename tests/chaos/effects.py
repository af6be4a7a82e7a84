"""P5: what an event has effect on besides documents: entries of inboxes, e-mails, and the reports of both.

Who is told what is written here a second time, from the SOP and the notify service's README.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.chaos.chains import Life, Told
from tests.chaos.evidence import IN_POISON, Evidence, Mail

CITIZEN_NOTICES = {
    "complaint.submitted": "receipt",
    "complaint.forwarded": "forwarded",
    "complaint.returned": "returned",
    "complaint.resubmitted": "resubmitted",
    "complaint.assigned": "assigned",
    "complaint.declined": "reviewed_again",
    "complaint.started": "started",
    "work.progress": "progress",
    "complaint.completed": "completed",
    "complaint.rework_requested": "rework",
    "complaint.documented": "reply",
    "complaint.answered": "rating_invited",
    "complaint.reopened": "reopened",
    "complaint.closed": "closed",
}
NOT_MAILED = {"completed", "rework", "rating_invited"}
RECORDED_WITHIN = timedelta(seconds=6)
"""How long the record of a sent e-mail can be on its way, a slow database included."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """When a fault lay on a process or server, for judging what came twice."""

    name: str
    targets: tuple[str, ...]
    began_at: datetime
    ended_at: datetime


def audiences(told: Told) -> list[tuple[str, str]]:
    """Who is told of an event: pairs of inbox and notice."""
    event, topic = told.event, told.topic
    found = []
    if topic in CITIZEN_NOTICES:
        found.append((f"citizen:{event['reporter_id']}", CITIZEN_NOTICES[topic]))
    if topic == "complaint.assigned":
        found.append(("coordinator", "assignment_reported"))
        found.append((f"agency:{event['agency']['code']}", "assignment_received"))
    elif topic == "complaint.rework_requested":
        found.append((f"agency:{event['agency']['code']}", "rework_received"))
    elif topic == "complaint.documented":
        found.append(("coordinator", "documentation_reported"))
    elif topic.startswith("sla."):
        who = "admin" if event["responsible"] == "system" else str(event["responsible"])
        if event["responsible"] == "agency_operator" and event["agency"]:
            who = f"agency:{event['agency']['code']}"
        notice = {"sla.warned": "deadline_warned", "sla.breached": "deadline_breached"}.get(topic, "deadline_withdrawn")
        found.append((who, notice))
        if topic != "sla.warned" and who != "coordinator":
            found.append(("coordinator", notice))
    return found


def faults_of_inbox(evidence: Evidence, lives: Mapping[str, Life]) -> Iterable[tuple[str, str]]:
    """Entries and deliveries that are missing, doubled or invented, and reports that are."""
    wanted: Counter[tuple[str, str, str]] = Counter()
    mails: Counter[tuple[str, str]] = Counter()
    told = [t for life in lives.values() for t in (*life.chain, *life.beside)]
    for one in told:
        for audience, notice in audiences(one):
            wanted[one.id, audience, notice] += 1
            if audience.startswith("citizen:"):
                mails[one.id, notice] += 1
    poisoned = {e["about"] for e in (*evidence.inbox, *evidence.deliveries) if e["complaint_id"].startswith(IN_POISON)}
    entries = Counter((e["about"], e["audience"], e["notice"]) for e in evidence.inbox if e["about"] not in poisoned)
    kept = Counter((d["about"], d["notice"]) for d in evidence.deliveries if d["about"] not in poisoned)
    for what, have, want in (("entries", entries, wanted), ("deliveries", kept, mails)):
        for key in sorted({*have, *want}, key=str):
            if have[key] != want[key]:
                yield f"{what} {key}", f"{have[key]} {what} instead of {want[key]} for {key}"
    reports = Counter((t.event["about"], t.event["notice"]) for t in told if t.topic == "notification.delivered")
    for delivery in evidence.deliveries:
        key = (delivery["about"], delivery["notice"])
        wanted_reports = int(delivery["notice"] == "receipt")
        if delivery["reported"] and delivery["about"] not in poisoned and reports[key] != wanted_reports:
            yield f"report {key}", f"{reports[key]} reports of the delivery {key} instead of {wanted_reports}"


def message_id(about: str, notice: str) -> str:
    """The Message-ID of the e-mail about an event."""
    return f"<{about.replace(':', '.')}.{notice}@lapor.localhost>"


def faults_of_mail(evidence: Evidence) -> Iterable[tuple[str, str]]:
    """E-mails that are recorded as sent and were not received, or the reverse."""
    received = {mail.message_id for mail in evidence.mails}
    known = {message_id(d["about"], d["notice"]): d for d in evidence.deliveries}
    for name, delivery in known.items():
        if delivery["state"] == "sent" and name not in received:
            yield name, f"the e-mail {name} is recorded as sent and never reached the mail server"
    codes = {f"<code.{challenge}@lapor.localhost>" for challenge in evidence.codes}
    for name in received - known.keys() - codes:
        yield name, f"the e-mail {name} was sent without a delivery"


@dataclass(frozen=True, slots=True)
class Repeat:
    """An e-mail that was taken more than once, and the fault that explains it, if one does."""

    message_id: str
    times: int
    gap_seconds: float
    cause: str | None


def repeats(mails: Sequence[Mail], disturbances: Sequence[Disturbance]) -> list[Repeat]:
    """The e-mails that came again. A repeat is excused where notify, its database or the way there was struck between
    the provider's yes and the moment at which the record of it must have been written."""
    times: dict[str, list[datetime]] = {}
    for mail in mails:
        times.setdefault(mail.message_id, []).append(mail.at)
    found = []
    for name, moments in times.items():
        if len(moments) == 1:
            continue
        moments.sort()
        causes = [_cause(at, disturbances) for at in moments[:-1]]
        cause = None if None in causes else ", ".join(sorted({c for c in causes if c}))
        found.append(Repeat(name, len(moments), (moments[-1] - moments[0]).total_seconds(), cause))
    return found


def _cause(sent_at: datetime, disturbances: Sequence[Disturbance]) -> str | None:
    for one in disturbances:
        touches = one.began_at - RECORDED_WITHIN <= sent_at <= one.ended_at
        if touches and {"notify", "mongod"} & set(one.targets):
            return one.name
    return None
