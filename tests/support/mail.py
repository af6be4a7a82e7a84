"""A real SMTP server in the test's own process, whose refusals, delays and absences the test decides."""

import asyncio
import email
import email.policy
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from deploy.local.ports import LOOPBACK


class Mailbox:
    """What the server has taken. `on_recipient` and `on_data` may answer otherwise: a reply such as ``451 later``."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.connections = 0
        self.on_recipient: Callable[[str], str | None] = lambda _: None
        self.on_data: Callable[[EmailMessage], str | None] = lambda _: None

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if refusal := self.on_recipient(address):
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        if refusal := self.on_data(message):
            return refusal
        self.messages.append(message)
        return "250 OK"

    def about(self, complaint_id: str) -> list[EmailMessage]:
        """The e-mails about one complaint, as they came."""
        return [message for message in self.messages if complaint_id in str(message["References"])]


@asynccontextmanager
async def mail_server(port: int, mailbox: Mailbox, **options: Any) -> AsyncIterator[None]:
    """SMTP on loopback while the context lasts; ``options`` are aiosmtpd's."""

    def protocol() -> Any:
        mailbox.connections += 1
        return SMTP(mailbox, hostname="localhost", loop=loop, **{"enable_SMTPUTF8": True, **options})

    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, LOOPBACK, port)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


def plain_text(message: EmailMessage) -> str:
    """The text part of an e-mail."""
    part = message.get_body(("plain",))
    assert part is not None
    content: str = part.get_content()
    return content
