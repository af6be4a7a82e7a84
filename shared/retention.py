"""The periodic work that removes what has been kept long enough (`shared.kept`).

A class at a time, in small batches with a rest between, so that nobody else waits for it. What a killed run has not
come to, the next one does: nothing but the data themselves says how far it got.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from prometheus_client import Counter

from shared.audit import SYSTEM, Action, AuditLog
from shared.events import now
from shared.kept import Kept, RetentionSettings

EVERY = timedelta(hours=1)
BATCH = 500
_REST_SECONDS = 0.05

REMOVED = Counter("lapor_retention_removed_total", "Documents removed or emptied at the end of their time.", ["class"])


class Ageing(Protocol):
    """A collection whose documents come to their end. Both queries go by an index."""

    async def due(self, before: datetime) -> int:
        """How many documents of before a moment are to be removed."""

    async def remove(self, before: datetime, limit: int) -> int:
        """Remove up to ``limit`` of them, oldest first; returns how many."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """A class of data, and where one service has it."""

    kept: Kept
    where: Ageing


class Retention:
    """One service's part of the table."""

    def __init__(self, settings: RetentionSettings, audit: AuditLog, keepings: Sequence[Keeping]) -> None:
        self._settings = settings
        self._audit = audit
        self.keepings = keepings
        for keeping in keepings:
            REMOVED.labels(keeping.kept.name)

    def before(self, kept: Kept) -> datetime:
        """What is older than this has come to its end."""
        return now() - kept.age(self._settings)

    async def due(self) -> dict[str, int]:
        """How many documents of each class are to be removed now."""
        return {one.kept.name: await one.where.due(self.before(one.kept)) for one in self.keepings}

    async def run(self, actor: str = SYSTEM) -> dict[str, int]:
        """Remove all that is due; returns how many of each class. The audit log is told before how many it will be.
        Raises UnusableKey without its key, where something is due."""
        removed: dict[str, int] = {}
        for one in self.keepings:
            name, before = one.kept.name, self.before(one.kept)
            removed[name] = 0
            due = await one.where.due(before)
            if not due:
                continue
            await self._audit.record(Action.RETENTION_RUN, actor, name, due=due, before=f"{before:%Y-%m-%d}")
            while gone := await one.where.remove(before, BATCH):
                REMOVED.labels(name).inc(gone)
                removed[name] += gone
                await _rest()
        return removed

    async def turn(self) -> None:
        """Periodic work: a run, unless nothing can be recorded."""
        if self._audit.sealed:
            await self.run()


async def _rest() -> None:
    await asyncio.sleep(_REST_SECONDS)
