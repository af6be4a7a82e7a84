"""The complaints' clocks: one document per complaint, folded from its events and from the alarms issued about it."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from services.sla import clocks, desk
from services.sla.clocks import Run
from services.sla.desk import Rules
from shared.case import Case
from shared.events import CHAIN_TOPICS, ComplaintEvent, NotificationDelivered, SlaBreached, SlaWarned, SlaWithdrawn
from shared.projection import Derive, Document

ISSUES = (SlaWarned.topic, SlaBreached.topic, SlaWithdrawn.topic)
CONSUMES = (*CHAIN_TOPICS, NotificationDelivered.topic)
TAKES = (*CONSUMES, *ISSUES)


def deriving(rules: Rules) -> Derive:
    """The fold of one installation, whose deadlines are settings."""
    return partial(derive, rules)


def derive(rules: Rules, events: Sequence[ComplaintEvent]) -> Document:
    """The fields that queries need. A clock that stands still is in ``clocks`` only, so that the small indexes hold
    just what runs.

    ``due`` and ``warn``: per running clock that somebody answers for, when it is due and warns. ``next_alarm_at`` is
    the moment of the next alarm, left out where there is none.
    """
    case = Case.of(events)
    found = clocks.runs(events, rules.deadlines)
    counting = [run for run in found if run.open and not run.rule.lapses]
    alarms = desk.pending(events, found, rules)
    return {
        "number": events[0].number,
        "status": case.status,
        "agency": case.agency.code if case.agency else None,
        "district": case.report.place.district if case.report else None,
        "clocks": [_stored(run) for run in found],
        "due": {run.clock.value: run.due_at for run in counting},
        "warn": {run.clock.value: run.warn_at for run in counting},
        **({"next_alarm_at": min(alarm.at for alarm in alarms)} if alarms else {}),
    }


def _stored(run: Run) -> dict[str, Any]:
    rule = run.rule
    return {
        "clock": run.clock,
        "step": rule.step,
        "seq": run.seq,
        "status": run.status,
        "responsible": rule.role,
        "agency": run.agency.code if run.agency else None,
        "lapses": rule.lapses,
        "opened_at": run.opened_at,
        "warn_at": run.warn_at,
        "due_at": run.due_at,
        "stopped_at": run.stopped_at,
        "stopped_by": run.stopped_by,
    }
