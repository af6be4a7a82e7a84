"""Which alarms a complaint's clocks call for: pure decisions from its events, to alarms with the moment of each.

A breach is a verdict, so it is told whenever it is learnt, also of a step that ended too late while nobody looked. A
warning is a call to act, so only a clock that runs is warned of. An alarm that turns out untrue, because the event that
stopped the clock in time arrived after it, is taken back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from services.sla.clocks import Run, complete, runs
from shared.calendar import Deadlines
from shared.events import ClockEvent, ComplaintEvent, SlaBreached, SlaWarned, SlaWithdrawn
from shared.sop import HOLDER


@dataclass(frozen=True, slots=True)
class Rules:
    """The deadlines; how long an alarm waits for events on their way (``grace``), and for missing ones
    (``patience``)."""

    deadlines: Deadlines
    grace: timedelta
    patience: timedelta


@dataclass(frozen=True, slots=True)
class Pending:
    """An alarm that is due at ``at`` unless something happens before; ``replaces`` is the id of the alarm that it makes
    needless. ``make`` gives the event: most never come to that, and a fold asks only when they would."""

    at: datetime
    event_id: str
    make: Callable[[], ClockEvent]
    replaces: str | None = None


def pending(events: Sequence[ComplaintEvent], clocks: Sequence[Run], rules: Rules) -> list[Pending]:
    """The alarms that are still to come if nothing else happens. ``events`` are sorted along the chain, ``clocks`` are
    its `runs`."""
    issued = {event.id: event for event in events if isinstance(event, ClockEvent)}
    whole = complete(events)
    found = [alarm for run in clocks for alarm in _of_run(run, events[0], issued, whole, rules)]
    if whole:
        found += _untrue(clocks, issued)
    return found


def due(events: Sequence[ComplaintEvent], rules: Rules, at: datetime) -> list[ClockEvent]:
    """The alarms to issue when everything that happened until ``at`` is known."""
    now_due = [alarm for alarm in pending(events, runs(events, rules.deadlines), rules) if alarm.at <= at]
    replaced = {alarm.replaces for alarm in now_due}
    return [_stamped(alarm.make(), at) for alarm in now_due if alarm.event_id not in replaced]


def _stamped(event: ClockEvent, at: datetime) -> ClockEvent:
    """A warning or breach happens when the clock strikes, whenever that is learnt; a withdrawal when it is issued."""
    if not isinstance(event, SlaWithdrawn):
        return event
    return event.model_copy(update={"occurred_at": max(event.occurred_at, at)})


def _of_run(
    run: Run, origin: ComplaintEvent, issued: dict[str, ClockEvent], whole: bool, rules: Rules
) -> list[Pending]:
    name = f"{origin.complaint_id}:{run.seq}:{run.clock}"
    warned, breached = f"{name}:warned", f"{name}:breached"
    if run.rule.lapses or breached in issued or not (run.open or run.late):
        return []
    wait = (rules.grace if run.open else timedelta()) + (timedelta() if whole else rules.patience)
    breach = partial(_alarm, SlaBreached, breached, run.due_at, run, origin)
    found = [Pending(run.due_at + wait, breached, breach, replaces=warned)]
    if run.open and warned not in issued:
        warning = partial(_alarm, SlaWarned, warned, run.warn_at, run, origin)
        found.append(Pending(run.warn_at + wait, warned, warning))
    return found


def _alarm(
    model: type[SlaWarned] | type[SlaBreached], event_id: str, at: datetime, run: Run, origin: ComplaintEvent
) -> ClockEvent:
    return model(
        id=event_id,
        occurred_at=at,
        complaint_id=origin.complaint_id,
        seq=run.seq,
        number=origin.number,
        reporter_id=origin.reporter_id,
        clock=run.clock,
        step=run.rule.step,
        status=run.status,
        holder=HOLDER[run.status],
        responsible=run.rule.role,
        agency=run.agency,
        opened_at=run.opened_at,
        due_at=run.due_at,
    )


def _untrue(clocks: Sequence[Run], issued: dict[str, ClockEvent]) -> list[Pending]:
    """Withdrawals of alarms whose clock had been stopped by their moment, or turned out never to have run."""
    by_key = {(run.clock, run.seq): run for run in clocks}
    found = []
    for alarm in issued.values():
        withdrawal = f"{alarm.id}:withdrawn"
        if isinstance(alarm, SlaWithdrawn) or withdrawal in issued:
            continue
        run = by_key.get((alarm.clock, alarm.seq))
        if run is None or (run.stopped_at is not None and run.stopped_at <= alarm.occurred_at):
            found.append(Pending(alarm.occurred_at, withdrawal, partial(_withdrawn, alarm, withdrawal)))
    return found


def _withdrawn(alarm: ClockEvent, event_id: str) -> SlaWithdrawn:
    return SlaWithdrawn.model_validate(alarm.model_dump() | {"id": event_id, "alarm": alarm.id})
