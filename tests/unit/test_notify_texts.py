"""The words of every notice, and e-mails that nobody can make say more than they should."""

from collections.abc import Sequence
from datetime import UTC, datetime
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.policy import default
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.notify.compose import BadAddress, Composer, message_id
from services.notify.notices import BY_NAME
from services.notify.texts import Language, Texts, one_line

TEXTS = Texts()
COMPOSER = Composer(TEXTS, "LAPOR! Pontianak <no-reply@lapor.example>", "https://lapor.example/laporan/{number}")
FACTS: dict[str, Any] = {
    "agency": {"code": "DPUPR", "name": "Dinas PUPR"},
    "binding": True,
    "clock": "assign",
    "considerations": "Sesuai kewenangan.",
    "due_at": datetime(2026, 8, 17, 3, 5, tzinfo=UTC),
    "evidence": [],
    "evidence_note": "Lubang ditambal.",
    "explanation": "Mohon foto dari dekat.",
    "note": "Bukti sesuai.",
    "opened_at": datetime(2026, 8, 14, 3, 5, tzinfo=UTC),
    "outcome": "rated",
    "rating": 4,
    "reason": "incomplete",
    "responsible": "regional_operator",
    "step": 3,
    "unit": "Sekretariat",
    "until": datetime(2026, 8, 31, 17, 30, tzinfo=UTC),
}
CONTACT: dict[str, Any] = {"name": "Siti Aminah", "email": "siti@warga.example", "language": "id"}


def written(about: dict[str, Any], contact: dict[str, Any], photos: Sequence[bytes] | None) -> EmailMessage:
    """An e-mail as who gets it reads it."""
    mail = message_from_bytes(COMPOSER.write(about, contact, photos), policy=default)
    assert isinstance(mail, EmailMessage)
    assert not [defect for part in mail.walk() for defect in part.defects]
    return mail


def read(raw: str) -> str:
    """What Python's reader gives of a header in UTF-8 (RFC 6532)."""
    return raw.encode("utf-8", "surrogateescape").decode()


def delivery(notice: str = "reply", **facts: Any) -> dict[str, Any]:
    about = {"complaint_id": "0190", "about": "0190:6", "number": "AB12-CD34"}
    return {**about, "notice": notice, "facts": FACTS | facts}


@pytest.mark.parametrize("language", get_args(Language))
@pytest.mark.parametrize("notice", BY_NAME)
def test_each_notice_has_its_words_from_the_facts_of_its_row(notice: str, language: Language) -> None:
    row = BY_NAME[notice]
    facts = {name: FACTS[name] for name in (*row.facts, *(("until",) if row.until else ()))}
    text = TEXTS.notice(notice, language, "AB12-CD34", facts)
    assert "AB12-CD34" in text.subject
    assert len(text.subject) < 120
    assert text.body
    assert "{" not in text.subject + text.body
    assert "\n\n\n" not in text.body


@pytest.mark.parametrize(
    ("reason", "outcome", "words"),
    [
        ("incomplete", "rated", "lengkapi"),
        ("outside_authority", "withdrawn", "kewenangan"),
        ("incomplete", "lapsed", ""),
    ],
)
def test_a_reason_and_an_outcome_change_the_words(reason: str, outcome: str, words: str) -> None:
    assert words in TEXTS.notice("returned", "id", "N", FACTS | {"reason": reason}).body
    closed = {
        o: TEXTS.notice("closed", "id", "N", FACTS | {"outcome": o}).body for o in ("rated", "withdrawn", "lapsed")
    }
    assert len(set(closed.values())) == 3
    assert outcome in closed


def test_moments_are_those_of_pontianak() -> None:
    assert "Senin, 17 Agustus 2026 pukul 10.05 WIB" in TEXTS.notice("assigned", "id", "N", FACTS).body
    assert "Tuesday, 1 September 2026, 00:30 WIB" in TEXTS.notice("returned", "en", "N", FACTS).body


def test_what_people_wrote_is_text_and_no_markup_and_no_template() -> None:
    evil = '<script>alert("x")</script> {{ 7 * 7 }} {% raw %}'
    mail = written(delivery(note=evil), CONTACT, ())
    html = mail.get_body(("html",))
    plain = mail.get_body(("plain",))
    assert html is not None
    assert plain is not None
    assert "<script>" not in html.get_content()
    assert "&lt;script&gt;" in html.get_content()
    assert evil in plain.get_content()


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_name_can_add_a_header_or_a_recipient(name: str, agency: str) -> None:
    names = {"agency": {"code": "X", "name": f"{agency}\r\nBcc: all@warga.example"}}
    contact = CONTACT | {"name": f"{name}\r\nBcc: all@warga.example\n\nbody"}
    mail = written(delivery("assigned", **names, due_at=FACTS["due_at"]), contact, ())
    assert mail["Bcc"] is None
    assert [a.addr_spec for a in mail["To"].addresses] == ["siti@warga.example"]
    assert "\n" not in str(mail["Subject"]) + str(mail["To"])
    head = COMPOSER.write(delivery("assigned", **names, due_at=FACTS["due_at"]), contact, ()).split(b"\r\n\r\n")[0]
    assert not [line for line in head.split(b"\r\n") if line.lower().startswith(b"bcc")]


@given(st.text(max_size=10), st.sampled_from(["siti@warga.example", "siti@wargâ.example", '"si ti"@warga.example']))
@example("=?utf-8?q?Bupati?=", "siti@warga.example")
@example('Siti "Ti" Aminah, S.H. <bupati@kota.example>', "siti@warga.example")
def test_a_name_is_read_as_it_was_given(name: str, address: str) -> None:
    [recipient] = written(delivery(), CONTACT | {"name": name, "email": address}, ())["To"].addresses
    assert read(recipient.addr_spec) == address
    assert read(recipient.display_name).split() == one_line(name).split()


@pytest.mark.parametrize("name", ["Siti Aminah " * 40, "Sîti Aminah " * 40, "S" * 480, "î" * 480])
def test_no_line_is_too_long(name: str) -> None:
    facts = {"evidence_note": "panjang" * 600, "agency": {"code": "X", "name": name}}
    sent = COMPOSER.write(delivery("assigned", **facts), CONTACT | {"name": name}, ())
    assert max(len(line) for line in sent.split(b"\r\n")) <= 998  # RFC 5322, section 2.1.1
    assert b"\n" not in sent.replace(b"\r\n", b"")
    recipient = message_from_bytes(sent)["To"]  # by the older reader: the newer sees a space between encoded words
    assert str(make_header(decode_header(recipient))).split() == [*name.split(), "<siti@warga.example>"]


@pytest.mark.parametrize("address", ["", "siti", "siti@a@b", "siti@warga.example\r\nBcc: x@y", "a b@c", "@c"])
def test_what_cannot_be_an_address_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(BadAddress) as refusal:
        written(delivery(), CONTACT | {"email": address}, ())
    assert not address or address not in str(refusal.value)


def test_photos_are_inside_and_the_html_shows_them() -> None:
    mail = written(delivery(), CONTACT, (b"\xff\xd8first", b"\xff\xd8second"))
    images = [part for part in mail.walk() if part.get_content_type() == "image/jpeg"]
    assert [part.get_payload(decode=True) for part in images] == [b"\xff\xd8first", b"\xff\xd8second"]
    assert [part.get_filename() for part in images] == ["AB12-CD34-1.jpg", "AB12-CD34-2.jpg"]
    html = mail.get_body(("html",))
    assert html is not None
    for part in images:
        assert f"cid:{str(part['Content-ID']).strip('<>')}" in html.get_content()
    assert "terlampir" in mail.get_body(("plain",)).get_content()  # type: ignore[union-attr] # it has a text part


def test_photos_that_could_not_be_had_are_said_to_be_elsewhere() -> None:
    text = written(delivery(), CONTACT, None).get_body(("plain",))
    assert text is not None
    assert "belum dapat kami lampirkan" in text.get_content()
    assert "https://lapor.example/laporan/AB12-CD34" in text.get_content()


def test_the_message_id_is_stable_and_well_formed() -> None:
    first, second = (written(delivery(), CONTACT, ())["Message-ID"] for _ in range(2))
    assert first == second == message_id(delivery(), "lapor.example") == "<0190.6.reply@lapor.example>"
    assert message_id(delivery("receipt"), "lapor.example") != first


@given(st.text())
def test_one_line_is_one_line(text: str) -> None:
    assert len(one_line(text).splitlines()) <= 1
