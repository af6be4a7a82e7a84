"""Words as they are stored and looked for, and what is a number's beginning."""

import pytest

from shared.words import KEPT, number_prefix, words_of


def test_words_are_distinct_lower_case_and_plain() -> None:
    found = words_of("Jalan RUSAK, jalan rusak!", "Di depan Café 17; RT.03/RW_5")
    assert found == ["jalan", "rusak", "di", "depan", "cafe", "17", "rt", "03", "rw"]


@pytest.mark.parametrize("text", ["", "!?", "a b c", "-.*$"])
def test_what_holds_no_word(text: str) -> None:
    assert words_of(text) == []


def test_a_long_report_keeps_its_first_words_and_long_words_their_beginning() -> None:
    text = " ".join(f"kata{n}" for n in range(1000))
    assert words_of("Judul", text)[:2] == ["judul", "kata0"]
    assert len(words_of("Judul", text)) == KEPT
    assert words_of("x" * 5000) == words_of("x" * 40) == ["x" * 32]


@pytest.mark.parametrize(
    ("text", "prefix"),
    [(" lp-7k3m ", "LP-7K3M"), ("LP-7K3M-9QX2-T", "LP-7K3M-9QX2-T"), ("LP-", None), ("LP-.*", None), ("lampu", None)],
)
def test_how_a_number_begins(text: str, prefix: str | None) -> None:
    assert number_prefix(text) == prefix
