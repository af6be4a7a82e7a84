"""Logins as they are compared, and passwords."""

import asyncio
import time

import pytest

from services.intake.identity import (
    IdentityRefused,
    NewAccount,
    Passwords,
    check_password,
    contact_of,
    normal_email,
    normal_login,
    normal_phone,
)
from shared.journal import Overloaded
from shared.sop import Role


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("0812-3456-7890", "+6281234567890"),
        ("0812 3456 7890", "+6281234567890"),
        ("6281234567890", "+6281234567890"),
        ("+62 812 3456 7890", "+6281234567890"),
        ("+60 12-345 6789", "+60123456789"),
        ("(0561) 733041", "+62561733041"),
    ],
)
def test_phones_are_compared_in_e164(typed: str, stored: str) -> None:
    assert normal_phone(typed) == stored
    assert normal_login(typed) == stored


@pytest.mark.parametrize(
    "typed", ["", "12", "0812abc", "+0812345678", "+62812345678901234", "081234567\n8;drop", "٠٨١٢٣٤٥٦٧٨٩"]
)
def test_what_is_no_phone_is_refused_with_its_field(typed: str) -> None:
    with pytest.raises(IdentityRefused) as refused:
        normal_phone(typed)
    assert refused.value.field == "body.phone"


def test_addresses_are_compared_in_lower_case() -> None:
    assert normal_email("  Siti.Aminah@Warga.Example ") == "siti.aminah@warga.example"
    assert normal_login("Siti.Aminah@Warga.Example") == "siti.aminah@warga.example"
    assert normal_login("  Operator.Pusat ") == "operator.pusat"


@pytest.mark.parametrize(
    "typed", ["", "siti", "siti@", "@x.id", "a@b@c.id", "a b@c.id", "a@c", "a@c.id\nBcc: x@y.id", "x" * 250 + "@c.id"]
)
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(IdentityRefused):
        normal_email(typed)


def test_a_password_of_four_words_is_taken() -> None:
    check_password("kuda parit lampu senja", "siti@warga.example", None)


async def test_passwords_are_kept_as_argon2id_and_verified() -> None:
    passwords = Passwords()
    stored = await passwords.hash("kuda parit lampu senja")
    assert stored.startswith("$argon2id$")
    assert stored != await passwords.hash("kuda parit lampu senja")
    assert await passwords.verify(stored, "kuda parit lampu senja")
    assert not await passwords.verify(stored, "kuda parit lampu pagi")
    assert not await passwords.verify(None, "kuda parit lampu senja")
    assert not await passwords.verify("not a hash", "kuda parit lampu senja")
    assert not passwords.outdated(stored)
    assert passwords.outdated(stored.replace("t=3", "t=2"))


async def test_an_unknown_account_costs_the_same_time() -> None:
    passwords = Passwords()
    stored = await passwords.hash("kuda parit lampu senja")

    async def seconds(which: str | None) -> float:
        spent = []
        for _ in range(5):
            started = time.perf_counter()
            await passwords.verify(which, "salah salah salah")
            spent.append(time.perf_counter() - started)
        return min(spent)

    assert await seconds(None) > 0.5 * await seconds(stored)


async def test_a_crowd_at_the_door_is_turned_away_and_the_loop_goes_on() -> None:
    passwords = Passwords(at_once=1, waiting=3)
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.001)

    ticking = asyncio.create_task(tick())
    outcome = await asyncio.gather(*(passwords.verify(None, "x" * 10) for _ in range(6)), return_exceptions=True)
    ticking.cancel()
    assert [type(o) for o in outcome].count(Overloaded) == 3
    assert turns > 10
    assert await passwords.verify(await passwords.hash("sesudah ramai"), "sesudah ramai")


def test_a_citizens_account_tells_notify_how_to_reach_him() -> None:
    account = NewAccount(("siti@warga.example",), Role.CITIZEN, "Siti", "hash", email="siti@warga.example").document()
    assert account["contact_due"]
    contact = contact_of(account)
    assert contact.id == f"contact:{account['_id']}:1"
    assert (contact.citizen_id, contact.version, contact.email, contact.phone) == (
        account["_id"],
        1,
        "siti@warga.example",
        None,
    )
    assert "hash" not in contact.model_dump_json()
    assert not NewAccount(("pusat",), Role.CENTRAL_OPERATOR, "Pusat", "hash").document()["contact_due"]
