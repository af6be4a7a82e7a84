"""A case as its chain of events tells it: what all desks derive their documents and decisions from."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from shared.calendar import Deadlines
from shared.events import (
    Actor,
    Agency,
    Assigned,
    ChainEvent,
    ComplaintEvent,
    Completed,
    Declined,
    Documented,
    Forwarded,
    Photo,
    Reopened,
    Report,
    Resubmitted,
    ReworkRequested,
    Started,
    Submitted,
)
from shared.projection import Document, history
from shared.sop import MOVES, Move, Refusal, Role, Status, Transition, allowed, check, clock_of


@dataclass(frozen=True, slots=True)
class Case:
    """The state after the event with the highest ``seq``. ``status`` is None before the first.

    ``report`` is None while a desk has not seen it (events can arrive out of order). ``clock_opened_at`` is when the
    time that is running now began; ``due_at`` is known where an event carried it (the agency's follow-up). ``declines``
    counts declines since the complaint was last forwarded, resubmitted or reopened, and ``declined_by`` are the
    codes of the agencies that made them.
    """

    complaint_id: str = ""
    number: str = ""
    reporter_id: str = ""
    seq: int = 0
    status: Status | None = None
    moved_at: datetime | None = None
    clock_opened_at: datetime | None = None
    submitted_at: datetime | None = None
    report: Report | None = None
    agency: Agency | None = None
    unit: str | None = None
    binding: bool = False
    declines: int = 0
    declined_by: tuple[str, ...] = ()
    due_at: datetime | None = None
    evidence: tuple[Photo, ...] = ()
    evidence_note: str = ""

    @classmethod
    def of(cls, events: Iterable[ComplaintEvent]) -> "Case":
        """The case after ``events``, which are sorted along the chain; side events change nothing here."""
        case = cls()
        for event in events:
            if isinstance(event, ChainEvent):
                case = case._after(event)
        return case

    @classmethod
    def of_document(cls, document: Document | None) -> "Case":
        """The case that a projection's document holds."""
        return cls.of(history(document))

    def _after(self, event: ChainEvent) -> "Case":
        target = MOVES[event.transition].target
        before = clock_of(self.status) if self.status else None
        changes: dict[str, Any] = {
            "complaint_id": event.complaint_id,
            "number": event.number,
            "reporter_id": event.reporter_id,
            "seq": event.seq,
            "status": target,
            "moved_at": event.occurred_at,
        }
        if before is None or target not in before.statuses:
            changes |= {"clock_opened_at": event.occurred_at, "due_at": None}
        match event:
            case Submitted():
                changes |= {"report": event.report, "submitted_at": event.occurred_at}
            case Resubmitted():
                changes |= {"report": event.report, "declines": 0, "declined_by": ()}
            case Forwarded() | Reopened():
                changes |= {"agency": None, "unit": None, "declines": 0, "declined_by": ()}
            case Assigned():
                changes |= {
                    "agency": event.agency,
                    "report": event.report,
                    "binding": event.binding,
                    "due_at": event.due_at,
                    "unit": None,
                }
            case Declined():
                declined_by = (*self.declined_by, event.agency.code)
                changes |= {"agency": None, "declines": self.declines + 1, "declined_by": declined_by}
            case Started():
                changes |= {"agency": event.agency, "unit": event.unit}
            case Completed():
                changes |= {"agency": event.agency, "evidence": event.photos, "evidence_note": event.note}
            case ReworkRequested():
                changes |= {"agency": event.agency, "due_at": event.due_at}
            case Documented():
                changes |= {"agency": event.agency, "evidence": event.evidence, "evidence_note": event.evidence_note}
            case _:
                pass
        return replace(self, **changes)

    def due(self, deadlines: Deadlines) -> datetime | None:
        """When the time that is running now ends: as an event said, or by the deadlines in force; None once closed."""
        rule = clock_of(self.status) if self.status else None
        if rule is None or self.clock_opened_at is None:
            return None
        return self.due_at or deadlines.due_at(rule.clock, self.clock_opened_at)

    def allowed(self, role: Role) -> list[Transition]:
        """The moves that ``role`` can make now."""
        if self.status is None:
            return []
        return allowed(self.status, role, declines=self.declines, binding=self.binding)

    def check(self, transition: Transition, role: Role) -> Move | Refusal:
        """Whether ``role`` may make this move now, by the SOP's table."""
        return check(transition, self.status, role, declines=self.declines, binding=self.binding)

    def next(self, actor: Actor, at: datetime) -> dict[str, Any]:
        """The fields that every next event of this case has: its id and ``seq``, and who makes it when.

        ``at`` is moved to the case's last event where a clock of another machine is ahead: time in a chain does not go
        back.
        """
        seq = self.seq + 1
        return {
            "id": ChainEvent.chain_id(self.complaint_id, seq),
            "occurred_at": max(at, self.moved_at) if self.moved_at else at,
            "complaint_id": self.complaint_id,
            "seq": seq,
            "number": self.number,
            "reporter_id": self.reporter_id,
            "actor": actor,
        }
