"""Which passwords are refused when they are chosen (NIST SP 800-63B-4, section 3.1.1.2; OWASP ASVS 5.0, 6.2).

A password may be the only factor here, so it has at least `SHORTEST` characters. It may be made of anything: no kinds
of characters are asked for, and none expires. What is refused is what is tried first: a common password, whatever
digits and signs stand around it or in the place of its letters; a row of the keyboard; and words that somebody else
knows, such as the person's own name or this service's, with little else.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator

from zxcvbn.frequency_lists import FREQUENCY_LISTS

SHORTEST, LONGEST = 15, 128
"""Characters. Passwords from before that are shorter still sign in."""
_ELSE = 6
"""So many other letters a password needs beside words that somebody else knows."""
_COMMON = frozenset(word.casefold() for word in FREQUENCY_LISTS["passwords"]) | frozenset(
    [
        "anjingku",
        "bajingan",
        "bangsat",
        "bismillahirrahmanirrahim",
        "cantik",
        "cintaku",
        "gantengku",
        "garuda",
        "jakarta",
        "kalimantan",
        "katasandi",
        "katakunci",
        "khatulistiwa",
        "merdeka",
        "namaku",
        "pancasila",
        "passwordku",
        "persija",
        "persib",
        "rahasiaku",
        "sayangku",
        "sayasayang",
        "semangat",
        "terserah",
        "akucintakamu",
        "akusayangkamu",
        "lupapassword",
        "lupakatasandi",
        "tidaktahu",
    ]
)
_OF_THE_SERVICE = [
    "lapor",
    "laporan",
    "pengaduan",
    "pontianak",
    "kalbar",
    "kotapontianak",
    "pemkot",
    "warga",
    "kapuas",
    "khatulistiwa",
    "indonesia",
    "admin",
    "operator",
    "katasandi",
    "rahasia",
    "password",
    "bismillah",
]
_ROWS = (
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "1q2w3e4r5t6y7u8i9o0p",
    "12345678901234567890",
)
_RUNS = tuple(run for row in _ROWS for run in (row * 6, row[::-1] * 6))
_SIGNS_FOR_LETTERS = str.maketrans("01345@$!|", "oieasasil")
_NO_LETTERS_AROUND = re.compile(r"^[\W\d_]+|[\W\d_]+$")
_NO_LETTERS = re.compile(r"[\W\d_]")
_BETWEEN = re.compile(r"[\W_]")


def normal_password(password: str) -> str:
    """A password as it is hashed: the same text typed on another keyboard gives the same characters (NFKC)."""
    return unicodedata.normalize("NFKC", password)


def guessable(password: str, known: Iterable[str | None] = ()) -> bool:
    """Whether a password is among what an attacker tries first. ``known``: names, logins and addresses of whose it
    is."""
    typed = normal_password(password).casefold()
    packed = _BETWEEN.sub("", typed)
    if len(set(packed)) < 4 or any(packed in run for run in _RUNS):
        return True
    readings = {typed, typed.translate(_SIGNS_FOR_LETTERS)}
    if any(_common(reading) for reading in readings):
        return True
    words = sorted({*_OF_THE_SERVICE, *_words(known)}, key=len, reverse=True)
    return any(_little_else(_BETWEEN.sub("", reading), words) for reading in readings)


def _common(reading: str) -> bool:
    bare = _NO_LETTERS_AROUND.sub("", reading)
    letters = _NO_LETTERS.sub("", reading)
    forms = {reading, bare, letters, _repeated(_BETWEEN.sub("", reading)), _repeated(letters)}
    return any(form in _COMMON for form in forms) or 0 < len(_repeated(letters)) < min(4, len(letters))


def _repeated(text: str) -> str:
    """The shortest part of which a text is the repetition: ``abcabc`` gives ``abc``."""
    return text[: (text + text).find(text, 1)] if text else text


def _words(known: Iterable[str | None]) -> Iterator[str]:
    for one in known:
        text = normal_password(one or "").casefold()
        local = text.partition("@")[0]
        for word in (_BETWEEN.sub("", text), _BETWEEN.sub("", local), *_BETWEEN.split(local)):
            if len(word) >= 3:
                yield word


def _little_else(packed: str, words: Iterable[str]) -> bool:
    left = packed
    for word in words:
        left = left.replace(word, " ")
    return left != packed and len(_NO_LETTERS.sub("", left)) < _ELSE
