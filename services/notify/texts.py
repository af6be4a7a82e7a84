"""The words: each notice in Indonesian and English, for the inbox, and as plain text and HTML for e-mail.

One template per notice and language in ``texts/<language>/<notice>.j2``: the first line is the subject, the rest the
body. The HTML is made from the same body, paragraph by paragraph, and escapes it; so nobody writes a text twice, and
what an operator or agency wrote cannot become markup. A subject is one line, whatever a name contains (RFC 5322,
section 2.2: a header's value holds no line break).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from services.notify.notices import BY_NAME
from shared.calendar import CITY
from shared.events import CitizenCode

Language = Literal["id", "en"]
Photos = Literal["attached", "elsewhere", "with_report"]
"""Where the photos are that a reply speaks of: in the e-mail, in the application, or beside the text in the inbox."""

_FOLDER = Path(__file__).parent / "texts"
_MONTHS: Mapping[Language, str] = {
    "id": "Januari Februari Maret April Mei Juni Juli Agustus September Oktober November Desember",
    "en": "January February March April May June July August September October November December",
}
_DAYS: Mapping[Language, str] = {
    "id": "Senin Selasa Rabu Kamis Jumat Sabtu Minggu",
    "en": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
}
ABOUT_SIGN_IN: tuple[str, ...] = get_args(CitizenCode.model_fields["purpose"].annotation)
"""What is told besides notices: ``texts/<language>/code_<purpose>.j2``, whose first paragraph is the whole SMS."""
_CAPTIONS: Mapping[Language, str] = {"id": "Foto hasil pekerjaan", "en": "Photo of the finished work"}


@dataclass(frozen=True, slots=True)
class Text:
    """A notice in one language; ``body`` is plain text, its paragraphs parted by blank lines."""

    subject: str
    body: str


@dataclass(frozen=True, slots=True)
class Mail:
    """An e-mail's words: the subject, and the whole text with greeting and close, plain and as HTML."""

    subject: str
    plain: str
    html: str


class Texts:
    """All templates, read and compiled once. Raises jinja2's errors where one is missing or wrong."""

    def __init__(self) -> None:
        self._subjects: dict[tuple[str, str], Template] = {}
        self._bodies: dict[tuple[str, str], Template] = {}
        self._mails: dict[str, Template] = {}
        options: dict[str, Any] = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
        for language in get_args(Language):
            folder = _FOLDER / language
            # Plain text: the HTML page below escapes what it is made from.
            plain = Environment(loader=FileSystemLoader(folder), autoescape=False, **options)  # noqa: S701
            plain.filters["moment"] = _moment(language)
            for notice in (*BY_NAME, *(f"code_{purpose}" for purpose in ABOUT_SIGN_IN)):
                subject, _, body = (folder / f"{notice}.j2").read_text("utf-8").partition("\n")
                self._subjects[notice, language] = plain.from_string(subject)
                self._bodies[notice, language] = plain.from_string(body)
            self._mails[language] = plain.get_template("mail.j2")
        html = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, **options)
        self._html = html.get_template("mail.html.j2")

    def notice(
        self, notice: str, language: Language, number: str, facts: Mapping[str, Any], photos: Photos = "with_report"
    ) -> Text:
        """The text of one notice of the table, from the facts that its row names."""
        values = {**facts, "number": number, "photos": photos}
        return Text(
            subject=one_line(self._subjects[notice, language].render(values)),
            body=_paragraphs(self._bodies[notice, language].render(values)),
        )

    def about_sign_in(self, purpose: str, language: Language, code: str, expires_at: datetime) -> Text:
        """The text that carries a one-time code, or tells of what was asked for in somebody's name."""
        name, values = (f"code_{purpose}", language), {"code": code, "expires_at": expires_at}
        return Text(
            subject=one_line(self._subjects[name].render(values)), body=_paragraphs(self._bodies[name].render(values))
        )

    def mail(self, text: Text, language: Language, name: str, link: str, photo_ids: tuple[str, ...] = ()) -> Mail:
        """The e-mail around a text. ``photo_ids`` are the content ids (RFC 2392) of the photos that are attached."""
        plain = _paragraphs(self._mails[language].render(name=one_line(name), body=text.body, link=link))
        html = self._html.render(
            language=language,
            subject=text.subject,
            paragraphs=plain.split("\n\n"),
            photos=photo_ids,
            caption=_CAPTIONS[language],
        )
        return Mail(text.subject, plain + "\n", html)


def one_line(text: str) -> str:
    """``text`` without control characters, each run of white space as one space: fit for a header."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text).split())


def _paragraphs(text: str) -> str:
    return re.sub(r"\n[ \t]*\n\s*?\n+", "\n\n", re.sub(r"[ \t]+\n", "\n", text.replace("\r\n", "\n"))).strip()


def _moment(language: Language) -> Any:
    """A filter: a time as the people of Pontianak read it."""
    months, days = _MONTHS[language].split(), _DAYS[language].split()

    def say(moment: datetime) -> str:
        local = moment.astimezone(CITY)
        date = f"{days[local.weekday()]}, {local.day} {months[local.month - 1]} {local.year}"
        return f"{date} pukul {local:%H.%M} WIB" if language == "id" else f"{date}, {local:%H:%M} WIB"

    return say
