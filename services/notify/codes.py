"""One-time codes on their way: from the topic into a collection, and from there to the mail server at once.

They wait for no other e-mail and have connections of their own. A crash while one is being sent sends it again under
the same Message-ID; nothing is sent after it has expired. Phones are reached by the gateway that turns e-mails into
SMS.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

import structlog
from prometheus_client import Counter

from services.notify.code_store import CodeStore
from services.notify.compose import BadAddress, Composer
from services.notify.settings import Settings
from services.notify.smtp import MailConnection, NotTaken, to_its_end
from services.notify.texts import Texts
from shared.codes import OneTimeCodes
from shared.events import CitizenCode, Event, now
from shared.projection import Document

log = structlog.get_logger()

CODES = Counter("lapor_codes_total", "Messages about sign-in, by what became of a try to send them.", ["outcome"])
CODES.labels("sent"), CODES.labels("retried"), CODES.labels("failed")

CARRIERS = 2
_LOOK_SECONDS = 1.0
_LONGEST_PAUSE = timedelta(seconds=30)


class Codes:
    """The codes at work in one process."""

    def __init__(self, settings: Settings, store: CodeStore, texts: Texts, composer: Composer) -> None:
        self._codes = OneTimeCodes(settings.code_key_file)
        self._sms_domain = settings.sms_domain
        self._lease = timedelta(seconds=settings.smtp_timeout_seconds * 2)
        self._store = store
        self._texts = texts
        self._composer = composer
        self._news = asyncio.Event()

    async def take(self, events: Sequence[Event]) -> None:
        """Keep what is to be sent of ``events``; any of them may come again."""
        codes = [event for event in events if isinstance(event, CitizenCode) and event.channel != "none"]
        if codes and await self._store.keep(codes, now()):
            self._news.set()

    async def carry(self, connection: MailConnection) -> None:
        """Send what is due next, or wait a moment for news. A shutdown lets it come to its end."""
        at = now()
        code = await self._store.lease(at, at + self._lease)
        if code is None:
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._news.wait()
            return
        await to_its_end(self._deliver(code, connection), self._lease)

    async def _deliver(self, code: Document, connection: MailConnection) -> None:
        outcome = await self._send(code, connection)
        CODES.labels(outcome).inc()
        if outcome == "retried":
            await self._store.later(code["_id"], now() + min(timedelta(seconds=2 ** code["attempts"]), _LONGEST_PAUSE))
        else:
            await self._store.done(code["_id"])

    async def _send(self, code: Document, connection: MailConnection) -> str:
        recipient: str = code["address"]
        if code["channel"] == "sms":
            if self._sms_domain is None:
                log.error("a code for a phone cannot be sent: set LAPOR_SMS_DOMAIN")
                return "failed"
            recipient = f"{recipient.lstrip('+')}@{self._sms_domain}"
        try:
            digits = self._codes.code(code["_id"])
            text = self._texts.about_sign_in(code["purpose"], code["language"], digits, code["expires_at"])
            message = self._composer.bare(
                text, code["language"], recipient, code["_id"], short=code["channel"] == "sms"
            )
            await connection.send(message, self._composer.sender_address, recipient)
        except BadAddress:
            return "failed"
        except NotTaken as refusal:
            log.warning("a code was not taken", reason=refusal.reason)
            return "failed" if refusal.permanent else "retried"
        except Exception as error:  # noqa: BLE001 - its words may hold an address: they go nowhere
            log.error("a code could not be written or sent", kind=type(error).__name__)
            return "retried"
        return "sent"
