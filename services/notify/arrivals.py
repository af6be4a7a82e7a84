"""What arrives: events become entries, deliveries and contacts, a whole batch in three writes."""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta

from prometheus_client import Counter

from services.notify.delivery_store import DeliveryStore
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
        wake: Callable[[], None],
    ) -> None:
        self._deadlines = settings.deadlines
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
        await self._deliveries.add(made.deliveries)
        if made.deliveries:
            self._wake()
