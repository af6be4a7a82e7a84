"""The citizen's view of complaints: one document each, folded from all that happens to it."""

from collections.abc import Sequence

from shared.calendar import Deadlines
from shared.case import Case
from shared.events import (
    CHAIN_TOPICS,
    CitizenCode,
    CitizenContact,
    ComplaintEvent,
    NotificationDelivered,
    ProgressNoted,
)
from shared.projection import Derive, Document
from shared.pseudonyms import NO_PSEUDONYMS, Pseudonyms
from shared.sop import Transition, clock_of

TAKES = (*CHAIN_TOPICS, ProgressNoted.topic, NotificationDelivered.topic)
_MOVES = (Transition.SUBMITTED, Transition.RESUBMITTED, Transition.REOPENED, Transition.CLOSED)
ISSUES = (*(move.topic for move in _MOVES), CitizenContact.topic, CitizenCode.topic)
CONSUMES = tuple(topic for topic in TAKES if topic not in ISSUES)


def deriving(deadlines: Deadlines, pseudonyms: Pseudonyms = NO_PSEUDONYMS) -> Derive:
    """The derivation of a document's fields under the deadlines in force. ``reporter_id`` is the account of who has
    reported, also where the events have a pseudonym.

    ``lapses_at`` is when the citizen's own time ends and the complaint closes by itself; None while it is a desk's
    turn.
    """

    def derive(events: Sequence[ComplaintEvent]) -> Document:
        case = Case.of(events)
        rule = clock_of(case.status) if case.status else None
        return {
            "number": case.number,
            "reporter_id": pseudonyms.citizen(case.reporter_id, case.complaint_id),
            "status": case.status,
            "category": case.report.category if case.report else None,
            "title": case.report.title if case.report else None,
            "submitted_at": case.submitted_at,
            "moved_at": case.moved_at,
            "lapses_at": case.due(deadlines) if rule and rule.lapses else None,
        }

    return derive
