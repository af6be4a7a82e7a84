"""The work on deliveries: lease what is due, send it, and issue the events that follow.

`turn` leases a batch, settles what needs no mail server, and puts the rest in a queue; each courier takes from it and
has one connection. `record` writes down what became of the e-mails, of all that are out in one write and again until it
is done; meanwhile the couriers go on, as long as few wait for it. A crash at any point repeats safely: an unfinished
lease ends and the e-mail goes out again under the same Message-ID; an unreported delivery is found again, and the
journal takes each event once.
"""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import timedelta

import structlog
from prometheus_client import Gauge, Histogram

from services.notify.compose import BadAddress, Composer
from services.notify.delivery_store import DELIVERIES, REPORT_GRACE, DeliveryStore
from services.notify.desk import Finish, Patience, Send, Wait, after_failure, photos_may_come, report, triage
from services.notify.evidence import Evidence, Unavailable
from services.notify.settings import Settings
from services.notify.smtp import MailConnection, NotTaken, to_its_end
from services.notify.store import CitizenStore
from shared.events import Event, now
from shared.journal import Journal, Taken
from shared.projection import Document

log = structlog.get_logger()

WAITING = Gauge("lapor_deliveries_waiting", "E-mails that wait or are being sent.")
SENDING = Histogram(
    "lapor_delivery_duration_seconds",
    "Time to hand one e-mail to the mail server, the photos fetched.",
    ["channel"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)

_BATCH = 200
_UNRECORDED = 8
"""While so many e-mails are out and not recorded, no further is sent: a crash would repeat them."""
_POLL_SECONDS = 0.5
_IDLE_SECONDS = 30.0


class Outbox:
    """The deliveries at work in one process."""

    def __init__(
        self,
        settings: Settings,
        deliveries: DeliveryStore,
        citizens: CitizenStore,
        journal: Journal,
        composer: Composer,
        evidence: Evidence,
    ) -> None:
        self._settings = settings
        self._deliveries = deliveries
        self._citizens = citizens
        self._journal = journal
        self._composer = composer
        self._evidence = evidence
        self._patience = Patience.of(settings)
        self._ready: asyncio.Queue[tuple[Document, Document]] = asyncio.Queue(_BATCH)
        self._outcomes: list[tuple[Document, Finish | Wait]] = []
        """What became of e-mails, not recorded yet."""
        self._to_record, self._few = asyncio.Event(), asyncio.Event()
        self._few.set()
        self._finished: list[str] = []
        self._news = asyncio.Event()

    def wake(self, finished: Collection[str] = ()) -> None:
        """There is something to do: do not wait for the next look. ``finished`` are deliveries to report."""
        self._finished += finished
        self._news.set()

    async def turn(self) -> None:
        """Lease and sort what is due, report what is done; then wait for news, or half a second."""
        leased = await self._take(self._ready.maxsize - self._ready.qsize())
        reported = await self._report()
        if leased < _BATCH and reported < _BATCH:
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):  # wait_for can swallow a cancellation (CPython 86296)
                    await self._news.wait()
        self._news.clear()

    async def _take(self, limit: int) -> int:
        if limit <= 0:
            return 0
        at = now()
        until = at + timedelta(seconds=self._settings.delivery_lease_seconds)
        # their leases may have ended meanwhile; what was not taken is sent again, whoever leases it
        out = {delivery["_id"] for delivery, result in self._outcomes if result == Finish("sent")}
        leased, repeated = await self._deliveries.lease(limit, at, until)
        if repeated:
            log.warning("deliveries that a process left unfinished are taken up", deliveries=repeated)
            DELIVERIES.labels("email", "repeated").inc(repeated)
        if not leased:
            return 0
        ids = {d["citizen_id"] for d in leased}
        contacts, choices = await asyncio.gather(self._citizens.contacts(ids), self._citizens.preferences(ids))
        settled: list[tuple[Document, Finish | Wait]] = []
        for delivery in leased:
            if delivery["_id"] in out:
                continue
            citizen = delivery["citizen_id"]
            contact = contacts.get(citizen)
            decision = triage(delivery, contact, choices.get(citizen, {}), at, self._patience)
            if isinstance(decision, Send) and contact is not None:
                self._ready.put_nowait((delivery, contact))
            elif not isinstance(decision, Send):
                settled.append((delivery, decision))
        await self._settle(settled)
        return len(leased)

    async def record(self) -> None:
        """Wait until e-mails are out, and write down what became of them. What fails is left for the next time; twice
        is as once."""
        await self._to_record.wait()
        outcomes = self._outcomes[:]
        await self._settle(outcomes)
        del self._outcomes[: len(outcomes)]
        if len(self._outcomes) < _UNRECORDED:
            self._few.set()
        if not self._outcomes:
            self._to_record.clear()

    async def _settle(self, results: Sequence[tuple[Document, Finish | Wait]]) -> None:
        at = now()
        await self._deliveries.settle(results, at, at + REPORT_GRACE)
        for delivery, result in results:
            outcome = result.state if isinstance(result, Finish) else "retried"
            DELIVERIES.labels(delivery["channel"], outcome).inc()
            if isinstance(result, Finish) and not delivery["reported"]:
                self.wake([delivery["_id"]])
            if outcome in ("failed", "retried"):
                log.info("not delivered", delivery=delivery["_id"], outcome=outcome, reason=result.reason)

    async def _report(self) -> int:
        """Issue the events about what this process has finished, and about what is due to be reported anyway."""
        ids, self._finished = self._finished[:_BATCH], self._finished[_BATCH:]
        done = await self._deliveries.load(ids)
        late = await self._deliveries.unreported(now(), _BATCH - len(ids)) if len(ids) < _BATCH else []
        found = {d["_id"]: d for d in (*late, *done) if not d["reported"]}
        await asyncio.gather(*(self.issue(event) for delivery in found.values() if (event := report(delivery))))
        await self._deliveries.mark_reported(list(found))
        return len(found)

    async def issue(self, event: Event) -> None:
        """Write an event of this service's own, once."""
        with suppress(Taken):  # it was issued before the process could mark it
            await self._journal.append(event)

    async def carry(self, connection: MailConnection) -> None:
        """A courier's round: wait for one e-mail and send it. A shutdown lets it come to its end."""
        try:
            async with asyncio.timeout(_IDLE_SECONDS):
                await self._few.wait()
                delivery, contact = await self._ready.get()
        except TimeoutError:
            await connection.close()
            return
        await to_its_end(self._send(delivery, contact, connection), self._settings.one_try)

    async def release(self) -> None:
        """Record what was done, and give back what waits here for a courier, so that another process need not wait for
        the leases to end."""
        if self._outcomes:
            await self.record()
        at = now()
        waiting = [self._ready.get_nowait()[0] for _ in range(self._ready.qsize())]
        await self._deliveries.settle([(delivery, Wait(at, "given-back")) for delivery in waiting], at, at)

    async def _send(self, delivery: Document, contact: Document, connection: MailConnection) -> None:
        if now() + self._settings.one_try > delivery["due_at"]:
            return  # it has lain in the queue so long that the lease would end while it is sent
        self._outcomes.append((delivery, await self._attempt(delivery, contact, connection)))
        self._to_record.set()
        if len(self._outcomes) >= _UNRECORDED:
            self._few.clear()

    async def _attempt(self, delivery: Document, contact: Document, connection: MailConnection) -> Finish | Wait:
        photos: list[bytes] | None = []
        if references := delivery["facts"].get("evidence"):
            try:
                photos = await self._evidence.fetch(delivery["complaint_id"], references)
            except Unavailable as reason:
                wait = timedelta(seconds=self._settings.photo_wait_seconds)
                if photos_may_come(delivery, now(), wait):
                    pause = timedelta(seconds=self._settings.photo_retry_seconds)
                    return Wait(now() + pause, str(reason))
                log.warning("the reply goes without photos", delivery=delivery["_id"], reason=str(reason))
                photos = None
        with SENDING.labels("email").time():
            try:
                message = await asyncio.to_thread(self._composer.write, delivery, contact, photos)
                await connection.send(message, self._composer.sender_address, contact["email"])
            except BadAddress:
                return Finish("failed", "address-invalid")
            except NotTaken as refusal:
                return after_failure(
                    delivery, permanent=refusal.permanent, reason=refusal.reason, at=now(), patience=self._patience
                )
            except Exception as error:  # noqa: BLE001 - its words may hold an address: they go nowhere
                log.error("an e-mail could not be written or sent", delivery=delivery["_id"], kind=type(error).__name__)
                return after_failure(
                    delivery, permanent=False, reason=type(error).__name__, at=now(), patience=self._patience
                )
        return Finish("sent")

    async def count(self) -> None:
        """Set the gauge of what waits."""
        WAITING.set(await self._deliveries.count_open())
