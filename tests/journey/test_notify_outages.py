"""The notify service when the mail server or a process of its own is gone: nothing is lost, and what is sent again can
be recognised."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage

import pytest

from deploy.local.ports import free_ports
from deploy.local.servers import Servers
from services.notify.settings import Settings
from shared import topics
from shared.events import Answered, NotificationDelivered
from shared.sop import Role
from tests.journey.test_notify_api import (
    TO_STEP_5,
    begun,
    contact_of,
    notifying,
    settings_for,
)
from tests.support.mail import Mailbox, mail_server
from tests.support.running import publish, read_topics, until


@pytest.fixture
async def settings(servers: Servers, namespace: str) -> Settings:
    made = settings_for(servers, namespace, free_ports(1)[0], report_after_seconds=1)
    await topics.create(made)
    return made


@asynccontextmanager
async def process(settings: Settings) -> AsyncIterator[asyncio.subprocess.Process]:
    """The service as a process of its own; killed at the end if it is still there."""
    environment = {
        f"LAPOR_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in settings.model_dump(mode="json", exclude={"deadlines"}).items()
        if value is not None
    }
    environment["LAPOR_PORT"] = str(free_ports(1)[0])
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.notify", env={**os.environ, **environment}
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def test_the_mail_server_is_down_and_comes_back(settings: Settings) -> None:
    chain, mailbox = begun(*TO_STEP_5), Mailbox()
    async with notifying(settings) as notify:
        await notify.tell(contact_of(chain), *chain.events)
        waiting = await notify.finished(chain, "receipt", "reply", state="pending")
        assert waiting["receipt"]["reason"] in (None, "smtp-unreachable")

        async def receipt() -> list[NotificationDelivered]:
            found = await notify.issued(chain, NotificationDelivered.topic)
            return [e for e in found if e.notice == "receipt"]

        (early,) = await until(receipt)
        assert early.channels == ("inbox",), "the clock of step 1 is met though the e-mail is not out"
        assert not await notify.issued(chain, Answered.topic), "the reply has not gone out by every channel"
        async with mail_server(settings.smtp_port, mailbox):
            await notify.finished(chain, "receipt", "reply")

            async def answered() -> list[Answered]:
                return await notify.issued(chain, Answered.topic)

            (answer,) = await until(answered)
            assert answer.channels == ("inbox", "email")
            assert len(mailbox.about(chain.complaint_id)) == 5
        assert len(await receipt()) == 1


async def test_an_e_mail_that_is_never_taken_is_given_up(settings: Settings) -> None:
    patience = settings.model_copy(update={"mail_give_up_hours": 1 / 3600})
    chain = begun(*TO_STEP_5)
    async with notifying(patience) as notify:
        await notify.tell(contact_of(chain), *chain.events)
        failed = await notify.finished(chain, "receipt", "reply", state="failed")
        assert failed["receipt"]["reason"] == "smtp-unreachable"

        async def answered() -> list[Answered]:
            return await notify.issued(chain, Answered.topic)

        (answer,) = await until(answered)
        assert answer.channels == ("inbox",)


async def test_a_crash_between_send_and_mark_sends_again_under_the_same_message_id(settings: Settings) -> None:
    chain, mailbox, doomed = begun(), Mailbox(), asyncio.Event()
    taken: list[str] = []
    async with mail_server(settings.smtp_port, mailbox):
        async with process(settings) as child:

            def kill(message: EmailMessage) -> None:
                taken.append(str(message["Message-ID"]))
                if not doomed.is_set():
                    child.send_signal(signal.SIGKILL)  # it has sent the last byte, and hears no more
                    doomed.set()

            mailbox.on_data = kill
            await publish(settings, [contact_of(chain), *chain.events])
            await asyncio.wait_for(doomed.wait(), 30)
            await child.wait()
        async with notifying(settings) as notify:
            delivery = (await notify.finished(chain, "receipt"))["receipt"]
            assert delivery["attempts"] == 2
            assert len(taken) == 2
            assert len(set(taken)) == 1
            metrics = (await notify.client.get("/metrics")).text
            assert 'lapor_deliveries_total{channel="email",outcome="repeated"}' in metrics
            assert len(await notify.inbox(Role.CITIZEN, chain.reporter_id)) == 1


async def test_two_processes_share_the_work_and_a_polite_stop_sends_nothing_twice(settings: Settings) -> None:
    chains, mailbox = [begun() for _ in range(60)], Mailbox()
    events = [e for chain in chains for e in (contact_of(chain), *chain.events)]
    async with mail_server(settings.smtp_port, mailbox):
        async with process(settings) as first, process(settings):
            await publish(settings, events)
            await until(lambda: _at_least(mailbox, 10), within=40)
            first.send_signal(signal.SIGTERM)
            await asyncio.wait_for(first.wait(), 20)
            await until(lambda: _at_least(mailbox, 60), within=30)
            await asyncio.sleep(6)  # leases end within 3 s, and what was finished unreported is taken up after 5 s
        ids = [str(m["Message-ID"]) for m in mailbox.messages]
        assert len(ids) == len(set(ids)) == 60
        delivered = await read_topics(settings, NotificationDelivered.topic)
        assert len(delivered) == len({e.id for e in delivered}) == 60


async def _at_least(mailbox: Mailbox, count: int) -> bool:
    return len(mailbox.messages) >= count
