"""What the notify desk decides: whether an e-mail goes out, what follows a failure, and when step 6 is done.

Pure decisions, from a delivery's document, the citizen's contact and choices, and the moment.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from services.notify.notices import EMAILED_BY_DEFAULT, CitizenNotice
from services.notify.projection import EMAIL, INBOX
from services.notify.settings import Settings
from shared.events import SYSTEM, Answered, ChainEvent, Event, NotificationDelivered
from shared.projection import Document

ERASED = "erased"
"""The reason why nobody was told: the citizen has deleted their data."""
State = Literal["pending", "sending", "sent", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait between tries, and when to give up."""

    first: timedelta
    longest: timedelta
    give_up: timedelta

    @classmethod
    def of(cls, settings: Settings) -> "Patience":
        """As the settings have it."""
        return cls(
            timedelta(seconds=settings.mail_retry_seconds),
            timedelta(seconds=settings.mail_retry_max_seconds),
            timedelta(hours=settings.mail_give_up_hours),
        )

    def pause(self, attempts: int) -> timedelta:
        """The pause after so many tries: doubled each time, up to the longest."""
        return min(self.first * (1 << min(max(attempts, 1) - 1, 30)), self.longest)


@dataclass(frozen=True, slots=True)
class Send:
    """It goes out now."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing more is done: sent, failed for good, or not wanted. ``reason`` names no person and no address."""

    state: Literal["sent", "failed", "skipped"]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """It is tried again at ``until``."""

    until: datetime
    reason: str


def triage(
    delivery: Document, contact: Document | None, choices: Mapping[str, bool], at: datetime, patience: Patience
) -> Send | Finish | Wait:
    """Whether the e-mail goes out. A contact that is not known yet may still come: its event has a topic of its own.
    Nothing goes to those who have deleted their data, or want them not to be used (UU PDP 27/2022)."""
    notice = delivery["notice"]
    if contact is not None and contact.get("erased"):
        return Finish("skipped", ERASED)
    if contact is not None and contact.get("restricted"):
        return Finish("skipped", "restricted")
    if not choices.get(notice, notice in EMAILED_BY_DEFAULT):
        return Finish("skipped", "switched-off")
    if contact is not None and not contact["email"]:
        return Finish("skipped", "no-address")
    if at - delivery["created_at"] >= patience.give_up:
        return Finish("failed", delivery["reason"] or "given-up")
    if contact is None:
        return Wait(at + patience.pause(delivery["attempts"]), "contact-unknown")
    return Send()


def after_failure(
    delivery: Document, *, permanent: bool, reason: str, at: datetime, patience: Patience
) -> Finish | Wait:
    """The mail server did not take it. For good (a 5xx reply, RFC 5321 section 4.2.1), or it may another time."""
    if permanent:
        return Finish("failed", reason)
    return Wait(at + patience.pause(delivery["attempts"]), reason)


def photos_may_come(delivery: Document, at: datetime, patience: timedelta) -> bool:
    """Whether the reply still waits for photos that could not be fetched."""
    waited: timedelta = at - delivery["created_at"]
    return waited < patience


def channels(delivery: Document) -> tuple[str, ...]:
    """The channels that have delivered a notice: the inbox, since its entry is stored before the delivery; none where
    the citizen has deleted their data."""
    if delivery["reason"] == ERASED:
        return ()
    return (INBOX, EMAIL) if delivery["state"] == "sent" else (INBOX,)


def report(delivery: Document) -> Event | None:
    """The event that a delivery gives rise to, if it is one of `REPORTED`: of these two the procedure waits to hear.

    `notification.delivered` meets the clock of SOP step 1, and it happened when the receipt was in the inbox, however
    long the e-mail took. `answered` is SOP step 6: every channel of the reply is done. Both ids follow from the
    delivery, so the journal takes each once.
    """
    about: dict[str, Any] = {name: delivery[name] for name in ("complaint_id", "number")}
    about["reporter_id"] = delivery.get("reporter_id", delivery["citizen_id"])  # older ones have no pseudonym
    delivered_at = max(delivery["created_at"], delivery["occurred_at"])
    match delivery["notice"]:
        case CitizenNotice.RECEIPT:
            return NotificationDelivered(
                id=f"{delivery['about']}:delivered:{delivery['notice']}",
                occurred_at=delivered_at,
                **about,
                seq=delivery["seq"],
                notice=delivery["notice"],
                about=delivery["about"],
                channels=channels(delivery),
            )
        case CitizenNotice.REPLY if not delivery["open"]:
            seq = delivery["seq"] + 1
            return Answered(
                id=ChainEvent.chain_id(delivery["complaint_id"], seq),
                occurred_at=max(delivery["done_at"], delivered_at),
                **about,
                seq=seq,
                actor=SYSTEM,
                channels=channels(delivery),
            )
        case _:
            return None
