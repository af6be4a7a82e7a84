"""What arrives: events become entries, deliveries and contacts, a whole batch in three writes."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta

from prometheus_client import Counter

from services.notify.delivery_store import DELIVERIES, REPORT_GRACE, DeliveryStore
from services.notify.desk import Finish, Patience, triage
from services.notify.projection import project
from services.notify.settings import Settings
from services.notify.store import CitizenStore, InboxStore
from shared.events import Event, now
from shared.projection import Document

NOTICES = Counter("lapor_notices_total", "Notices put into an inbox.", ["notice"])


class Arrivals:
    """Takes events from the topics and, for `answered`, from this service's own journal."""

    def __init__(
        self,
        settings: Settings,
        inbox: InboxStore,
        deliveries: DeliveryStore,
        citizens: CitizenStore,
        wake: Callable[[Collection[Document]], None],
    ) -> None:
        self._deadlines = settings.deadlines
        self._patience = Patience.of(settings)
        self._report_after = timedelta(seconds=settings.report_after_seconds)
        self._inbox = inbox
        self._deliveries = deliveries
        self._citizens = citizens
        self._wake = wake

    async def apply(self, events: Iterable[Event], _: Mapping[str, Document | None] | None = None) -> None:
        """Keep what the events give rise to. Any of them may come again, in any order.

        Contacts first, so that an e-mail finds the one that came with it; entries before deliveries, so that what is
        reported as delivered is in the inbox.
        """
        made = project(events, now(), self._deadlines, self._report_after)
        await self._citizens.keep(made.contacts.values())
        for entry in await self._inbox.add(made.inbox):
            NOTICES.labels(entry["notice"]).inc()
        if made.deliveries:
            await self._deliver(made.deliveries)

    async def _deliver(self, deliveries: Sequence[Document]) -> None:
        """Keep the deliveries. Those that need no courier, such as to somebody without an address, are done at once:
        nobody has to take them up again."""
        at, ids = now(), {d["citizen_id"] for d in deliveries}
        contacts, choices = await asyncio.gather(self._citizens.contacts(ids), self._citizens.preferences(ids))
        for delivery in deliveries:
            citizen = delivery["citizen_id"]
            decision = triage(delivery, contacts.get(citizen), choices.get(citizen, {}), at, self._patience)
            if isinstance(decision, Finish):
                delivery |= {"state": decision.state, "open": False, "done_at": at, "reason": decision.reason}
                delivery["report_at"] = at + REPORT_GRACE
        done = [d for d in await self._deliveries.add(deliveries) if not d["open"]]
        for delivery in done:
            DELIVERIES.labels(delivery["channel"], delivery["state"]).inc()
        self._wake(done)

    async def kept(self, events: Iterable[Event]) -> set[str]:
        """All: its stores write durably."""
        return {event.id for event in events}
