"""Pseudonyms: another in each complaint, read by who has the key only."""

import secrets
from pathlib import Path

import pytest

from shared.events import new_id
from shared.keyfile import UnusableKey
from shared.pseudonyms import NO_PSEUDONYMS, PREFIX, Pseudonyms


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    (tmp_path / "key").write_bytes(secrets.token_bytes(32))
    return tmp_path / "key"


def test_a_pseudonym_is_read_with_the_key_and_the_complaint(key_file: Path) -> None:
    made = Pseudonyms(key_file)
    siti, complaint = new_id(), new_id()
    hidden = made.of(siti, complaint)
    assert hidden.startswith(PREFIX)
    assert siti not in hidden
    assert made.of(siti, complaint) == hidden, "one complaint has one reporter"
    assert Pseudonyms(key_file).citizen(hidden, complaint) == siti
    assert made.citizen(hidden, new_id()) == hidden, "of another complaint it says nothing"
    assert NO_PSEUDONYMS.citizen(hidden, complaint) == hidden


def test_nothing_in_common_tells_one_citizens_complaints_from_anothers(key_file: Path) -> None:
    made = Pseudonyms(key_file)
    siti, budi = new_id(), new_id()
    complaints = [new_id() for _ in range(50)]
    ours, theirs = [[made.of(one, complaint) for complaint in complaints] for one in (siti, budi)]
    assert len({*ours, *theirs}) == 100
    starts = {hidden[:12] for hidden in ours}
    assert len(starts) == 50, "not even how they begin"
    assert len({len(hidden) for hidden in (*ours, *theirs)}) == 1


def test_what_is_no_pseudonym_stays_as_it_is(key_file: Path) -> None:
    made, complaint = Pseudonyms(key_file), new_id()
    changed = made.of("siti", complaint)[:-2] + "AA"
    for other in ("", "siti", new_id(), PREFIX, f"{PREFIX}x", f"{PREFIX}é", changed):
        assert made.citizen(other, complaint) == other


def test_another_key_reads_nothing(key_file: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(secrets.token_bytes(32))
    complaint = new_id()
    hidden = Pseudonyms(key_file).of("siti", complaint)
    assert Pseudonyms(tmp_path / "other").citizen(hidden, complaint) == hidden


def test_a_key_that_is_short_or_missing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"x" * 31)
    for name in ("short", "missing"):
        with pytest.raises(UnusableKey):
            Pseudonyms(tmp_path / name)
    with pytest.raises(UnusableKey, match="LAPOR_PSEUDONYM_KEY_FILE"):
        NO_PSEUDONYMS.of("siti", new_id())
