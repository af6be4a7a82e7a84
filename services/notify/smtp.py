"""One connection to the mail server (RFC 5321), kept between e-mails, and what its refusals mean."""

import asyncio
import time
from collections.abc import Coroutine
from datetime import timedelta

import aiosmtplib

from services.notify.settings import Settings

_IDLE_SECONDS = 10.0
"""A connection that has rested so long is asked whether it still lives before an e-mail is entrusted to it."""
_INTERNATIONAL = ("SMTPUTF8", "BODY=8BITMIME")
"""What is asked of the server where an address is not in ASCII (RFC 6531)."""
_NOT_ABOUT_THE_MAIL = (421, 530, 534, 535, 538)
"""Replies about the connection or our own sign-in (RFC 5321 section 4.2.2, RFC 4954 section 6): they pass, once an
operator has seen to it."""


class NotTaken(Exception):
    """The e-mail was not taken; ``permanent``: nor will it be. ``reason`` is a name, never the server's own words,
    which may hold an address."""

    def __init__(self, reason: str, *, permanent: bool) -> None:
        super().__init__(reason)
        self.reason, self.permanent = reason, permanent


class MailConnection:
    """A connection that is opened when it is needed, and anew when it has broken."""

    def __init__(self, settings: Settings) -> None:
        self._timeout = settings.smtp_timeout_seconds
        password = settings.smtp_password
        self._client = aiosmtplib.SMTP(
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            username=settings.smtp_username,
            password=password.get_secret_value() if password else None,
            timeout=self._timeout,
            cert_bundle=str(settings.smtp_ca_file) if settings.smtp_ca_file else None,
            use_tls=settings.smtp_tls == "implicit",
            start_tls={"if-offered": None, "starttls": True, "implicit": False, "none": False}[settings.smtp_tls],
        )
        self._used_at = 0.0

    async def send(self, message: bytes, sender: str, recipient: str) -> None:
        """Hand over one e-mail; when it returns, the server has taken it (its 250 to the data). Raises `NotTaken`."""
        options = () if (sender + recipient).isascii() else _INTERNATIONAL
        try:
            async with asyncio.timeout(self._timeout):
                await self._ready()
                await self._client.sendmail(sender, [recipient], message, mail_options=options)
        except Exception as error:
            refusal = _meaning(error)
            if refusal is None:
                raise
            if not refusal.permanent:
                await self.close()
            raise refusal from None
        self._used_at = time.monotonic()

    async def _ready(self) -> None:
        if self._client.is_connected and time.monotonic() - self._used_at > _IDLE_SECONDS:
            try:
                await self._client.noop()
            except (aiosmtplib.SMTPException, OSError):
                self._client.close()
        if not self._client.is_connected:
            await self._client.connect()

    async def close(self) -> None:
        """Take leave of the server, if there is one."""
        if self._client.is_connected:
            try:
                async with asyncio.timeout(1):
                    await self._client.quit()
            except (aiosmtplib.SMTPException, OSError, TimeoutError):
                self._client.close()


async def to_its_end(sending: Coroutine[None, None, None], within: timedelta) -> None:
    """Send, and write down what became of it, though the caller is cancelled meanwhile: at a shutdown an e-mail that
    the server may have taken is not left unrecorded, or it would be sent again."""
    task = asyncio.create_task(sending)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=within.total_seconds())
        raise


def _meaning(error: Exception) -> NotTaken | None:
    match error:
        case aiosmtplib.SMTPRecipientsRefused():
            return _reply(error.recipients[0].code)
        case aiosmtplib.SMTPConnectError():  # a greeting of 554 is about the server, not about this e-mail
            return NotTaken("smtp-unreachable", permanent=False)
        case aiosmtplib.SMTPHeloError():
            return NotTaken(f"smtp-{error.code}", permanent=False)
        case aiosmtplib.SMTPResponseException():
            return _reply(error.code)
        case aiosmtplib.SMTPNotSupported():  # an address outside ASCII, and a server without SMTPUTF8 (RFC 6531)
            return NotTaken("smtp-not-supported", permanent=True)
        case aiosmtplib.SMTPException() | OSError() | TimeoutError():
            return NotTaken("smtp-unreachable", permanent=False)
        case _:
            return None


def _reply(code: int) -> NotTaken:
    return NotTaken(f"smtp-{code}", permanent=500 <= code < 600 and code not in _NOT_ABOUT_THE_MAIL)
