"""Who is told what, as one table: the notices of each event, to whom they go, and which facts their texts need.

The citizen hears every move. The coordinator and the agencies hear what ``sop.MOVES`` says that they are informed of,
and the alarms of the SLA service go to whoever is responsible, a breach to the coordinator as well. Each notice goes to
the inbox. ``email`` says whether the citizen also gets it as an e-mail unless they chose otherwise; staff have none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from shared.auth import Principal
from shared.events import (
    Answered,
    Assigned,
    ClockEvent,
    Closed,
    ComplaintEvent,
    Completed,
    Declined,
    Documented,
    Forwarded,
    ProgressNoted,
    Reopened,
    Resubmitted,
    Returned,
    ReworkRequested,
    SlaBreached,
    SlaWarned,
    SlaWithdrawn,
    Started,
    Submitted,
)
from shared.sop import Clock, Role

CITIZEN = "citizen"
"""Among an event's audiences: whoever has reported the complaint."""


class CitizenNotice(StrEnum):
    """What a citizen is told; the kinds of their preferences."""

    RECEIPT = "receipt"
    FORWARDED = "forwarded"
    RETURNED = "returned"
    RESUBMITTED = "resubmitted"
    ASSIGNED = "assigned"
    REVIEWED_AGAIN = "reviewed_again"
    STARTED = "started"
    PROGRESS = "progress"
    COMPLETED = "completed"
    REWORK = "rework"
    REPLY = "reply"
    RATING_INVITED = "rating_invited"
    REOPENED = "reopened"
    CLOSED = "closed"


Audiences = Callable[[Any], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Notice:
    """One row. ``facts`` are the event's fields that the text uses; ``until`` is a clock that the event starts, whose
    due date the text names."""

    event: type[ComplaintEvent]
    name: str
    to: Audiences
    facts: tuple[str, ...] = ()
    email: bool = False
    until: Clock | None = None


def agency_audience(code: str) -> str:
    """The inbox that the operators of one agency share."""
    return f"agency:{code}"


def citizen_audience(citizen_id: str) -> str:
    """The inbox of one citizen."""
    return f"{CITIZEN}:{citizen_id}"


def audience_of(principal: Principal) -> str | None:
    """The inbox that an account reads: a citizen its own, staff the one of their agency or role; None: it has none."""
    match principal.role:
        case Role.CITIZEN:
            return citizen_audience(principal.id)
        case Role.AGENCY_OPERATOR:
            return agency_audience(principal.agency) if principal.agency else None
        case Role.SYSTEM:
            return None
        case role:
            return role.value


def _reporter(_: ComplaintEvent) -> tuple[str, ...]:
    return (CITIZEN,)


def _coordinator(_: ComplaintEvent) -> tuple[str, ...]:
    return (Role.COORDINATOR.value,)


def _agency(event: Assigned | ReworkRequested) -> tuple[str, ...]:
    return (agency_audience(event.agency.code),)


def _responsible(event: ClockEvent) -> tuple[str, ...]:
    """The desk whose clock it is. The system's own clocks go to the administrators, who run it; a citizen's clocks do
    not alarm."""
    if event.responsible is Role.AGENCY_OPERATOR and event.agency:
        return (agency_audience(event.agency.code),)
    return (Role.ADMIN.value if event.responsible is Role.SYSTEM else event.responsible.value,)


def _responsible_and_coordinator(event: ClockEvent) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*_responsible(event), Role.COORDINATOR.value)))


_CLOCK = ("clock", "step", "agency", "responsible", "opened_at", "due_at")
_C = CitizenNotice

NOTICES: tuple[Notice, ...] = (
    Notice(Submitted, _C.RECEIPT, _reporter, email=True),
    Notice(Forwarded, _C.FORWARDED, _reporter, email=True),
    Notice(Returned, _C.RETURNED, _reporter, ("reason", "explanation"), email=True, until=Clock.CORRECT),
    Notice(Resubmitted, _C.RESUBMITTED, _reporter, email=True),
    Notice(Assigned, _C.ASSIGNED, _reporter, ("agency", "due_at"), email=True),
    Notice(Declined, _C.REVIEWED_AGAIN, _reporter, email=True),
    Notice(Started, _C.STARTED, _reporter, ("agency", "unit"), email=True),
    Notice(ProgressNoted, _C.PROGRESS, _reporter, ("agency", "note"), email=True),
    # Finished is what the agency says; until the regional operator has documented it, or asked for more, it is news for
    # those who look and not for the citizen's e-mail.
    Notice(Completed, _C.COMPLETED, _reporter, ("agency",)),
    Notice(ReworkRequested, _C.REWORK, _reporter, ("agency", "due_at")),
    Notice(Documented, _C.REPLY, _reporter, ("agency", "note", "evidence", "evidence_note"), email=True),
    # The reply has just been sent: a second e-mail would only say what the citizen may do now.
    Notice(Answered, _C.RATING_INVITED, _reporter, until=Clock.REOPEN),
    Notice(Reopened, _C.REOPENED, _reporter, email=True),
    Notice(Closed, _C.CLOSED, _reporter, ("outcome", "rating"), email=True),
    Notice(Assigned, "assignment_reported", _coordinator, ("agency", "considerations", "due_at")),
    Notice(Assigned, "assignment_received", _agency, ("agency", "considerations", "due_at", "binding")),
    Notice(ReworkRequested, "rework_received", _agency, ("reason", "due_at")),
    Notice(Documented, "documentation_reported", _coordinator, ("agency", "note")),
    Notice(SlaWarned, "deadline_warned", _responsible, _CLOCK),
    Notice(SlaBreached, "deadline_breached", _responsible_and_coordinator, _CLOCK),
    Notice(SlaWithdrawn, "deadline_withdrawn", _responsible_and_coordinator, _CLOCK),
)

BY_NAME: dict[str, Notice] = {notice.name: notice for notice in NOTICES}
TOLD_CITIZENS = frozenset(CitizenNotice)
REPORTED = frozenset({CitizenNotice.RECEIPT, CitizenNotice.REPLY})
"""The notices of which others hear what became of them: SOP steps 1 and 6 are done with these."""
EMAILED_BY_DEFAULT = frozenset(notice.name for notice in NOTICES if notice.email)
_BY_EVENT = {notice.event: tuple(n for n in NOTICES if n.event is notice.event) for notice in NOTICES}


def notices_of(event: ComplaintEvent) -> tuple[Notice, ...]:
    """The rows of an event, in the table's order."""
    return _BY_EVENT.get(type(event), ())
