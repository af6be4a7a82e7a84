"""What the citizen's desk may do: pure decisions from the case, the command and the moment, to an event or a
refusal."""

from datetime import datetime
from typing import Literal

from shared.calendar import Deadlines
from shared.case import Case
from shared.events import SYSTEM, Actor, ChainEvent, Closed, Reopened, Report, Resubmitted, Submitted
from shared.sop import Refusal, Status, Transition


def submit(complaint_id: str, number: str, actor: Actor, at: datetime, report: Report) -> Submitted:
    """A new complaint (SOP step 1)."""
    return Submitted(
        id=ChainEvent.chain_id(complaint_id, 1),
        occurred_at=at,
        complaint_id=complaint_id,
        seq=1,
        number=number,
        reporter_id=actor.id,
        actor=actor,
        report=report,
    )


def resubmit(case: Case, actor: Actor, at: datetime, report: Report) -> Resubmitted | Refusal:
    """The corrected report goes back to the desk that asked (after SOP step 3 "No"). Visibility stays as it was
    chosen."""
    move = case.check(Transition.RESUBMITTED, actor.role)
    if isinstance(move, Refusal):
        return move
    if case.report is not None:
        report = report.model_copy(update={"visibility": case.report.visibility})
    return Resubmitted(**case.next(actor, at), report=report)


def reopen(case: Case, actor: Actor, at: datetime, reason: str, deadlines: Deadlines) -> Reopened | Refusal:
    """The answer does not do; possible until the reopening window ends (beyond the SOP)."""
    move = case.check(Transition.REOPENED, actor.role)
    if isinstance(move, Refusal):
        return move
    due = case.due(deadlines)
    if due and at > due:
        return Refusal.WINDOW_PASSED
    return Reopened(**case.next(actor, at), reason=reason)


def rate(case: Case, actor: Actor, at: datetime, rating: int, comment: str | None) -> Closed | Refusal:
    """The citizen has the reply, says how good it was, and the complaint is closed."""
    return _close(case, actor, at, Status.ANSWERED, "rated", rating, comment)


def withdraw(case: Case, actor: Actor, at: datetime, comment: str | None) -> Closed | Refusal:
    """The citizen accepts that the complaint was returned."""
    return _close(case, actor, at, Status.RETURNED, "withdrawn", None, comment)


def lapse(case: Case, at: datetime, deadlines: Deadlines) -> Closed | Refusal:
    """The citizen's time to correct or reopen has passed without a word: the clock closes the complaint."""
    due = case.due(deadlines)
    if case.status is None or due is None or at <= due:
        return Refusal.WINDOW_OPEN
    return _close(case, SYSTEM, at, case.status, "lapsed", None, None)


def _close(
    case: Case,
    actor: Actor,
    at: datetime,
    status: Status,
    outcome: Literal["rated", "withdrawn", "lapsed"],
    rating: int | None,
    comment: str | None,
) -> Closed | Refusal:
    move = case.check(Transition.CLOSED, actor.role)
    if isinstance(move, Refusal):
        return move
    if case.status is not status:
        return Refusal.WRONG_STATUS
    return Closed(**case.next(actor, at), outcome=outcome, rating=rating, comment=comment)
