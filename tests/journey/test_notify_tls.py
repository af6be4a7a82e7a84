"""E-mail over an encrypted connection, with sign-in, to a real SMTP server."""

import asyncio
import ssl
from email.message import EmailMessage
from email.policy import SMTPUTF8
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from pydantic import SecretStr

from deploy.local.ports import LOOPBACK, free_ports
from services.notify.settings import Settings
from services.notify.smtp import MailConnection, NotTaken
from tests.support.locked import Authority, authority
from tests.support.mail import Mailbox, mail_server

USER, PASSWORD = "lapor", "kata-sandi-surel"


def check(server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any) -> AuthResult:
    right = isinstance(given, LoginPassword) and (given.login, given.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=right, handled=False)


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return authority(tmp_path, "ours")


def settings_for(port: int, ours: Authority, **changes: Any) -> Settings:
    plain = Settings(
        smtp_host=LOOPBACK, smtp_port=port, smtp_tls="starttls", smtp_username=USER, smtp_ca_file=ours.ca_file,
        smtp_password=SecretStr(PASSWORD), smtp_timeout_seconds=5,
    )  # fmt: skip
    return plain.model_copy(update=changes)


async def mailed(settings: Settings, recipient: str = "siti@warga.example") -> str:
    """Empty if the server took a letter; otherwise why not."""
    letter = EmailMessage()
    letter["From"], letter["To"], letter["Subject"] = "a@lapor.example", recipient, "Laporan diterima"
    letter.set_content("Terima kasih.")
    connection = MailConnection(settings)
    try:
        await connection.send(letter.as_bytes(policy=SMTPUTF8), "a@lapor.example", recipient)
    except NotTaken as refusal:
        return f"{refusal.reason}, for good" if refusal.permanent else refusal.reason
    finally:
        await connection.close()
    return ""


async def test_starttls_and_sign_in(ours: Authority, tmp_path: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(ours.cert_file)
    mailbox, (port,) = Mailbox(), free_ports(1)
    locked = {"tls_context": context, "require_starttls": True, "auth_required": True, "authenticator": check}
    async with mail_server(port, mailbox, **locked):
        assert await mailed(settings_for(port, ours)) == ""
        assert await mailed(settings_for(port, ours, smtp_tls="if-offered")) == ""
        assert len(mailbox.messages) == 2
        assert await mailed(settings_for(port, ours, smtp_password=SecretStr("salah"))) == "smtp-535"
        assert await mailed(settings_for(port, ours, smtp_username=None, smtp_password=None)) == "smtp-530"
        other = authority(tmp_path, "other").ca_file
        assert await mailed(settings_for(port, ours, smtp_ca_file=other)) == "smtp-unreachable"
        assert await mailed(settings_for(port, ours, smtp_host="localhost")) == "smtp-unreachable", "another name"
        assert len(mailbox.messages) == 2


async def test_a_server_that_does_not_encrypt_is_not_given_the_password(ours: Authority) -> None:
    """What `starttls` promises: somebody in between cannot talk the connection down to plain text."""
    mailbox, (port,) = Mailbox(), free_ports(1)
    offered: list[str] = []

    def note(server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any) -> AuthResult:
        offered.append(mechanism)
        return AuthResult(success=True)

    async with mail_server(port, mailbox, authenticator=note, auth_require_tls=False):
        assert await mailed(settings_for(port, ours)) == "smtp-unreachable"
        assert offered == []
        assert mailbox.messages == []


async def test_implicit_tls(ours: Authority) -> None:

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(ours.cert_file)
    mailbox, (port,) = Mailbox(), free_ports(1)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(mailbox, hostname="localhost", loop=loop), LOOPBACK, port, ssl=context
    )
    async with server:
        implicit = settings_for(port, ours, smtp_tls="implicit", smtp_username=None, smtp_password=None)
        assert await mailed(implicit) == ""
    assert len(mailbox.messages) == 1


@pytest.mark.parametrize(("known", "answer"), [(True, ""), (False, "smtp-not-supported, for good")])
async def test_an_address_outside_ascii_goes_to_servers_that_know_of_them(
    ours: Authority, known: bool, answer: str
) -> None:
    mailbox, (port,) = Mailbox(), free_ports(1)
    recipients: list[str] = []
    mailbox.on_recipient = recipients.append
    plain = settings_for(port, ours, smtp_tls="none", smtp_username=None, smtp_password=None)
    async with mail_server(port, mailbox, enable_SMTPUTF8=known):
        assert await mailed(plain, "siti@wargâ.example") == answer
    assert recipients == (["siti@wargâ.example"] if known else [])
