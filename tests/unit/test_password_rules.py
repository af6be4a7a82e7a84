"""Which passwords are refused when they are chosen, and that nothing else is asked of them."""

import base64
import random
import unicodedata

import pytest
from argon2 import PasswordHasher
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from services.intake.identity import IdentityRefused, Passwords, check_password
from services.intake.password_rules import LONGEST, SHORTEST, guessable

SITI = ("Siti Aminah", "siti.aminah88@warga.example", "+6281234567890")


@pytest.mark.parametrize(
    "password",
    [
        "password1234567",
        "P@ssw0rd!!!!!!!!",
        "PasswordPassword2026",
        "iloveyou iloveyou",
        "ＰＡＳＳＷＯＲＤ１２３４５６７",
        "123456789012345",
        "qwertyuiopasdfgh",
        "zyxwvutsrqponmlk",
        "1q2w3e4r5t6y7u8i",
        "aaaaaaaaaaaaaaab",
        "abababababababab",
        "bismillah 123456789",
        "katasandi1234567",
        "anjing1234567890",
        "rahasia rahasia 1",
    ],
)
def test_what_many_people_use_is_refused_whatever_is_put_around_it(password: str) -> None:
    assert len(password) >= SHORTEST
    assert guessable(password)


def test_each_of_the_30000_most_used_is_refused_with_digits_behind_it() -> None:
    words = [word for word in FREQUENCY_LISTS["passwords"] if word[-1:].isalpha() and word[0].isalpha()]
    assert len(words) > 10_000
    let_in = [word for word in words if not guessable(f"{word}1234567890123")]
    assert let_in == []


@pytest.mark.parametrize(
    "password",
    [
        "Siti Aminah 1990 !!",
        "sitiaminah123456",
        "siti.aminah88@warga.example",
        "6281234567890 siti",
        "lapor pontianak 2026",
        "L4p0r P0nt14n4k 99",
        "pontianak1234567",
        "warga siti 2026 lapor",
    ],
)
def test_what_others_know_of_a_person_or_the_service_is_no_password(password: str) -> None:
    assert guessable(password, SITI)


@pytest.mark.parametrize(
    "password",
    [
        "kuda parit lampu senja",
        "sungai kapuas sore hari",  # a word that is known, and three that are not
        "hujan di rumah siti kemarin",
        "日本語日本語のパスワードです長い",
        "🐎🌊💡🌇 kuda sungai",
        "4839201758362910",
        "               kuda parit",
        "x7#kLq92!vTz0pWm",
    ],
)
def test_any_characters_of_any_kind_are_taken(password: str) -> None:
    check_password(password, *SITI)


def test_what_is_drawn_at_random_is_taken() -> None:
    chance = random.Random(2026)  # the same each time: one in millions has the name in it, and few letters besides
    drawn = (base64.urlsafe_b64encode(chance.randbytes(12)).decode() for _ in range(2000))
    assert [password for password in drawn if guessable(password, SITI)] == []


def test_the_length_is_counted_in_characters_and_both_ends_are_taken() -> None:
    words = "kuda parit lampu senja "
    check_password(words[:SHORTEST])
    check_password((words * 9)[:LONGEST])
    for password in (words[: SHORTEST - 1], (words * 9)[: LONGEST + 1]):
        with pytest.raises(IdentityRefused, match=f"{SHORTEST} to {LONGEST}") as refused:
            check_password(password)
        assert refused.value.field == "body.password"
        assert "beberapa kata" in refused.value.message


def test_the_refusal_says_what_to_do_in_indonesian_and_does_not_repeat_the_password() -> None:
    with pytest.raises(IdentityRefused) as refused:
        check_password("Siti Aminah 1990 !!", *SITI)
    assert "misalnya empat kata acak" in refused.value.message
    assert "Siti" not in refused.value.message + refused.value.detail


async def test_the_same_text_from_another_keyboard_is_the_same_password_and_old_hashes_still_fit() -> None:
    passwords = Passwords()
    composed, decomposed = (unicodedata.normalize(form, "café di tepi sungai Kapuas") for form in ("NFC", "NFD"))
    stored = await passwords.hash(decomposed)
    assert await passwords.verify(stored, composed)
    assert await passwords.verify(stored, decomposed)
    before = PasswordHasher().hash(decomposed)  # as it was typed, not normalised
    assert await passwords.verify(before, decomposed)
    assert not await passwords.verify(before, composed + "x")
    assert not await passwords.verify(None, decomposed)
