"""The agencies' work: one document per complaint that was ever assigned, folded from its events."""

from collections.abc import Sequence

from shared.case import Case
from shared.events import Assigned, ComplaintEvent, Completed, ProgressNoted
from shared.projection import Document
from shared.sop import Transition
from shared.words import words_of

TAKES = (
    *(t.topic for t in Transition if t not in (Transition.SUBMITTED, Transition.FORWARDED, Transition.RETURNED)),
    ProgressNoted.topic,
)
"""The events that a document holds: what happens to a complaint from its first assignment on."""

ISSUES = (Transition.DECLINED.topic, Transition.STARTED.topic, Transition.COMPLETED.topic, ProgressNoted.topic)
CONSUMES = tuple(topic for topic in TAKES if topic not in ISSUES)


def derive(events: Sequence[ComplaintEvent]) -> Document:
    """The fields that queues filter and sort by. ``agency`` is the code of the agency that has the work, if one has.
    ``photos`` are all that agencies have sent as evidence."""
    case = Case.of(events)
    assigned_at = max((e.occurred_at for e in events if isinstance(e, Assigned)), default=None)
    report = case.report
    return {
        "number": case.number,
        "status": case.status,
        "agency": case.agency.code if case.agency else None,
        "reporter_id": case.reporter_id,
        "assigned_at": assigned_at,
        "due_at": case.due_at,
        "category": report.category if report else None,
        "district": report.place.district if report else None,
        "title": report.title if report else None,
        "words": words_of(report.title, report.description) if report else [],
        "photos": sorted({photo.id for e in events if isinstance(e, Completed) for photo in e.photos}),
    }
