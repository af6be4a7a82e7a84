"""What became of an e-mail is recorded however long the database is away meanwhile, and nobody gets it again."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from pymongo.errors import AutoReconnect

from deploy.local.ports import LOOPBACK, free_ports
from services.notify.compose import Composer
from services.notify.desk import Finish, Wait
from services.notify.outbox import _UNRECORDED, Outbox
from services.notify.projection import project
from services.notify.settings import Settings
from services.notify.smtp import MailConnection
from services.notify.texts import Texts
from shared.calendar import Deadlines
from shared.events import CitizenContact, Event, now
from shared.projection import Document
from tests.support.events import Chain
from tests.support.mail import Mailbox, mail_server
from tests.support.memory_notify import MemoryCitizens, MemoryDeliveries

COUNT, COURIERS, MANY = 5, 2, 30
FEW = 3
"""Sent twice, they are fewer than may be out unrecorded."""


class Deliveries(MemoryDeliveries):
    """Which cannot be settled while they are ``away``."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.refused = 0
        self.settled: list[int] = []

    async def settle(
        self, results: Sequence[tuple[Document, Finish | Wait]], at: datetime, report_at: datetime
    ) -> None:
        if self.away:
            self.refused += 1
            raise AutoReconnect("the database is away")
        self.settled += [len(results)] if results else []
        await super().settle(results, at, report_at)


class Issued:
    """The journal, as far as an outbox uses it."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def append(self, event: Event) -> None:
        self.events.append(event)


async def waiting(count: int) -> tuple[Deliveries, MemoryCitizens]:
    """Receipts that are to go out, one for each citizen."""
    deliveries, citizens = Deliveries(), MemoryCitizens()
    chains = [Chain(at=now()) for _ in range(count)]
    made = project([event for chain in chains for event in chain.events], now(), Deadlines(), timedelta(minutes=1))
    await deliveries.add(made.deliveries)
    for number, chain in enumerate(chains):
        contact = CitizenContact(
            id=f"{chain.reporter_id}:1", occurred_at=now(), citizen_id=chain.reporter_id, version=1, name="Siti",
            email=f"siti{number}@warga.example", phone=None, language="id",
        )  # fmt: skip
        await citizens.keep([contact])
    return deliveries, citizens


@asynccontextmanager
async def at_work(outbox: Outbox, settings: Settings) -> AsyncIterator[None]:
    """Couriers send what was leased."""
    connections = [MailConnection(settings) for _ in range(COURIERS)]

    async def carry(connection: MailConnection) -> None:
        while True:
            await outbox.carry(connection)

    couriers = [asyncio.create_task(carry(connection)) for connection in connections]
    yield
    for courier in couriers:
        courier.cancel()
    await asyncio.gather(*couriers, return_exceptions=True)
    for connection in connections:
        await connection.close()


def outbox_of(
    deliveries: Deliveries, citizens: MemoryCitizens, journal: Issued, **given: Any
) -> tuple[Outbox, Settings]:
    """An outbox that sends to a free port."""
    (port,) = free_ports(1)
    settings = Settings(smtp_host=LOOPBACK, smtp_port=port, smtp_tls="none", **{"smtp_timeout_seconds": 5, **given})
    composer = Composer(Texts(), "LAPOR! <no-reply@lapor.example>", "")
    nothing = cast(Any, None)
    outbox = Outbox(settings, cast(Any, deliveries), cast(Any, citizens), cast(Any, journal), composer, nothing)
    return outbox, settings


def when(mailbox: Mailbox, count: int) -> asyncio.Event:
    """Set once the server is asked to take the last of so many."""
    reached = asyncio.Event()
    mailbox.on_data = lambda _: reached.set() if len(mailbox.messages) + 1 == count else None
    return reached


@pytest.mark.parametrize("how", ["record", "release"])
async def test_what_could_not_be_recorded_is_recorded_later_at_once_and_sent_once(how: str) -> None:
    (deliveries, citizens), journal, mailbox = await waiting(COUNT), Issued(), Mailbox()
    outbox, settings = outbox_of(deliveries, citizens, journal)
    all_sent = when(mailbox, COUNT)
    async with mail_server(settings.smtp_port, mailbox):
        await outbox.turn()
        async with at_work(outbox, settings), asyncio.timeout(10):
            await all_sent.wait()
            await asyncio.sleep(0.1)  # until the last courier has heard the server's yes
        assert deliveries.settled == [], "a courier waits for nothing that is recorded"
        deliveries.away = True
        for _ in range(3):
            with pytest.raises(AutoReconnect):
                await outbox.record()
        assert {one["state"] for one in deliveries.deliveries.values()} == {"sending"}
        deliveries.away = False
        await (outbox.record() if how == "record" else outbox.release())
        assert deliveries.refused == 3
        assert deliveries.settled == [COUNT], "all in one write"
        assert {one["state"] for one in deliveries.deliveries.values()} == {"sent"}
        await outbox.turn()
    assert len(mailbox.messages) == COUNT
    assert len({event.id for event in journal.events}) == len(journal.events) == COUNT


async def test_while_nothing_can_be_recorded_few_are_sent() -> None:
    (deliveries, citizens), mailbox = await waiting(MANY), Mailbox()
    outbox, settings = outbox_of(deliveries, citizens, Issued())
    few = when(mailbox, _UNRECORDED)
    async with mail_server(settings.smtp_port, mailbox):
        await outbox.turn()
        async with at_work(outbox, settings), asyncio.timeout(20):
            await few.wait()
            await asyncio.sleep(0.3)
            assert _UNRECORDED <= len(mailbox.messages) < _UNRECORDED + COURIERS
            all_sent = when(mailbox, MANY)
            while not all_sent.is_set():
                await outbox.record()
    assert len({message["To"] for message in mailbox.messages}) == len(mailbox.messages) == MANY


async def test_an_outage_longer_than_a_lease_repeats_nothing() -> None:
    (deliveries, citizens), mailbox, lease = await waiting(COUNT), Mailbox(), 3.0
    short = {"smtp_timeout_seconds": 0.5, "photo_timeout_seconds": 0.1, "delivery_lease_seconds": lease}
    outbox, settings = outbox_of(deliveries, citizens, Issued(), **short)
    all_sent = when(mailbox, COUNT)
    async with mail_server(settings.smtp_port, mailbox):
        await outbox.turn()
        async with at_work(outbox, settings), asyncio.timeout(10):
            await all_sent.wait()
            await asyncio.sleep(lease + 0.1)
            await outbox.turn()  # before it is recorded
            await asyncio.sleep(0.3)
            await outbox.record()
    assert {one["state"] for one in deliveries.deliveries.values()} == {"sent"}
    assert len(mailbox.messages) == COUNT


async def test_what_was_not_taken_is_sent_by_who_leases_it_next() -> None:
    (deliveries, citizens), mailbox, lease = await waiting(FEW), Mailbox(), 3.0
    short = {"smtp_timeout_seconds": 0.5, "photo_timeout_seconds": 0.1, "delivery_lease_seconds": lease}
    outbox, settings = outbox_of(deliveries, citizens, Issued(), **short)
    mailbox.on_data = lambda _: "451 later"
    async with mail_server(settings.smtp_port, mailbox):
        await outbox.turn()
        async with at_work(outbox, settings), asyncio.timeout(15):
            await asyncio.sleep(lease + 0.1)
            assert mailbox.messages == []
            all_sent = when(mailbox, FEW)
            await outbox.turn()  # before the refusals are recorded
            await all_sent.wait()
