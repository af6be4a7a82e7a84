"""From an event to documents: the entries of the inboxes, and the e-mail that the citizen is to get.

Each document is a function of one event and of when it arrived, under a key of the event and the audience. What is
there is never written again, so neither order nor repetition of the events can matter.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.notify.notices import (
    CITIZEN,
    NOTICES,
    REPORTED,
    TOLD_CITIZENS,
    CitizenNotice,
    Notice,
    citizen_audience,
    notices_of,
)
from shared.calendar import Deadlines
from shared.events import (
    Answered,
    CitizenCode,
    CitizenContact,
    ComplaintEvent,
    ContactErased,
    Event,
    NotificationDelivered,
)
from shared.projection import Document
from shared.pseudonyms import NO_PSEUDONYMS, Pseudonyms
from shared.sop import Clock

TAKES = (*dict.fromkeys(notice.event.topic for notice in NOTICES), CitizenContact.topic, CitizenCode.topic)
ISSUES = (Answered.topic, NotificationDelivered.topic)
CONSUMES = tuple(topic for topic in TAKES if topic not in ISSUES)

EMAIL, INBOX = "email", "inbox"


@dataclass(slots=True)
class Documents:
    """What a batch of events leaves: entries, deliveries, per citizen the contact in force, and who has deleted their
    data."""

    inbox: list[Document] = field(default_factory=list)
    deliveries: list[Document] = field(default_factory=list)
    contacts: dict[str, CitizenContact] = field(default_factory=dict)
    erased: set[str] = field(default_factory=set)


def project(
    events: Iterable[Event],
    at: datetime,
    deadlines: Deadlines,
    report_after: timedelta,
    pseudonyms: Pseudonyms = NO_PSEUDONYMS,
) -> Documents:
    """The documents of ``events``, which arrived at ``at``."""
    made = Documents()
    for event in events:
        if isinstance(event, CitizenContact):
            known = made.contacts.get(event.citizen_id)
            if known is None or known.version < event.version:
                made.contacts[event.citizen_id] = event
        elif isinstance(event, ContactErased):
            made.erased.add(event.citizen_id)
        elif isinstance(event, ComplaintEvent):
            citizen = pseudonyms.citizen(event.reporter_id, event.complaint_id)
            for notice in notices_of(event):
                entries = _entries(notice, event, citizen, at, deadlines)
                made.inbox += entries
                if notice.name in TOLD_CITIZENS:
                    made.deliveries += [_delivery(entry, event, citizen, at, report_after) for entry in entries]
    return made


def _entries(notice: Notice, event: ComplaintEvent, citizen: str, at: datetime, deadlines: Deadlines) -> list[Document]:
    facts = event.model_dump(include=set(notice.facts))
    if notice.until is not None:
        facts["until"] = deadlines.due_at(Clock(notice.until), event.occurred_at)
    return [
        {
            "_id": f"{event.id}:{audience}",
            "audience": citizen_audience(citizen) if audience == CITIZEN else audience,
            "notice": notice.name,
            "about": event.id,
            "complaint_id": event.complaint_id,
            "number": event.number,
            "facts": facts,
            "at": event.occurred_at,
            "stored_at": at,
            "unread": True,
            "read_at": None,
        }
        for audience in notice.to(event)
    ]


def _delivery(entry: Document, event: ComplaintEvent, citizen: str, at: datetime, report_after: timedelta) -> Document:
    """The e-mail beside a citizen's entry. ``reporter_id`` is who the complaint's events say that it is. ``due_at`` is
    when it is to be tried next, or when its lease ends; ``reported`` whether nothing has to be told of it (any more);
    ``report_at`` when that is due: of the receipt after a while, or as soon as the e-mail is done, of the reply only
    then, since it is `answered` (SOP step 6)."""
    return {
        "_id": f"{event.id}:{EMAIL}",
        **{name: entry[name] for name in ("notice", "about", "complaint_id", "number", "facts")},
        "seq": event.seq,
        "citizen_id": citizen,
        "reporter_id": event.reporter_id,
        "occurred_at": event.occurred_at,
        "channel": EMAIL,
        "state": "pending",
        "open": True,
        "attempts": 0,
        "reason": None,
        "lease": None,
        "due_at": at,
        "created_at": at,
        "done_at": None,
        "reported": entry["notice"] not in REPORTED,
        "report_at": at + report_after if entry["notice"] == CitizenNotice.RECEIPT else None,
    }
