"""What became of an e-mail is recorded however long the database is away meanwhile, and nobody gets it again."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from pymongo.errors import AutoReconnect

from deploy.local.ports import LOOPBACK, free_ports
from services.notify.compose import Composer
from services.notify.desk import Finish, Wait
from services.notify.outbox import Outbox
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

COUNT = 5


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


@pytest.fixture
async def waiting() -> tuple[Deliveries, MemoryCitizens]:
    """Receipts that are to go out, one for each citizen."""
    deliveries, citizens = Deliveries(), MemoryCitizens()
    chains = [Chain(at=now()) for _ in range(COUNT)]
    made = project([event for chain in chains for event in chain.events], now(), Deadlines(), timedelta(minutes=1))
    await deliveries.add(made.deliveries)
    for number, chain in enumerate(chains):
        contact = CitizenContact(
            id=f"{chain.reporter_id}:1", occurred_at=now(), citizen_id=chain.reporter_id, version=1, name="Siti",
            email=f"siti{number}@warga.example", phone=None, language="id",
        )  # fmt: skip
        await citizens.keep([contact])
    return deliveries, citizens


async def until_sent(outbox: Outbox, settings: Settings, mailbox: Mailbox) -> None:
    """Two couriers send all that waits."""
    connections, all_sent = [MailConnection(settings) for _ in range(2)], asyncio.Event()
    mailbox.on_data = lambda _: all_sent.set() if len(mailbox.messages) + 1 == COUNT else None

    async def carry(connection: MailConnection) -> None:
        while True:
            await outbox.carry(connection)

    await outbox.turn()
    couriers = [asyncio.create_task(carry(connection)) for connection in connections]
    async with asyncio.timeout(10):
        await all_sent.wait()
    await asyncio.sleep(0.1)  # until the last courier has heard the server's yes
    for courier in couriers:
        courier.cancel()
    await asyncio.gather(*couriers, return_exceptions=True)
    for connection in connections:
        await connection.close()


@pytest.mark.parametrize("how", ["turn", "release"])
async def test_what_could_not_be_recorded_is_recorded_later_at_once_and_sent_once(
    waiting: tuple[Deliveries, MemoryCitizens], how: str
) -> None:
    (deliveries, citizens), journal, mailbox, (port,) = waiting, Issued(), Mailbox(), free_ports(1)
    settings = Settings(smtp_host=LOOPBACK, smtp_port=port, smtp_tls="none", smtp_timeout_seconds=5)
    composer = Composer(Texts(), "LAPOR! <no-reply@lapor.example>", "")
    outbox = Outbox(settings, cast(Any, deliveries), cast(Any, citizens), cast(Any, journal), composer, cast(Any, None))
    async with mail_server(port, mailbox):
        await until_sent(outbox, settings, mailbox)
        assert deliveries.settled == [], "a courier waits for nothing that is recorded"
        deliveries.away = True
        for _ in range(3):
            with pytest.raises(AutoReconnect):
                await outbox.turn()
        assert {one["state"] for one in deliveries.deliveries.values()} == {"sending"}
        deliveries.away = False
        await (outbox.turn() if how == "turn" else outbox.release())
        assert deliveries.refused == 3
        assert deliveries.settled == [COUNT], "all in one write"
        assert {one["state"] for one in deliveries.deliveries.values()} == {"sent"}
        await outbox.turn()
    assert len(mailbox.messages) == COUNT
    assert len({event.id for event in journal.events}) == len(journal.events) == COUNT
