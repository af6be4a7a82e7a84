"""A case as its chain of events tells it: what all desks derive their documents and decisions from."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.calendar import Deadlines
from shared.events import (
    Actor,
    Agency,
    Answered,
    Assigned,
    ChainEvent,
    Closed,
    ComplaintEvent,
    Completed,
    Declined,
    Documented,
    Forwarded,
    Photo,
    Reopened,
    Report,
    Resubmitted,
    Returned,
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
        fields: dict[str, Any] = {}
        for event in events:
            effect = _EFFECTS.get(type(event))
            if effect is not None:
                _move(fields, event)  # type: ignore[arg-type]  # only chain events have an effect
                fields |= effect(fields, event)
        return cls(**fields)

    @classmethod
    def of_document(cls, document: Document | None) -> "Case":
        """The case that a projection's document holds."""
        return cls.of(history(document))

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


def _move(fields: dict[str, Any], event: ChainEvent) -> None:
    """What every move changes: who and where the case is, and the clock, unless the one that runs goes on."""
    target = MOVES[event.transition].target
    status = fields.get("status")
    before = clock_of(status) if status else None
    if before is None or target not in before.statuses:
        fields["clock_opened_at"], fields["due_at"] = event.occurred_at, None
    fields["complaint_id"], fields["number"], fields["reporter_id"] = (
        event.complaint_id,
        event.number,
        event.reporter_id,
    )
    fields["seq"], fields["status"], fields["moved_at"] = event.seq, target, event.occurred_at


_UNDECLINED: dict[str, Any] = {"declines": 0, "declined_by": ()}
_UNASSIGNED: dict[str, Any] = {"agency": None, "unit": None, **_UNDECLINED}


def _assigned(_: Mapping[str, Any], event: Assigned) -> dict[str, Any]:
    return {
        "agency": event.agency,
        "report": event.report,
        "binding": event.binding,
        "due_at": event.due_at,
        "unit": None,
    }


def _declined(fields: Mapping[str, Any], event: Declined) -> dict[str, Any]:
    declined_by = (*fields.get("declined_by", ()), event.agency.code)
    return {"agency": None, "declines": fields.get("declines", 0) + 1, "declined_by": declined_by}


_EFFECTS: dict[type[ComplaintEvent], Callable[[Mapping[str, Any], Any], dict[str, Any]]] = {
    Submitted: lambda _, e: {"report": e.report, "submitted_at": e.occurred_at},
    Forwarded: lambda *_: _UNASSIGNED,
    Returned: lambda *_: {},
    Resubmitted: lambda _, e: {"report": e.report, **_UNDECLINED},
    Assigned: _assigned,
    Declined: _declined,
    Started: lambda _, e: {"agency": e.agency, "unit": e.unit},
    Completed: lambda _, e: {"agency": e.agency, "evidence": e.photos, "evidence_note": e.note},
    ReworkRequested: lambda _, e: {"agency": e.agency, "due_at": e.due_at},
    Documented: lambda _, e: {"agency": e.agency, "evidence": e.evidence, "evidence_note": e.evidence_note},
    Answered: lambda *_: {},
    Reopened: lambda *_: _UNASSIGNED,
    Closed: lambda *_: {},
}
"""What each kind of event changes besides. By type and not by ``isinstance``, whose check of a pydantic model costs as
much as decoding the event."""
