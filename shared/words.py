"""The words of reports as they are stored and looked for: one rule for both, so that what is written is found."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

KEPT = 100
"""Distinct words of a report that are kept; the title's come first. Each costs a key in an index."""
_LONGEST = 32
_SHORTEST = 2
_WORD = re.compile(r"[^\W_]+")
_NUMBER = re.compile(r"LP-[0-9A-Z-]{1,14}")


def words_of(*texts: str, at_most: int = KEPT) -> list[str]:
    """The distinct words of texts in the order in which they come: lower case, without accents, of two letters or
    digits at least, cut off after 32. No stemming and no stop words: Indonesian has no agreed list of either."""
    return list(_words(texts, at_most))


@lru_cache(1000)  # a report's are asked for at each move of its complaint
def _words(texts: tuple[str, ...], at_most: int) -> Sequence[str]:
    found: dict[str, None] = {}
    for text in texts:
        for word in _WORD.findall(_folded(text)):
            if len(word) >= _SHORTEST:
                found.setdefault(word[:_LONGEST])
                if len(found) == at_most:
                    return tuple(found)
    return tuple(found)


def number_prefix(text: str) -> str | None:
    """How a complaint's number begins, if that is what somebody wrote into a search field; None if it is words."""
    number = text.strip().upper()
    return number if _NUMBER.fullmatch(number) else None


def _folded(text: str) -> str:
    lower = text.casefold()
    if lower.isascii():  # nothing to take off, and nearly every report is so
        return lower
    return "".join(_plain(unicodedata.normalize("NFKD", lower)))


def _plain(characters: Iterable[str]) -> Iterable[str]:
    return (c for c in characters if not unicodedata.combining(c))
