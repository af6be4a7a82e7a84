"""An e-mail as a whole: headers, plain text, HTML, and the photos inside it (RFC 5322, RFC 2045, RFC 2387).

It is put together by the older classes of the standard library's `email`, whose parts are what they are given: the
newer `EmailMessage` parses each header that it is given and again each that it makes, which took four times as long.
"""

import secrets
from collections.abc import Sequence
from email.charset import QP, Charset
from email.errors import MessageError
from email.header import Header
from email.headerregistry import Address
from email.message import Message
from email.mime.image import MIMEImage
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.policy import compat32
from email.utils import formataddr, formatdate, parseaddr, quote

from services.notify.texts import Language, Photos, Text, Texts, one_line
from shared.projection import Document

_AS_SENT = compat32.clone(linesep="\r\n")
_TEXT = Charset("utf-8")
_TEXT.body_encoding = QP  # no line is too long for a server, and a person can read it


class BadAddress(ValueError):
    """The address cannot be one."""


def message_id(delivery: Document, domain: str) -> str:
    """The Message-ID: the same at each try, so that a repeat is recognised as one."""
    return f"<{delivery['about'].replace(':', '.')}.{delivery['notice']}@{domain}>"


class Composer:
    """Writes the e-mails of one sender."""

    def __init__(self, texts: Texts, sender: str, report_link: str) -> None:
        name, address = parseaddr(sender)
        self._texts = texts
        self._sender = _mailbox(name, address)
        self._domain = address.rpartition("@")[2]
        self._link = report_link
        self.sender_address = address

    def write(self, delivery: Document, contact: Document, photos: Sequence[bytes] | None) -> bytes:
        """The e-mail of a delivery, as it goes to the server. ``photos`` are JPEG; None: there are some, and they could
        not be had. Raises `BadAddress`."""
        language: Language = contact["language"]
        number, domain = delivery["number"], self._domain
        where: Photos = "elsewhere" if photos is None else "attached" if photos else "with_report"
        text = self._texts.notice(delivery["notice"], language, number, delivery["facts"], where)
        content_ids = tuple(f"{delivery['about'].replace(':', '.')}.{n}@{domain}" for n in range(len(photos or ())))
        link = self._link.replace("{number}", number)
        mail = self._texts.mail(text, language, contact["name"], link, content_ids)

        page: Message = _text(mail.html, "html")
        if photos:
            images = [
                _image(photo, content_id, f"{number}-{index}.jpg")
                for index, (content_id, photo) in enumerate(zip(content_ids, photos, strict=True), 1)
            ]
            page = _parts("related", page, *images)
            page.set_param("type", "text/html")
        message = _parts("alternative", _text(mail.plain, "plain"), page)
        message["References"] = f"<{delivery['complaint_id']}@{domain}>"  # one thread per report
        recipient = _mailbox(contact["name"], contact["email"])
        return self._addressed(message, recipient, mail.subject, message_id(delivery, domain), language)

    def bare(self, text: Text, language: Language, recipient: str, about: str, *, short: bool) -> bytes:
        """A text by itself, without a greeting: to an address that nobody may have confirmed yet. ``short``: its first
        paragraph only, as an SMS. Raises `BadAddress`."""
        message = _text((text.body.split("\n\n")[0] if short else text.body) + "\n", "plain")
        message_id = f"<code.{about}@{self._domain}>"
        return self._addressed(message, _mailbox("", recipient), text.subject, message_id, language)

    def _addressed(self, message: Message, recipient: str, subject: str, message_id: str, language: Language) -> bytes:
        message["From"] = self._sender
        message["To"] = recipient
        message["Subject"] = _words(subject)
        message["Date"] = formatdate(usegmt=True)
        message["Message-ID"] = message_id
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no automatic answers
        message["Content-Language"] = language
        return message.as_bytes(policy=_AS_SENT)


def _text(text: str, kind: str) -> Message:
    part = MIMENonMultipart("text", kind)
    part.set_payload(text, _TEXT)
    return part


def _parts(kind: str, *parts: Message) -> Message:
    """Parts under a boundary that nobody can know beforehand, and write into a text."""
    return MIMEMultipart(kind, secrets.token_hex(16), parts)


def _image(photo: bytes, content_id: str, name: str) -> Message:
    image = MIMEImage(photo, "jpeg")
    image["Content-ID"] = f"<{content_id}>"
    image.add_header("Content-Disposition", "inline", filename=name)
    return image


def _words(text: str) -> str:
    """Text in a header: as it is, or encoded (RFC 2047) where it would not be read so."""
    return text if text.isascii() and "=?" not in text else Header(text, "utf-8").encode()


def _mailbox(name: str, address: str) -> str:
    """An address and whose it is, for a header. Raises `BadAddress`."""
    name = one_line(name)
    try:
        address = Address(addr_spec=address).addr_spec
    except (ValueError, IndexError, MessageError) as error:  # the parser's own faults, which repeat the address
        raise BadAddress(type(error).__name__) from None
    if not address.isascii():  # as it is, in UTF-8: only servers that know SMTPUTF8 get it (RFC 6532)
        return f'"{quote(name)}" <{address}>'.encode().decode("ascii", "surrogateescape")
    words = _words(name)
    return formataddr((name, address)) if words == name else f"{words} <{address}>"
