"""What the operators' desks may do: pure decisions from the case, the command and the moment, to an event or a
refusal."""

from datetime import datetime
from typing import Literal

from shared.calendar import Deadlines
from shared.case import Case
from shared.events import Actor, Agency, Assigned, Documented, Forwarded, Returned, ReworkRequested
from shared.sop import Clock, Refusal, Role, Transition


def forward(case: Case, actor: Actor, at: datetime, analysis: str) -> Forwarded | Refusal:
    """The central operator has analysed the report and passes it on (SOP step 2)."""
    move = case.check(Transition.FORWARDED, actor.role)
    if isinstance(move, Refusal):
        return move
    return Forwarded(**case.next(actor, at), analysis=analysis)


def return_(
    case: Case, actor: Actor, at: datetime, reason: Literal["incomplete", "outside_authority"], explanation: str
) -> Returned | Refusal:
    """The report is incomplete, or not within the city's authority (SOP step 3 "No")."""
    move = case.check(Transition.RETURNED, actor.role)
    if isinstance(move, Refusal):
        return move
    return Returned(**case.next(actor, at), reason=reason, explanation=explanation)


def assign(
    case: Case,
    actor: Actor,
    at: datetime,
    agency: Agency | None,
    considerations: str,
    deadlines: Deadlines,
) -> Assigned | Refusal:
    """An agency gets the case, with the considerations of the PPM team (SOP step 3 "Yes").

    The coordinator assigns after two declines, and what he assigns binds; only he can choose an agency that has
    declined (beyond the SOP). ``agency`` is None where the directory has no active one of the code asked for.
    """
    move = case.check(Transition.ASSIGNED, actor.role)
    if isinstance(move, Refusal):
        return move
    if agency is None:
        return Refusal.NO_SUCH_AGENCY
    binding = actor.role is Role.COORDINATOR
    if agency.code in case.declined_by and not binding:
        return Refusal.AGENCY_DECLINED
    fields = case.next(actor, at)
    return Assigned(
        **fields,
        agency=agency,
        considerations=considerations,
        report=case.report,
        binding=binding,
        due_at=deadlines.due_at(Clock.FOLLOW_UP, fields["occurred_at"]),
    )


def request_rework(
    case: Case, actor: Actor, at: datetime, reason: str, deadlines: Deadlines
) -> ReworkRequested | Refusal:
    """The evidence does not do: back to the agency, with the follow-up's time anew (beyond the SOP)."""
    move = case.check(Transition.REWORK_REQUESTED, actor.role)
    if isinstance(move, Refusal):
        return move
    fields = case.next(actor, at)
    due_at = deadlines.due_at(Clock.FOLLOW_UP, fields["occurred_at"])
    return ReworkRequested(**fields, agency=case.agency, reason=reason, due_at=due_at)


def document(case: Case, actor: Actor, at: datetime, note: str) -> Documented | Refusal:
    """The evidence was checked and is recorded; the reply to the citizen follows (SOP step 5)."""
    move = case.check(Transition.DOCUMENTED, actor.role)
    if isinstance(move, Refusal):
        return move
    return Documented(
        **case.next(actor, at),
        agency=case.agency,
        note=note,
        evidence=case.evidence,
        evidence_note=case.evidence_note,
    )
