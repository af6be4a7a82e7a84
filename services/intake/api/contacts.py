"""The addresses of citizens, as the routes of people and registration share them: their form, new ones that wait for a
code, and telling notify."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Literal

from pydantic import BaseModel, Field

from services.intake.account_store import AccountStore
from services.intake.challenges import Address, Challenges, TooOften, seconds_left
from services.intake.identity import IdentityRefused, contact_of, normal_email, normal_phone
from shared.http import Problem, invalid
from shared.journal import Journal, Taken
from shared.limits import too_often
from shared.projection import Document

ContactField = Literal["email", "phone"]


class Pending(BaseModel):
    """A new address, which counts once its code has come back."""

    challenge_id: str
    field: ContactField
    sent_to: str = Field(description="the address, with most of it hidden")
    expires_in: int = Field(description="seconds")


class Contacts:
    """What is done with addresses. ``sms``: whether a code can be sent to a phone."""

    def __init__(self, accounts: AccountStore, challenges: Challenges, journal: Journal, *, sms: bool) -> None:
        self._accounts = accounts
        self._challenges = challenges
        self._journal = journal
        self._sms = sms

    @contextmanager
    def problems(self) -> Iterator[None]:
        """What is refused of an identity becomes a problem that names the field."""
        try:
            yield
        except IdentityRefused as refusal:
            raise invalid(refusal.field, refusal.detail, refusal.message) from None
        except TooOften as refusal:
            raise too_often(max(1, round(refusal.wait.total_seconds()))) from None

    def normal(self, email: str | None, phone: str | None) -> tuple[str | None, str | None]:
        """Both as they are stored and compared. Raises 422."""
        with self.problems():
            found = (normal_email(email) if email else None), (normal_phone(phone) if phone else None)
        if phone:
            self.reachable("sms", "body.phone")
        return found

    def reachable(self, channel: Literal["email", "sms"], field: str) -> None:
        """Raises 422 for a channel that no code can go by."""
        if channel == "sms" and not self._sms:
            detail = "Codes cannot be sent to phones here: use an e-mail address."
            raise invalid(field, detail, "Kode tidak dapat dikirim ke telepon; gunakan alamat surel.")

    async def ask(self, account: Document, new: Mapping[ContactField, str]) -> list[Pending]:
        """Send a code to each new address of an account. Its owner, if there is one already, is told of it instead.
        Raises 429."""
        pending = []
        for field, text in new.items():
            taken = await self._accounts.by_login(text) is not None
            address = Address.of(text)
            with self.problems():
                challenge = await self._challenges.make(
                    "contact",
                    text,
                    fits=not taken,
                    message="taken" if taken else "contact",
                    language=account["language"],
                    account_id=account["_id"],
                    field=field,
                    text=text,
                )
            pending.append(
                Pending(
                    challenge_id=challenge["_id"],
                    field=field,
                    sent_to=address.masked if address else "",
                    expires_in=seconds_left(challenge),
                )
            )
        return pending

    async def tell(self, account: Document) -> None:
        """Tell notify how to reach a citizen, as of the account's version."""
        with suppress(Taken):  # told before; only the mark was missing
            await self._journal.append(contact_of(account))
        await self._accounts.contact_told(account["_id"], account["version"])

    async def heal(self) -> None:
        """Periodic work: contacts that a crash kept from the journal are told after all."""
        for account in await self._accounts.contacts_due():
            await self.tell(account)


def code_refused() -> Problem:
    """422: the code does not fit, whatever the reason."""
    detail = "The code is wrong, used or expired, or it was tried too often. Ask for a new one."
    return Problem(422, "code-refused", detail, "Kode salah atau sudah tidak berlaku. Mintalah kode baru.")


def login_taken() -> Problem:
    """409, for whoever has shown that the address is his."""
    return Problem(
        409,
        "login-taken",
        "An account with this e-mail address or phone number exists: sign in, or use another.",
        "Surel atau nomor telepon sudah terdaftar.",
    )
