"""The operators' and the coordinator's view of all cases: one document each, folded from all that happens to it."""

from collections.abc import Sequence

from shared.calendar import Deadlines
from shared.case import Case
from shared.events import (
    CHAIN_TOPICS,
    Assigned,
    ClockEvent,
    ComplaintEvent,
    Documented,
    ProgressNoted,
    SlaBreached,
    SlaWarned,
    SlaWithdrawn,
)
from shared.projection import Derive, Document
from shared.sop import DECLINES_BEFORE_COORDINATOR, Role, Status, Transition, clock_of
from shared.words import words_of

_ALARMS = (SlaWarned, SlaBreached, SlaWithdrawn)
TAKES = (*CHAIN_TOPICS, ProgressNoted.topic, *(alarm.topic for alarm in _ALARMS))
ISSUES = tuple(
    move.topic
    for move in (
        Transition.FORWARDED,
        Transition.RETURNED,
        Transition.ASSIGNED,
        Transition.REWORK_REQUESTED,
        Transition.DOCUMENTED,
    )
)
CONSUMES = tuple(topic for topic in TAKES if topic not in ISSUES)
_GRAVEST = (SlaBreached.topic, SlaWarned.topic)


ESCALATED = "escalated"
STAGES: dict[str, tuple[Status, Role | None]] = {
    Status.SUBMITTED.value: (Status.SUBMITTED, Role.CENTRAL_OPERATOR),
    Status.FORWARDED.value: (Status.FORWARDED, Role.REGIONAL_OPERATOR),
    ESCALATED: (Status.FORWARDED, Role.COORDINATOR),
    Status.COMPLETED.value: (Status.COMPLETED, Role.REGIONAL_OPERATOR),
    **{
        status.value: (status, None)
        for status in Status
        if status not in (Status.SUBMITTED, Status.FORWARDED, Status.COMPLETED)
    },
}
"""Where a case can be at this service: its status, and whose queue it is in, None while it is elsewhere. A forwarded
case that waits for the coordinator is *escalated*, so that each queue is a few whole stages."""


def stage_of(case: Case) -> str | None:
    """Which of `STAGES` a case is in; None before anything is known of it."""
    if case.status is Status.FORWARDED and case.declines >= DECLINES_BEFORE_COORDINATOR:
        return ESCALATED
    return case.status.value if case.status else None


def deriving(deadlines: Deadlines) -> Derive:
    """The derivation of a document's fields under the deadlines in force.

    ``informed`` says when the coordinator was told of the case, and of what (SOP steps 3 and 5). ``alarm`` is the
    gravest alarm of the clock that runs now that was not taken back. ``due_at`` is when the desk or agency that has the
    case is due; None while it is the citizen's own time, in which nobody is late. ``words`` are those of title and
    description: moves do not change them."""

    def derive(events: Sequence[ComplaintEvent]) -> Document:
        case = Case.of(events)
        report = case.report
        rule = clock_of(case.status) if case.status else None
        alarms = [e for e in standing_alarms(events) if rule and e.clock is rule.clock]
        running = {e.topic for e in alarms if e.opened_at == case.clock_opened_at}
        return {
            "number": case.number,
            "status": case.status,
            "stage": stage_of(case),
            "category": report.category if report else None,
            "district": report.place.district if report else None,
            "title": report.title if report else None,
            "words": words_of(report.title, report.description) if report else [],
            "visibility": report.visibility if report else None,
            "agency": case.agency.code if case.agency else None,
            "submitted_at": case.submitted_at,
            "moved_at": case.moved_at,
            "due_at": case.due(deadlines) if rule and not rule.lapses else None,
            "alarm": min(running, key=_GRAVEST.index, default=None),
            "informed": [
                {"at": e.occurred_at, "event": e.topic, "seq": e.seq}
                for e in events
                if isinstance(e, Assigned | Documented)
            ],
            "informed_at": max((e.occurred_at for e in events if isinstance(e, Assigned | Documented)), default=None),
        }

    return derive


def standing_alarms(events: Sequence[ComplaintEvent]) -> list[ClockEvent]:
    """Warnings and breaches that were not taken back, along the chain."""
    withdrawn = {event.alarm for event in events if isinstance(event, SlaWithdrawn)}
    return [e for e in events if isinstance(e, SlaWarned | SlaBreached) and e.id not in withdrawn]
