"""What an agency's desk may do: pure decisions from the case, the command and the moment, to an event or a refusal."""

from datetime import datetime

from shared.case import Case
from shared.events import Actor, Completed, Declined, Photo, ProgressNoted, Started, new_id
from shared.sop import Refusal, Status, Transition


def start(case: Case, actor: Actor, at: datetime, unit: str) -> Started | Refusal:
    """The agency passes the complaint to a unit of its secretariat, which follows up (SOP step 4)."""
    move = case.check(Transition.STARTED, actor.role)
    if isinstance(move, Refusal):
        return move
    return Started(**case.next(actor, at), agency=case.agency, unit=unit)


def decline(case: Case, actor: Actor, at: datetime, reason: str, suggested_agency: str | None) -> Declined | Refusal:
    """The agency is not competent and says who may be; what the coordinator assigned binds (beyond the SOP)."""
    move = case.check(Transition.DECLINED, actor.role)
    if isinstance(move, Refusal):
        return move
    return Declined(**case.next(actor, at), agency=case.agency, reason=reason, suggested_agency=suggested_agency)


def complete(case: Case, actor: Actor, at: datetime, photos: tuple[Photo, ...], note: str) -> Completed | Refusal:
    """The work is finished, with photos of it and a note as evidence (SOP step 4)."""
    move = case.check(Transition.COMPLETED, actor.role)
    if isinstance(move, Refusal):
        return move
    return Completed(**case.next(actor, at), agency=case.agency, photos=photos, note=note)


def note_progress(case: Case, actor: Actor, at: datetime, note: str) -> ProgressNoted | Refusal:
    """Tell the citizen how the work goes, while it goes."""
    if case.status is not Status.IN_PROGRESS or case.agency is None:
        return Refusal.WRONG_STATUS
    return ProgressNoted(
        id=f"{case.complaint_id}:{case.seq}:{new_id()}",
        occurred_at=at,
        complaint_id=case.complaint_id,
        seq=case.seq,
        number=case.number,
        reporter_id=case.reporter_id,
        actor=actor,
        agency=case.agency,
        note=note,
    )
