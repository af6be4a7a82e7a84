"""The clocks of one complaint: when each was started, is due and was stopped, by when things happened and not by when
they became known. Pure: the same set of events gives the same clocks."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from shared.calendar import Deadlines, warn_at
from shared.events import (
    Agency,
    Assigned,
    ChainEvent,
    ComplaintEvent,
    Completed,
    Declined,
    Documented,
    ReworkRequested,
    Started,
    is_receipt,
)
from shared.sop import CLOCKS, MOVES, Clock, ClockRule, Role, Status

_OF_AN_AGENCY = Assigned | Declined | Started | Completed | ReworkRequested | Documented


class State(StrEnum):
    """How a clock stands at a moment. ``RUNNING``, ``WARNED`` and ``OVERDUE`` are those that still run."""

    RUNNING = "running"
    WARNED = "warned"
    OVERDUE = "overdue"
    IN_TIME = "in_time"
    LATE = "late"


class Run(NamedTuple):
    """One run of a clock, started by the event at ``seq``. A tuple: a fold makes many, and they cost less than half so.

    ``status`` is the last status that the clock ran in; ``agency`` is set where an agency is answerable. While it runs,
    ``stopped_at`` and ``stopped_by`` (an event's id) are None.
    """

    clock: Clock
    seq: int
    status: Status
    agency: Agency | None
    opened_at: datetime
    warn_at: datetime
    due_at: datetime
    stopped_at: datetime | None = None
    stopped_by: str | None = None

    @property
    def rule(self) -> ClockRule:
        """The clock's row in the procedure."""
        return CLOCKS[self.clock]

    @property
    def open(self) -> bool:
        """It runs, as far as is known."""
        return self.stopped_at is None

    @property
    def late(self) -> bool:
        """It was stopped after it was due."""
        return not self.open and self.state(self.due_at) is State.LATE

    def state(self, at: datetime) -> State:
        """How it stands at ``at``."""
        return state(self.warn_at, self.due_at, self.stopped_at, at)


def state(warn_at: datetime, due_at: datetime, stopped_at: datetime | None, at: datetime) -> State:
    """How a clock stands at ``at``. What is done at the very moment it is due is in time."""
    if stopped_at is not None:
        return State.LATE if stopped_at > due_at else State.IN_TIME
    if at > due_at:
        return State.OVERDUE
    return State.WARNED if at > warn_at else State.RUNNING


def complete(events: Sequence[ComplaintEvent]) -> bool:
    """No event is missing between those that are known."""
    known = {event.seq for event in events if isinstance(event, ChainEvent)}
    return len(known) == max(known, default=0)


def runs(events: Sequence[ComplaintEvent], deadlines: Deadlines) -> list[Run]:
    """All clocks of a complaint, oldest first; ``events`` are sorted along the chain.

    Where an event carries a due date (the agency's follow-up), the one that the agency was told counts. Where events
    are missing, a step ends with the next event that is known, which is at the latest when it ended.
    """
    found: list[Run] = []
    open_runs: list[int] = []
    for event in events:
        if not isinstance(event, ChainEvent):
            continue
        status = MOVES[event.transition].target
        for index in open_runs:
            found[index] = _moved(found[index], event, status)
        open_runs = [index for index in open_runs if found[index].open]
        running = {found[index].clock for index in open_runs}
        for rule in _RUN_IN[status]:
            if rule.clock not in running:
                open_runs.append(len(found))
                found.append(_started(rule, event, status, deadlines))
    receipt = min(((e.occurred_at, e.id) for e in events if is_receipt(e)), default=None)
    return [_received(run, receipt) if run.rule.met_by_receipt and receipt else run for run in found]


_RUN_IN: dict[Status, list[ClockRule]] = {
    status: [rule for rule in CLOCKS.values() if status in rule.statuses] for status in Status
}


def _moved(run: Run, event: ChainEvent, status: Status) -> Run:
    if status in run.rule.statuses:
        return run._replace(status=status)
    if run.rule.met_by_receipt and status is not Status.CLOSED:
        return run
    return run._replace(stopped_at=event.occurred_at, stopped_by=event.id)


def _started(rule: ClockRule, event: ChainEvent, status: Status, deadlines: Deadlines) -> Run:
    told = event.due_at if isinstance(event, Assigned | ReworkRequested) else None
    due_at = told or deadlines.due_at(rule.clock, event.occurred_at)
    agency = event.agency if isinstance(event, _OF_AN_AGENCY) else None
    return Run(
        clock=rule.clock,
        seq=event.seq,
        status=status,
        agency=agency if rule.role is Role.AGENCY_OPERATOR else None,
        opened_at=event.occurred_at,
        warn_at=warn_at(event.occurred_at, due_at, deadlines.warn_share),
        due_at=due_at,
    )


def _received(run: Run, receipt: tuple[datetime, str]) -> Run:
    """The notice stops the clock, wherever the complaint is by then, unless it was closed before."""
    at, event_id = receipt
    if run.stopped_at is not None and run.stopped_at < at:
        return run
    return run._replace(stopped_at=at, stopped_by=event_id)
