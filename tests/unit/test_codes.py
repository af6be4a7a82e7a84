"""One-time codes."""

from collections import Counter
from pathlib import Path

import pytest

from shared.codes import OneTimeCodes
from shared.keyfile import UnusableKey


@pytest.fixture
def codes(tmp_path: Path) -> OneTimeCodes:
    (tmp_path / "key").write_bytes(bytes(range(32)))
    return OneTimeCodes(tmp_path / "key")


def test_codes_are_six_digits_as_likely_as_each_other(codes: OneTimeCodes) -> None:
    made = [codes.code(f"challenge-{number}") for number in range(20_000)]
    assert all(len(code) == 6 and code.isdecimal() for code in made)
    for place in range(6):
        counted = Counter(code[place] for code in made)
        assert all(1800 < counted[digit] < 2200 for digit in "0123456789"), counted
    assert len(set(made)) > 19_500


def test_a_code_is_the_challenges_and_the_keys_own(codes: OneTimeCodes, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(bytes(32))
    other = OneTimeCodes(tmp_path / "other")
    code = codes.code("one")
    assert codes.matches("one", code)
    assert codes.matches("one", f" {code[:3]}-{code[3:]} ")
    assert not codes.matches("two", code)
    assert not other.matches("one", code)
    assert other.fingerprint("a@b.id") != codes.fingerprint("a@b.id")
    for wrong in ("", "000000 ", code[:5], code + "0", "١٢٣٤٥٦", "0" * 10_000):
        assert not codes.matches("one", wrong) or wrong.strip() == code


def test_without_a_key_there_are_none(tmp_path: Path) -> None:
    with pytest.raises(UnusableKey, match="LAPOR_CODE_KEY_FILE"):
        OneTimeCodes(None).code("one")
    (tmp_path / "short").write_bytes(b"x" * 31)
    with pytest.raises(UnusableKey):
        OneTimeCodes(tmp_path / "short")
