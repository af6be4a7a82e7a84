"""One-time codes on their way: notify alone on real servers, and a real mail server that comes and goes."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from deploy.local.ports import free_ports
from deploy.local.servers import Servers
from services.notify.app import build
from services.notify.settings import Settings
from services.notify.smtp import MailConnection
from shared import topics
from shared.codes import OneTimeCodes
from shared.events import CitizenCode, now
from shared.storage import Database
from tests.journey.test_notify_api import settings_for
from tests.support.mail import Mailbox, mail_server
from tests.support.profile import profiled
from tests.support.running import publish, running, until


@pytest.fixture
async def settings(servers: Servers, namespace: str, tmp_path: Path) -> Settings:
    (tmp_path / "code-key").write_bytes(secrets.token_bytes(32))
    made = settings_for(
        servers, namespace, free_ports(1)[0], code_key_file=tmp_path / "code-key", sms_domain="sms.example"
    )
    await topics.create(made)
    return made


@asynccontextmanager
async def notifying(settings: Settings) -> AsyncIterator[Database]:
    """The service at work; its database."""
    async with profiled(settings, "notify") as database, running(build(settings)):
        yield database


def asked(purpose: str = "sign_in", **changes: Any) -> CitizenCode:
    challenge = secrets.token_urlsafe(16)
    fields: dict[str, Any] = {
        "purpose": purpose,
        "channel": "email",
        "address": f"{secrets.token_hex(5)}@warga.example",
        "language": "id",
        "expires_at": now() + timedelta(minutes=10),
    }
    return CitizenCode(id=f"code:{challenge}", occurred_at=now(), challenge_id=challenge, **fields | changes)


def to(mailbox: Mailbox, recipient: str) -> list[EmailMessage]:
    return [mail for mail in mailbox.messages if recipient in str(mail["To"])]


async def sent(mailbox: Mailbox, recipient: str) -> EmailMessage:
    async def look() -> list[EmailMessage]:
        return to(mailbox, recipient)

    return (await until(look))[0]


async def test_a_code_comes_once_and_its_address_is_forgotten(settings: Settings) -> None:
    mailbox, code = Mailbox(), asked()
    english, phone = asked("register", language="en"), asked("contact", channel="sms", address="+628130000111")
    taken, changed = asked("taken"), asked("password_changed")
    late, nobody = asked(expires_at=now() - timedelta(seconds=1)), asked(channel="none", address="")
    everything = [code, english, phone, taken, changed, late, nobody]
    digits = OneTimeCodes(settings.code_key_file)
    async with mail_server(settings.smtp_port, mailbox), notifying(settings) as database:
        await publish(settings, [*everything, *everything])
        mail = await sent(mailbox, code.address)
        assert f"Kode masuk LAPOR! Pontianak Anda: {digits.code(code.challenge_id)}." in mail.get_content()
        assert "pukul" in mail.get_content(), "until when it is good"
        assert digits.code(english.challenge_id) in (await sent(mailbox, english.address)).get_content()
        sms = (await sent(mailbox, "628130000111@sms.example")).get_content()
        assert digits.code(phone.challenge_id) in sms
        assert len(sms) <= 160 + 1, "one SMS"
        for told in (taken, changed):
            content = (await sent(mailbox, told.address)).get_content()
            assert not re.search(r"\d{6}", content), "it carries no code"

        async def forgotten() -> bool:
            kept = await database["codes"].find({"_id": {"$gte": ""}}).to_list(100)
            return len(kept) == 5 and not any("address" in one for one in kept)

        await until(forgotten)
        await publish(settings, everything)
        await asyncio.sleep(2)
        assert len(mailbox.messages) == 5, "each once, and none that has expired"
        for kept in await database["codes"].find({"_id": {"$gte": ""}}).to_list(100):
            assert "address" not in kept
            assert digits.code(kept["_id"]) not in repr(kept)


async def test_a_code_waits_for_the_mail_server_and_not_beyond_its_time(settings: Settings) -> None:
    mailbox, code, short = Mailbox(), asked(), asked(expires_at=now() + timedelta(seconds=4))
    async with notifying(settings) as database:
        await publish(settings, [code, short])

        async def tried() -> bool:
            found = await database["codes"].find({"_id": {"$in": [code.challenge_id, short.challenge_id]}}).to_list(2)
            return len(found) == 2 and all(one["attempts"] for one in found)

        await until(tried)
        await asyncio.sleep(4)
        async with mail_server(settings.smtp_port, mailbox):
            await sent(mailbox, code.address)
            await asyncio.sleep(3)
        assert to(mailbox, short.address) == []


async def test_an_address_that_the_mail_server_refuses_is_given_up(settings: Settings) -> None:
    mailbox, code, after = Mailbox(), asked(), asked()
    mailbox.on_recipient = lambda address: "550 no such user" if address == code.address else None
    async with mail_server(settings.smtp_port, mailbox), notifying(settings) as database:
        await publish(settings, [code])

        async def given_up() -> bool:
            return await database["codes"].find_one({"_id": code.challenge_id, "open": False}) is not None

        await until(given_up)
        await publish(settings, [after])
        await sent(mailbox, after.address)


async def test_a_shutdown_lets_a_code_be_taken_and_records_it(settings: Settings) -> None:
    mailbox, code, being_taken = Mailbox(), asked(), asyncio.Event()
    mailbox.on_data = lambda _: being_taken.set()
    async with mail_server(settings.smtp_port, mailbox), profiled(settings, "notify") as database:
        async with running(build(settings)):
            await publish(settings, [code])
            await being_taken.wait()
        assert await database["codes"].count_documents({"_id": code.challenge_id, "open": False}) == 1
    assert len(mailbox.messages) == 1


async def test_an_error_in_sending_shows_no_address(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = asked()

    async def broken(*_: Any) -> None:
        raise RuntimeError(f"what becomes of {code.address}?")

    monkeypatch.setattr(MailConnection, "send", broken)
    async with notifying(settings):
        await publish(settings, [code])
        await asyncio.sleep(2)
    out = capsys.readouterr()
    assert "RuntimeError" in out.out + out.err
    assert code.address not in out.out + out.err
