"""Complaint numbers: random, typed by people, and told apart from typing errors."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.intake.number import new_number, parse_number

LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def test_a_number_is_what_its_text_says_and_numbers_differ() -> None:
    numbers = {new_number() for _ in range(2000)}
    assert len(numbers) == 2000
    for number in numbers:
        assert re.fullmatch(rf"LP-[{LETTERS}]{{4}}-[{LETTERS}]{{4}}-[{LETTERS}]", number)
        assert parse_number(number) == number


def test_it_is_read_as_people_write_it() -> None:
    number = new_number()
    assert parse_number(f"  {number.lower().replace('-', ' ')} ") == number
    assert parse_number(number.replace("0", "O").replace("1", "I")) == number
    assert parse_number(number.replace("1", "l")) == number


@given(st.integers(0, 8), st.sampled_from(LETTERS))
def test_a_wrong_character_is_always_found(position: int, letter: str) -> None:
    letters = list(new_number().replace("-", "").removeprefix("LP"))
    if letters[position] == letter:
        return
    letters[position] = letter
    with pytest.raises(ValueError, match="typing error"):
        parse_number("".join(letters))


def test_swapped_neighbours_are_found() -> None:
    missed = tried = 0
    for _ in range(500):
        letters = list(new_number().replace("-", "").removeprefix("LP"))
        for i in range(8):
            if letters[i] != letters[i + 1]:
                swapped = [*letters[:i], letters[i + 1], letters[i], *letters[i + 2 :]]
                tried += 1
                try:
                    parse_number("".join(swapped))
                except ValueError:
                    continue
                missed += 1
    assert missed / tried < 0.01


@pytest.mark.parametrize("text", ["", "LP", "LP-1234", "LP-UUUU-UUUU-U", "1234567890123", "LP-....-....-.", "٣" * 9])
def test_what_cannot_be_a_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_number(text)
