"""What arrives: events become entries, deliveries and contacts, many at a time in each write."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial

from prometheus_client import Counter

from services.notify.delivery_store import DELIVERIES, REPORT_GRACE, DeliveryStore
from services.notify.desk import Finish, Patience, reports, triage
from services.notify.notices import citizen_audience
from services.notify.projection import Documents, project
from services.notify.settings import Settings
from services.notify.store import CitizenStore, InboxStore
from shared.events import ComplaintEvent, Event, now
from shared.pieces import pieces, side_by_side
from shared.projection import Document
from shared.pseudonyms import Pseudonyms

_EVENTS_AT_A_TIME = 100
"""Events whose notices are kept at once. Four times as many are under way, each with at most two events to report: a
backlog must not fill the journal's queue."""

NOTICES = Counter("lapor_notices_total", "Notices put into an inbox.", ["notice"])


class Arrivals:
    """Takes events from the topics and, for `answered`, from this service's own journal."""

    def __init__(
        self,
        settings: Settings,
        inbox: InboxStore,
        deliveries: DeliveryStore,
        citizens: CitizenStore,
        wake: Callable[[Collection[str]], None],
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
        deleted their data; entries before deliveries, so that what is reported as delivered is in the inbox. What the
        journal itself brings (it gives ``current``) is reported afterwards: the journal must not wait for itself.
        """
        events = list(events)
        made = self._projected(event for event in events if not isinstance(event, ComplaintEvent))
        await self._citizens.keep(made.contacts.values())
        await self._citizens.erase(made.erased)
        told = (event for event in events if isinstance(event, ComplaintEvent))
        tell = partial(self._tell, erased=made.erased, at_once=current is None)
        await side_by_side(tell, pieces(told, _EVENTS_AT_A_TIME))
        if made.erased:
            await self._inbox.erase({citizen_audience(citizen) for citizen in made.erased})

    def _projected(self, events: Iterable[Event]) -> Documents:
        return project(events, now(), self._deadlines, self._report_after, self._pseudonyms)

    async def _tell(self, events: Sequence[Event], erased: set[str], *, at_once: bool) -> None:
        made = self._projected(events)
        ids = {delivery["citizen_id"] for delivery in made.deliveries}
        contacts: dict[str, Document] = {}
        choices: dict[str, dict[str, bool]] = {}
        if ids:
            contacts, choices = await asyncio.gather(self._citizens.contacts(ids), self._citizens.preferences(ids))
        gone = erased | {citizen for citizen, contact in contacts.items() if contact.get("erased")}
        nobody = {citizen_audience(citizen) for citizen in gone}
        for entry in await self._inbox.add([entry for entry in made.inbox if entry["audience"] not in nobody]):
            NOTICES.labels(entry["notice"]).inc()
        if made.deliveries:
            await self._deliver(made.deliveries, contacts, choices, at_once=at_once)

    async def _deliver(
        self,
        deliveries: Sequence[Document],
        contacts: Mapping[str, Document],
        choices: Mapping[str, Mapping[str, bool]],
        *,
        at_once: bool,
    ) -> None:
        """Keep the deliveries. Those that need no courier, such as to somebody without an address, are done, and
        reported ``at_once`` before they are kept: nobody has to take them up again."""
        at = now()
        for delivery in deliveries:
            citizen = delivery["citizen_id"]
            decision = triage(delivery, contacts.get(citizen), choices.get(citizen, {}), at, self._patience)
            if isinstance(decision, Finish):
                delivery |= {"state": decision.state, "open": False, "done_at": at, "reason": decision.reason}
                delivery["report_at"] = at + REPORT_GRACE
        if at_once:
            finished = [delivery for delivery in deliveries if not delivery["open"]]
            await asyncio.gather(*(self._issue(event) for delivery in finished for event in reports(delivery)))
            for delivery in finished:
                delivery["reported"] = True
        done = [d for d in await self._deliveries.add(deliveries) if not d["open"]]
        for delivery in done:
            DELIVERIES.labels(delivery["channel"], delivery["state"]).inc()
        self._wake([delivery["_id"] for delivery in done if not delivery["reported"]])

    async def kept(self, events: Iterable[Event]) -> set[str]:
        """All: its stores write durably."""
        return {event.id for event in events}
