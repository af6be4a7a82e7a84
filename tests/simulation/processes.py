"""The five services as processes of the simulation: the production code, wired to the world's servers as each
service's ``app.py`` wires it to the real ones.

What is left out is HTTP, sign-in, photos and the writing of e-mails. What must not be production code here is small:
the provider that takes e-mails, and the answers of a photo store.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from services.intake import projection as of_intake
from services.intake.api.complaints import Intake
from services.notify import projection as of_notify
from services.notify.arrivals import Arrivals
from services.notify.desk import Finish
from services.notify.evidence import Unavailable
from services.notify.outbox import Outbox
from services.notify.settings import Settings as NotifySettings
from services.notify.smtp import NotTaken
from services.opd import projection as of_opd
from services.routing import projection as of_routing
from services.sla import projection as of_sla
from services.sla.desk import Rules
from services.sla.level import Level
from services.sla.metrics import ClockMetrics
from services.sla.settings import Settings as SlaSettings
from services.sla.ticker import Ticker
from shared.agency_feed import copies
from shared.calendar import Deadlines
from shared.events import Agency, Event
from shared.journal import EventPublisher, Journal, JournalStore, Projecting
from shared.projection import Derive, Document, DocumentStore, Projection
from shared.receiver import Handle
from shared.settings import ServiceSettings
from shared.together import Together
from tests.simulation.loop import Strand
from tests.simulation.world import (
    Remote,
    RemoteBroker,
    Servers,
    Wire,
    World,
    broker_away,
    database_away,
    remote,
)
from tests.support.events import PERKIM, PUPR
from tests.support.memory import MemoryDocuments, MemoryJournal
from tests.support.memory_broker import BrokerPublisher, MemoryAdmin, MemoryBroker, MemoryConsumer
from tests.support.memory_clocks import MemoryClocks
from tests.support.memory_notify import MemoryDeliveries, MemoryInbox

DEFECT = "defect"
"""No handler can take an event of a complaint whose id begins so: a defect of ours, as dead letters are for."""
SERVICES = ("intake", "routing", "opd", "notify", "sla")
DEADLINES = Deadlines.model_validate(
    {
        "receipt": "2s",
        "forward": "1s",
        "assign": "2s",
        "follow_up": "2s",
        "document": "1s",
        "answer": "1s",
        "correct": "2s",
        "reopen": "2s",
    }
)
_COMMON: dict[str, Any] = {
    "namespace": "sim",
    "topic_partitions": 2,
    "deadlines": DEADLINES,
    "consumer_batch": 20,
    "relay_after_seconds": 2.0,
}
SETTINGS = ServiceSettings(**_COMMON)
NOTIFY = NotifySettings(
    **_COMMON,
    smtp_timeout_seconds=1.0,
    photo_timeout_seconds=0.5,
    delivery_lease_seconds=4,
    mail_retry_seconds=0.3,
    mail_retry_max_seconds=1,
    report_after_seconds=1,
    photo_wait_seconds=1,
    photo_retry_seconds=0.3,
)
SLA = SlaSettings(**_COMMON, alarm_grace_seconds=0.3, alarm_patience_seconds=3, alarm_tick_seconds=0.7)
RULES = Rules(DEADLINES, SLA.grace, SLA.patience)
_SESSION_SECONDS = 0.7
"""After so long without a sign of life the broker gives a member's partitions to others."""

DERIVE: dict[str, tuple[Derive, Sequence[str]]] = {
    "intake": (of_intake.deriving(DEADLINES), of_intake.TAKES),
    "routing": (of_routing.deriving(DEADLINES), of_routing.TAKES),
    "opd": (of_opd.derive, of_opd.TAKES),
    "sla": (of_sla.deriving(RULES), of_sla.TAKES),
}
CONSUMES: dict[str, Sequence[str]] = {
    "intake": of_intake.CONSUMES,
    "routing": of_routing.CONSUMES,
    "opd": of_opd.CONSUMES,
    "notify": of_notify.CONSUMES,
    "sla": of_sla.CONSUMES,
}
ISSUES: dict[str, Sequence[str]] = {
    "intake": of_intake.ISSUES,
    "routing": of_routing.ISSUES,
    "opd": of_opd.ISSUES,
    "notify": of_notify.ISSUES,
    "sla": of_sla.ISSUES,
}

AGENCIES = (PUPR, PERKIM, Agency(code="DLH", name="Dinas Lingkungan Hidup"))


class Plan:
    """What the processes are made of. A control replaces one part by one that breaks a promise."""

    journal: type[Journal] = Journal
    projection: type[Projection] = Projection
    consumer: type[MemoryConsumer] = MemoryConsumer
    publisher: type[BrokerPublisher] = BrokerPublisher
    journal_store: type[MemoryJournal] = MemoryJournal
    documents: type[MemoryDocuments] = MemoryDocuments
    inbox: type[MemoryInbox] = MemoryInbox
    deliveries: type[MemoryDeliveries] = MemoryDeliveries

    def servers(self) -> Servers:
        """Empty databases and a broker with its topics."""
        broker = MemoryBroker()
        broker.create(SETTINGS, [agency.code for agency in AGENCIES])
        return Servers(
            broker,
            {service: self.journal_store() for service in SERVICES},
            {service: self.documents() for service in DERIVE},
            self.inbox(),
            self.deliveries(),
        )


class Complaints:
    """The queries of a service's own collection that its desk uses."""

    def __init__(self, store: MemoryDocuments, kept: MemoryDocuments, projection: Projection) -> None:
        self._store = store
        self._kept = kept
        self._by_id = Together(store.load)
        self.projection = projection

    async def find(self, complaint_id: str) -> Document | None:
        return await self._by_id.get(complaint_id)

    async def lapsed(self, at: datetime, limit: int) -> list[Document]:
        over = [i for i, d in self._kept.documents.items() if d["lapses_at"] and d["lapses_at"] < at]
        return list((await self._store.load(over[:limit])).values())


class Provider:
    """The mail server. ``taken`` is what it said yes to, by delivery."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.taken: dict[str, int] = {}


class Letter:
    """An e-mail, as far as it matters here: which delivery it is of."""

    def __init__(self, delivery: Document) -> None:
        self.delivery_id: str = delivery["_id"]


class Writer:
    """`services.notify.compose.Composer` without the text."""

    sender_address = "no-reply@lapor.example"

    def write(self, delivery: Document, contact: Document, photos: Sequence[bytes] | None) -> Letter:
        return Letter(delivery)


class Courier:
    """`services.notify.smtp.MailConnection` to the simulated provider."""

    def __init__(self, provider: Provider, strand: Strand, in_doubt: set[str]) -> None:
        self._provider = provider
        self._strand = strand
        self._in_doubt = in_doubt

    async def send(self, message: Letter, sender: str, recipient: str) -> None:
        world, name = self._provider.world, message.delivery_id
        await asyncio.sleep(world.latency() / 4)
        draw = world.random.random()
        if world.stormy and draw < 0.1:
            raise NotTaken("smtp-451", permanent=False)
        if world.stormy and draw < 0.12:
            raise NotTaken("smtp-550", permanent=True)
        self._provider.taken[name] = self._provider.taken.get(name, 0) + 1
        self._in_doubt.add(name)
        world.tell(self._strand.name, f"mail {name} taken, time {self._provider.taken[name]}")
        if world.stormy and draw < 0.12 + world.weather.reply_lost:
            world.excuses[name] += 1
            self._in_doubt.discard(name)
            raise NotTaken("smtp-unreachable", permanent=False)
        if world.stormy and draw > 1 - world.weather.crash_after:
            self._strand.doom = world.random.randrange(6)

    async def close(self) -> None:
        """There is nothing to close."""


class Photographs:
    """`services.notify.evidence.Evidence`: photos that now and then cannot be had."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def fetch(self, complaint_id: str, photos: Sequence[Document]) -> list[bytes]:
        await asyncio.sleep(self._world.latency() / 4)
        if self._world.stormy and self._world.random.random() < 0.1:
            raise Unavailable("photos-503")
        return [b"photo" for _ in photos]


class Recorded:
    """The deliveries as a process has them. A record that fails after the provider's yes excuses one repetition."""

    def __init__(self, deliveries: MemoryDeliveries, wire: Wire, in_doubt: set[str]) -> None:
        self._remote = Remote(deliveries, wire)
        self._in_doubt = in_doubt
        self._world = wire.world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._remote, name)

    async def settle(self, results: Any, at: datetime, report_at: datetime) -> None:
        sent = [d["_id"] for d, result in results if isinstance(result, Finish) and result.state == "sent"]
        try:
            await self._remote.settle(results, at, report_at)
        except Exception:
            for name in sent:
                self._world.excuses[name] += 1
            raise
        finally:
            self._in_doubt.difference_update(sent)


class SimulatedLevel(Level):
    """The real look at how far the group is, at the broker in memory."""

    def __init__(self, world: World, wire: Wire) -> None:
        super().__init__(SLA, "sla", of_sla.CONSUMES)
        self._clients = remote(MemoryAdmin(world.servers.broker), wire)

    async def _connected(self) -> Any:
        self._consumer = self._admin = cast(Any, self._clients)
        return self._clients, self._clients


def _defective(handle: Handle) -> Handle:
    async def take(events: Sequence[Event]) -> None:
        for event in events:
            if event.key.startswith(DEFECT):
                raise ValueError("a defect of ours")
        await handle(events)

    return take


@lru_cache(maxsize=1)
def _metrics() -> ClockMetrics:
    return ClockMetrics()


class Process:
    """One running process of a service, from its start to its death."""

    def __init__(self, world: World, plan: Plan, provider: Provider, service: str, name: str) -> None:
        self.world = world
        self.service = service
        self.strand = Strand(name)
        self.context = world.enter(self.strand)
        self.in_doubt: set[str] = set()
        self.waiting: dict[asyncio.Future[Any], None] = {}
        """Requests of clients that are being answered, in order: a set's order would be that of addresses in memory."""
        self._plan = plan
        self._provider = provider
        self.ready = False
        self.database = Wire(world, self.strand, f"mongod-{service}", database_away)
        self.kafka = Wire(world, self.strand, "kafka", broker_away)
        self.broker = RemoteBroker(world.servers.broker, self.kafka)
        self._periodic: list[tuple[float, Callable[[], Awaitable[object]]]] = []
        self.context.run(self._build)

    def _build(self) -> None:
        plan, servers = self._plan, self.world.servers
        publisher = plan.publisher(self.broker, SETTINGS.topic_prefix, self.service, copies=copies)
        store: JournalStore = remote(servers.journals[self.service], self.database)
        build: dict[str, Callable[[Callable[[Sequence[Projecting]], Journal]], Handle]] = {
            "intake": self._intake,
            "routing": self._desk,
            "opd": self._desk,
            "notify": self._notify,
            "sla": self._sla,
        }

        def journal(projections: Sequence[Projecting]) -> Journal:
            sender: EventPublisher = publisher
            relay_after = timedelta(seconds=SETTINGS.relay_after_seconds)
            return plan.journal(store, sender, projections, queue=20, batch=20, relay_after=relay_after)

        handle = _defective(build[self.service](journal))
        self.consumer = plan.consumer(
            self.broker, SETTINGS, self.service, CONSUMES[self.service], handle, publisher, order=self._order
        )
        self.world.spawn(self.context, self._start())

    def _order(self, partitions: list[Any]) -> list[Any]:
        if self.world.stormy:
            self.world.random.shuffle(partitions)
        return partitions

    def _projection(self) -> tuple[MemoryDocuments, Projection]:
        store = remote(self.world.servers.documents[self.service], self.database)
        documents: DocumentStore = store
        derive, takes = DERIVE[self.service]
        return store, self._plan.projection(documents, derive, takes, at_a_time=1)  # so that writes run side by side

    def _desk(self, journal: Callable[[Sequence[Projecting]], Journal]) -> Handle:
        store, projection = self._projection()
        self.complaints = Complaints(store, self.world.servers.documents[self.service], projection)
        self.journal = journal([projection])
        return projection.apply

    def _intake(self, journal: Callable[[Sequence[Projecting]], Journal]) -> Handle:
        handle = self._desk(journal)
        nothing = cast(Any, None)
        no_categories = cast(Path, SimpleNamespace(read_text=lambda encoding: "[]"))
        self.intake = Intake(
            cast(Any, self.complaints), nothing, nothing, self.journal, nothing, nothing, no_categories, nothing,
            DEADLINES, nothing,
        )  # fmt: skip
        self._periodic.append((1.0, self.intake.close_lapsed))
        return handle

    def _notify(self, journal: Callable[[Sequence[Projecting]], Journal]) -> Handle:
        servers = self.world.servers
        deliveries = cast(Any, Recorded(servers.deliveries, self.database, self.in_doubt))
        inbox, citizens = remote(servers.inbox, self.database), remote(servers.citizens, self.database)
        arrivals = Arrivals(
            NOTIFY, cast(Any, inbox), deliveries, cast(Any, citizens),
            wake=lambda: self.outbox.wake(), issue=lambda event: self.outbox.issue(event),
        )  # fmt: skip
        self.journal = journal([arrivals])
        self.outbox = Outbox(
            NOTIFY, deliveries, cast(Any, citizens), self.journal, cast(Any, Writer()),
            cast(Any, Photographs(self.world)),
        )  # fmt: skip
        self._periodic += [(0, self.outbox.turn), (0, self.outbox.record)]
        for _ in range(2):
            courier = Courier(self._provider, self.strand, self.in_doubt)
            self._periodic.append((0, partial(self.outbox.carry, cast(Any, courier))))
        return arrivals.apply

    def _sla(self, journal: Callable[[Sequence[Projecting]], Journal]) -> Handle:
        _, projection = self._projection()
        clocks = remote(MemoryClocks(RULES, self.world.servers.documents["sla"]), self.database)
        self.journal = journal([projection])
        level = SimulatedLevel(self.world, self.kafka)
        ticker = Ticker(cast(Any, clocks), self.journal, level, RULES, _metrics(), SLA.alarm_batch)
        self._periodic.append((SLA.alarm_tick_seconds, ticker.tick))

        return projection.apply

    async def _start(self) -> None:
        """As `shared.service.Service` does it."""
        await self.journal.start()
        await asyncio.sleep(self.world.latency())
        self.world.spawn(self.context, self.consumer.run())
        for interval, step in self._periodic:
            self.world.spawn(self.context, self._repeat(interval, step))
        self.ready = True

    async def _repeat(self, interval: float, step: Callable[[], Awaitable[object]]) -> None:
        while True:
            with suppress(Exception):
                await step()
            await asyncio.sleep(interval)

    def died(self) -> None:
        """What the world notices of its death: clients lose their connection, the broker misses its heartbeat, and
        what the provider has taken is not recorded."""
        self.ready = False
        for name in self.in_doubt:
            self.world.excuses[name] += 1
        for answer in self.waiting:
            if not answer.done():
                answer.set_exception(ConnectionError("the connection was reset"))
        member = self.broker.member
        if member is not None:
            broker = self.world.servers.broker
            self.world.loop.call_later(_SESSION_SECONDS, broker.leave, member, context=self.world.context)

    async def request(self, work: Callable[["Process"], Awaitable[Any]]) -> Any:
        """Have a request answered by this process. Raises ConnectionError where it dies meanwhile."""
        if not (self.ready and self.strand.alive):
            raise ConnectionError("connection refused")
        answer: asyncio.Future[Any] = self.world.loop.create_future()
        self.waiting[answer] = None

        async def serve() -> None:
            try:
                result = await work(self)
            except Exception as error:  # noqa: BLE001 - the client is told what went wrong
                if not answer.done():
                    answer.set_exception(error)
            else:
                if not answer.done():
                    answer.set_result(result)

        self.world.spawn(self.context, serve())
        try:
            return await answer
        finally:
            self.waiting.pop(answer, None)
