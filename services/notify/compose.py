"""An e-mail as a whole: headers, plain text, HTML, and the photos inside it (RFC 5322, RFC 2045, RFC 2387)."""

from collections.abc import Sequence
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, parseaddr

from services.notify.texts import Language, Photos, Text, Texts, one_line
from shared.projection import Document


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
        self._sender = _address(name, address)
        self._link = report_link
        self.sender_address = address

    def write(self, delivery: Document, contact: Document, photos: Sequence[bytes] | None) -> EmailMessage:
        """The e-mail of a delivery. ``photos`` are JPEG; None: there are some, and they could not be had. Raises
        `BadAddress`."""
        language: Language = contact["language"]
        number, domain = delivery["number"], self._sender.domain
        where: Photos = "elsewhere" if photos is None else "attached" if photos else "with_report"
        text = self._texts.notice(delivery["notice"], language, number, delivery["facts"], where)
        content_ids = tuple(f"{delivery['about'].replace(':', '.')}.{n}@{domain}" for n in range(len(photos or ())))
        link = self._link.replace("{number}", number)
        mail = self._texts.mail(text, language, contact["name"], link, content_ids)

        message = EmailMessage(policy=SMTP)
        message["From"] = self._sender
        message["To"] = _address(contact["name"], contact["email"])
        message["Subject"] = mail.subject
        message["Date"] = formatdate(usegmt=True)
        message["Message-ID"] = message_id(delivery, domain)
        message["References"] = f"<{delivery['complaint_id']}@{domain}>"  # one thread per report
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no automatic answers
        message.set_content(mail.plain)
        message.add_alternative(mail.html, subtype="html")
        page = message.get_payload()[1]  # type: ignore[index] # the alternative just added
        for index, (content_id, photo) in enumerate(zip(content_ids, photos or (), strict=True), 1):
            page.add_related(  # type: ignore[union-attr] # an EmailMessage
                photo, "image", "jpeg", cid=f"<{content_id}>", filename=f"{number}-{index}.jpg", disposition="inline"
            )
        message["Content-Language"] = language
        return message

    def bare(self, text: Text, language: Language, recipient: str, about: str, *, short: bool) -> EmailMessage:
        """A text by itself, without a greeting: to an address that nobody may have confirmed yet. ``short``: its first
        paragraph only, as an SMS. Raises `BadAddress`."""
        message = EmailMessage(policy=SMTP)
        message["From"] = self._sender
        message["To"] = _address("", recipient)
        message["Subject"] = text.subject
        message["Date"] = formatdate(usegmt=True)
        message["Message-ID"] = f"<code.{about}@{self._sender.domain}>"
        message["Auto-Submitted"] = "auto-generated"
        message["Content-Language"] = language
        message.set_content((text.body.split("\n\n")[0] if short else text.body) + "\n")
        return message


def _address(name: str, address: str) -> Address:
    try:
        return Address(one_line(name), addr_spec=address)
    except (ValueError, IndexError, MessageError) as error:  # the parser's own faults, which repeat the address
        raise BadAddress(type(error).__name__) from None
