"""What arrives: events become entries, deliveries and contacts, many at a time in each write."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial

import prometheus_client

from services.notify.delivery_store import DELIVERIES, DeliveryStore
from services.notify.desk import Finish, Patience, report, triage
from services.notify.notices import citizen_audience
from services.notify.projection import Documents, project
from services.notify.settings import Settings
from services.notify.store import CitizenStore, InboxStore
from shared.events import ComplaintEvent, Event, now
from shared.pieces import pieces, side_by_side
from shared.projection import Document
from shared.pseudonyms import Pseudonyms

_EVENTS_AT_A_TIME = 100
"""Events whose notices are kept at once. Four times as many are under way, each with at most one event to report: a
backlog must not fill the journal's queue."""

NOTICES = prometheus_client.Counter("lapor_notices_total", "Notices put into an inbox.", ["notice"])


class Arrivals:
    """Takes events from the topics and, for `answered`, from this service's own journal."""

    def __init__(
        self,
        settings: Settings,
        inbox: InboxStore,
        deliveries: DeliveryStore,
        citizens: CitizenStore,
        wake: Callable[[], None],
        issue: Callable[[Event], Awaitable[None]],
    ) -> None:
        self._deadlines = settings.deadlines
        self._pseudonyms = Pseudonyms(settings.pseudonym_key_file)
        self._patience = Patience.of(settings)
        self._report_after = timedelta(seconds=settings.report_after_seconds)
        self._inbox = inbox
        self._deliveries = deliveries
        self._citizens = citizens
        self._wake = wake
        self._issue = issue

    async def apply(self, events: Iterable[Event], current: Mapping[str, Document | None] | None = None) -> None:
        """Keep what the events give rise to. Any of them may come again, in any order.

        Contacts first, so that an e-mail finds the one that came with it, and nothing is kept for somebody who has
        deleted their data; entries before deliveries, so that what is reported as delivered is in the inbox. Of what
        the journal itself brings nothing is reported (`REPORTED`), so it does not wait for itself.
        """
        events = list(events)
        made = self._projected(event for event in events if not isinstance(event, ComplaintEvent))
        await self._citizens.keep(made.contacts.values())
        await self._citizens.erase(made.erased)
        told = (event for event in events if isinstance(event, ComplaintEvent))
        tell = partial(self._tell, erased=made.erased)
        await side_by_side(tell, pieces(told, _EVENTS_AT_A_TIME))
        if made.erased:
            await self._inbox.erase({citizen_audience(citizen) for citizen in made.erased})

    def _projected(self, events: Iterable[Event]) -> Documents:
        return project(events, now(), self._deadlines, self._report_after, self._pseudonyms)

    async def _tell(self, events: Sequence[Event], erased: set[str]) -> None:
        made = self._projected(events)
        ids = {delivery["citizen_id"] for delivery in made.deliveries}
        contacts: dict[str, Document] = {}
        choices: dict[str, dict[str, bool]] = {}
        if ids:
            contacts, choices = await asyncio.gather(self._citizens.contacts(ids), self._citizens.preferences(ids))
        gone = erased | {citizen for citizen, contact in contacts.items() if contact.get("erased")}
        nobody = {citizen_audience(citizen) for citizen in gone}
        added = await self._inbox.add([entry for entry in made.inbox if entry["audience"] not in nobody])
        for notice, count in Counter(entry["notice"] for entry in added).items():
            NOTICES.labels(notice).inc(count)
        if made.deliveries:
            await self._deliver(made.deliveries, contacts, choices)

    async def _deliver(
        self,
        deliveries: Sequence[Document],
        contacts: Mapping[str, Document],
        choices: Mapping[str, Mapping[str, bool]],
    ) -> None:
        """Keep the deliveries. Those that need no courier, such as to somebody without an address, are done, and
        reported before they are kept: nobody has to take them up again."""
        at = now()
        for delivery in deliveries:
            citizen = delivery["citizen_id"]
            decision = triage(delivery, contacts.get(citizen), choices.get(citizen, {}), at, self._patience)
            if isinstance(decision, Finish):
                delivery |= {"state": decision.state, "open": False, "done_at": at, "reason": decision.reason}
        unreported = [delivery for delivery in deliveries if not (delivery["open"] or delivery["reported"])]
        await asyncio.gather(*(self._issue(event) for delivery in unreported if (event := report(delivery))))
        for delivery in unreported:
            delivery["reported"] = True
        added = await self._deliveries.add(deliveries)
        done = Counter((delivery["channel"], delivery["state"]) for delivery in added if not delivery["open"])
        for (channel, state), count in done.items():
            DELIVERIES.labels(channel, state).inc(count)
        if any(delivery["open"] for delivery in added):
            self._wake()

    async def kept(self, events: Iterable[Event]) -> set[str]:
        """All: its stores write durably."""
        return {event.id for event in events}
