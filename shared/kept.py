"""How long each class of data is kept, why, and what becomes of it then: one table (UU PDP 27/2022, article 16).

What a row says is done by `shared.retention` where it lies in a database, and by the brokers where it lies on a topic.
``docs/retention.md`` is made of it (``python -m tests.retention``).
"""

from dataclasses import dataclass
from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field


class RetentionSettings(BaseModel):
    """Days that data are kept in the databases; ``LAPOR_RETENTION__INBOX_DAYS`` and so on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inbox_days: int = Field(2 * 365, ge=30)
    deliveries_days: int = Field(365, ge=30)
    identity_accesses_days: int = Field(5 * 365, ge=365)
    staff_days: int = Field(365, ge=1)
    photos_days: int = Field(30, ge=14)
    audit_days: int = Field(5 * 365, ge=365)


@dataclass(frozen=True, slots=True)
class Kept:
    """One class of data in databases. ``name`` is its name in metrics and the audit log, ``setting`` the field of
    `RetentionSettings` that says how long."""

    name: str
    services: tuple[str, ...]
    what: str
    setting: str
    reason: str
    end: str

    def age(self, settings: RetentionSettings) -> timedelta:
        """How long it is kept."""
        days: int = getattr(settings, self.setting)
        return timedelta(days=days)


INBOX = Kept(
    "inbox",
    ("notify",),
    "entries of the inboxes (`inbox`), since the event that they tell of",
    "inbox_days",
    "people look up how their complaint went; the complaint itself is kept longer",
    "removed",
)
DELIVERIES = Kept(
    "deliveries",
    ("notify",),
    "finished e-mails (`deliveries`: to whom by opaque id, what about, outcome), since they were made",
    "deliveries_days",
    "operators explain why somebody was not told",
    "emptied; that it was done stays, so that an event which is read again sends no second e-mail",
)
IDENTITY_ACCESSES = Kept(
    "identity_accesses",
    ("intake",),
    "who of the staff opened a reporter's identity and why (`identity_accesses`), since they did",
    "identity_accesses_days",
    "the citizen's right to know who looked, as long as the complaint is on its topics",
    "removed",
)
STAFF = Kept(
    "staff",
    ("intake",),
    "disabled staff accounts (`accounts`: name, login, addresses, password's hash), since they were disabled",
    "staff_days",
    "questions about somebody's work come up within a year",
    "name, login, addresses and hash removed; the opaque id stays, so that the events' actor stays one",
)
PHOTOS = Kept(
    "photos",
    ("intake",),
    "photos that citizens uploaded and put in no report (`photos`), since they last did",
    "photos_days",
    "to go on with a report later; after a week they have to be uploaded again",
    "removed",
)
AUDIT = Kept(
    "audit",
    ("intake", "routing", "opd", "notify", "sla"),
    "the audit logs (`audit`), since the entry was written",
    "audit_days",
    "as long as what they are about is on the topics",
    "removed from the beginning; an entry says where the log now begins",
)
KEPT = (INBOX, DELIVERIES, IDENTITY_ACCESSES, STAFF, PHOTOS, AUDIT)
