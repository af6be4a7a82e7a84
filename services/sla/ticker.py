"""The ticking: finds what is due, issues it, and lets the journal see to it that each alarm is issued once."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

import structlog

from services.sla import desk
from services.sla.desk import Rules
from services.sla.level import Level
from services.sla.metrics import KNOWN_UNTIL, OLDEST_ALARM, ClockMetrics
from services.sla.store import ClockStore
from shared.events import ClockEvent, now
from shared.journal import Journal, Taken
from shared.projection import Document, history

log = structlog.get_logger()


class Ticker:
    """Issues the alarms of all complaints. Any number of processes may do so at the same time."""

    def __init__(
        self, clocks: ClockStore, journal: Journal, level: Level, rules: Rules, metrics: ClockMetrics, batch: int
    ) -> None:
        self._clocks = clocks
        self._journal = journal
        self._level = level
        self._rules = rules
        self._metrics = metrics
        self._batch = batch

    async def tick(self) -> None:
        """Issue the alarms of everything up to the moment until which the events are known, or, if the group does not
        get on, up to the end of the patience."""
        await self._level.look()
        horizon = self._level.until(self._rules.patience)
        KNOWN_UNTIL.set(self._level.at.timestamp() if self._level.at else 0)
        while True:
            documents = await self._clocks.alarming(horizon or now(), self._batch)
            oldest = min((d["next_alarm_at"] for d in documents), default=None)
            OLDEST_ALARM.set((now() - oldest).total_seconds() if oldest else 0)
            if horizon is None:
                break
            issued = await asyncio.gather(*(self._issue(document, horizon) for document in documents))
            if len(documents) < self._batch or not any(issued):
                break

    async def _issue(self, document: Document, until: datetime) -> int:
        """Issue a complaint's alarms; returns how many of them were not issued before."""
        alarms: Sequence[ClockEvent] = desk.due(history(document), self._rules, until)
        fresh = 0
        for alarm in alarms:
            try:
                await self._journal.append(alarm, current={alarm.complaint_id: document} if not fresh else None)
            except Taken:
                continue  # another process was first
            fresh += 1
            self._metrics.count_alarm(alarm)
            log.info("alarm", event_id=alarm.id, complaint_id=alarm.complaint_id, due_at=alarm.due_at.isoformat())
        return fresh
