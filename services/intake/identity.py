"""Who people are: their logins as they are compared, and their passwords (Argon2id, RFC 9106; NIST SP 800-63B-4,
section 3.1.1)."""

import asyncio
import re
from dataclasses import dataclass
from typing import Any, Literal

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from services.intake.password_rules import LONGEST, SHORTEST, guessable, normal_password
from shared.events import CitizenContact, new_id, now
from shared.journal import Overloaded
from shared.projection import Document
from shared.sop import Role

_EMAIL = re.compile(r"^[^@\s,;<>\"()\[\]\\\x00-\x1f]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){1,8}$")


class IdentityRefused(Exception):
    """What somebody gave of himself cannot be taken: which field, and what to do."""

    def __init__(self, field: str, detail: str, message: str) -> None:
        super().__init__(detail)
        self.field, self.detail, self.message = field, detail, message


def normal_email(text: str) -> str:
    """An e-mail address as it is stored and compared: trimmed, lower case. Raises IdentityRefused."""
    address = text.strip().lower()
    if len(address) > 254 or not _EMAIL.match(address):
        raise IdentityRefused("body.email", "This is not an e-mail address.", "Alamat surel tidak benar.")
    return address


def normal_phone(text: str) -> str:
    """A phone number as it is stored and compared: E.164, Indonesian if no country is given. Raises IdentityRefused."""
    digits = re.sub(r"[\s().-]", "", text)
    if digits.startswith("0"):
        digits = "+62" + digits[1:]
    elif digits.startswith("62"):
        digits = "+" + digits
    if not re.fullmatch(r"\+[1-9]\d{7,14}", digits, re.ASCII):
        raise IdentityRefused(
            "body.phone", "This is not a phone number; write 0812… or +62812….", "Nomor telepon tidak benar."
        )
    return digits


def normal_login(text: str) -> str:
    """A login as it is compared: an e-mail address, a phone number, or a staff username."""
    for normal in (normal_email, normal_phone):
        try:
            return normal(text)
        except IdentityRefused:
            continue
    return text.strip().lower()


def check_password(password: str, *known: str | None) -> None:
    """Refuse a password that is too short or too long, or that is tried first (`services.intake.password_rules`).
    ``known``: the name, logins and addresses of whose it is. Raises IdentityRefused."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise IdentityRefused(
            "body.password",
            f"A password has {SHORTEST} to {LONGEST} characters; take some words that do not belong together.",
            f"Kata sandi {SHORTEST} sampai {LONGEST} karakter; pakailah beberapa kata yang tidak berkaitan.",
        )
    if guessable(password, known):
        raise IdentityRefused(
            "body.password",
            "This password is among the first that an attacker tries; choose another, such as four random words,"
            " without your name and without the name of this service.",
            "Kata sandi ini mudah ditebak. Pilih yang lain, misalnya empat kata acak, tanpa nama Anda dan tanpa nama"
            " layanan ini.",
        )


class Passwords:
    """Argon2id in threads, a few at a time: hashing must neither hold up the loop nor take all of the machine."""

    def __init__(self, at_once: int = 2, waiting: int = 64) -> None:
        self._hasher = PasswordHasher()
        self._slots = asyncio.Semaphore(at_once)
        self._waiting = 0
        self._max_waiting = waiting
        self._nobody = self._hasher.hash(new_id())

    async def hash(self, password: str) -> str:
        """The hash to store, with its parameters. Raises Overloaded."""
        return str(await self._run(self._hasher.hash, normal_password(password)))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether the password is right, normalised or, as hashes from before have it, as it was typed. An account that
        does not exist (None) costs the same time. Raises Overloaded."""
        for form in dict.fromkeys((normal_password(password), password)):
            try:
                await self._run(self._hasher.verify, stored or self._nobody, form)
            except (Argon2Error, InvalidHashError):
                continue
            return stored is not None
        return False

    def outdated(self, stored: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    async def _run(self, work: Any, *given: str) -> Any:
        if self._waiting >= self._max_waiting:
            raise Overloaded("too many sign-ins at once")
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(work, *given)
        finally:
            self._waiting -= 1


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What is known of an account before it is stored. ``logins`` are normal (`normal_login`)."""

    logins: tuple[str, ...]
    role: Role
    name: str
    password_hash: str
    email: str | None = None
    phone: str | None = None
    language: Literal["id", "en"] = "id"
    agency: str | None = None

    def document(self) -> Document:
        """The account as it is stored; a citizen's contact is to be told to notify (``contact_due``)."""
        return {
            "_id": new_id(),
            "logins": list(self.logins),
            "role": self.role.value,
            "name": self.name,
            "email": self.email,
            "phone": self.phone,
            "language": self.language,
            "agency": self.agency,
            "password_hash": self.password_hash,
            "active": True,
            "version": 1,
            "contact_due": self.role is Role.CITIZEN,
            "created_at": now(),
        }


def contact_of(account: Document) -> CitizenContact:
    """The event that tells notify how to reach a citizen, as of the account's version."""
    return CitizenContact(
        id=f"contact:{account['_id']}:{account['version']}",
        occurred_at=now(),
        citizen_id=account["_id"],
        version=account["version"],
        name=account["name"],
        email=account["email"],
        phone=account["phone"],
        language=account["language"],
        restricted=account.get("restricted_at") is not None,
    )
