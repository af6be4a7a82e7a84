"""The event contract: one frozen model per topic.

Agency systems build on these models, so a change must be compatible: ``tests/contract/test_event_schemas.py`` compares
the JSON Schemas with the golden files. No event names a person: reporter and actor are opaque ids. How an event is sent
is in ``shared.records``.
"""

from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import uuid_utils
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from shared.sop import Clock, Desk, Role, Status, Transition

CLOCK: ContextVar[Callable[[], datetime]] = ContextVar("CLOCK", default=lambda: datetime.now(UTC))
"""What `now` reads: the machine's clock, unless a context has its own (``tests/simulation``)."""
IDENTIFIERS: ContextVar[Callable[[], str]] = ContextVar("IDENTIFIERS", default=lambda: str(uuid_utils.uuid7()))
"""What `new_id` draws from."""


def now() -> datetime:
    """The present moment, aware UTC, in whole milliseconds: what MongoDB stores, so that documents compare equal."""
    return _whole_milliseconds(CLOCK.get()())


def new_id() -> str:
    """A UUIDv7 (RFC 9562): unique, and sorted by the time it was made."""
    return IDENTIFIERS.get()()


def first_id(moment: datetime) -> str:
    """What every id of `new_id` made from a moment on sorts after, and every earlier one before."""
    milliseconds = f"{int(moment.timestamp() * 1000):012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}-7"


def _whole_milliseconds(moment: datetime) -> datetime:
    try:
        moment = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    except OverflowError:  # of the first or last hours that a datetime can hold
        raise ValueError("the time is out of range") from None
    beyond = moment.microsecond % 1000
    return moment.replace(microsecond=moment.microsecond - beyond) if beyond else moment


Moment = Annotated[AwareDatetime, AfterValidator(_whole_milliseconds)]


class Model(BaseModel):
    """A value of the contract. Unknown fields are ignored, so that a producer may add one without breaking its
    readers."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Photo(Model):
    """A reference to a stored photo: ``id`` is the SHA-256 of its content in hex, ``held_by`` the service that serves
    it."""

    id: str = Field(pattern=r"^[0-9a-f]{64}$")
    held_by: Literal["intake", "opd"]
    content_type: str
    width: int = Field(gt=0, description="pixels")
    height: int = Field(gt=0, description="pixels")


class Place(Model):
    """Where the problem is: a point (WGS 84, degrees), an address, or both, and the district (kecamatan) if known."""

    longitude: float | None = Field(None, ge=-180, le=180)
    latitude: float | None = Field(None, ge=-90, le=90)
    address: str | None = None
    district: str | None = None


class Report(Model):
    """What the citizen reports (SOP step 1)."""

    title: str
    description: str
    category: str
    place: Place
    seen_at: Moment
    photos: tuple[Photo, ...]
    visibility: Literal["public", "anonim", "rahasia"]


class Agency(Model):
    """A city agency (OPD): its code in the directory, and its name at the time."""

    code: str
    name: str


class Actor(Model):
    """Who made a move: the role, an opaque account id, and for agency operators the agency's code."""

    role: Role
    id: str
    agency: str | None = None


SYSTEM = Actor(role=Role.SYSTEM, id="system")


class Event(Model):
    """What all events share. ``id`` is the journal's ``_id`` and the CloudEvents id; the same id is the same event."""

    topic: ClassVar[str]
    id: str
    occurred_at: Moment

    @cached_property
    def stored(self) -> dict[str, Any]:
        """The event as journals and projections keep it. One for all: do not change it."""
        return self.model_dump()

    @property
    def key(self) -> str:
        """The Kafka key: what keeps the events of one subject in one partition."""
        raise NotImplementedError


class ComplaintEvent(Event):
    """An event about one complaint. ``seq`` is its place in the chain; for a side event, the place it was made at."""

    complaint_id: str
    seq: int = Field(ge=1)
    number: str = Field(description="the number that people use")
    reporter_id: str = Field(description="opaque id of the citizen; of an anonymous one another in each complaint")

    @property
    def key(self) -> str:
        return self.complaint_id


class ChainEvent(ComplaintEvent):
    """One SOP transition: number ``seq`` of the complaint's gapless chain."""

    transition: ClassVar[Transition]
    actor: Actor

    @staticmethod
    def chain_id(complaint_id: str, seq: int) -> str:
        return f"{complaint_id}:{seq}"


class Submitted(ChainEvent):
    transition = Transition.SUBMITTED
    topic = transition.topic
    report: Report


class Forwarded(ChainEvent):
    transition = Transition.FORWARDED
    topic = transition.topic
    analysis: str


class Returned(ChainEvent):
    transition = Transition.RETURNED
    topic = transition.topic
    reason: Literal["incomplete", "outside_authority"]
    explanation: str = Field(description="what is missing, or who is competent; the citizen reads it")


class Resubmitted(ChainEvent):
    transition = Transition.RESUBMITTED
    topic = transition.topic
    report: Report


class Assigned(ChainEvent):
    transition = Transition.ASSIGNED
    topic = transition.topic
    agency: Agency
    considerations: str = Field(description="of the PPM team")
    report: Report
    binding: bool = Field(description="made by the coordinator: cannot be declined")
    due_at: Moment = Field(description="when the agency's follow-up is due (SOP step 4)")


class Declined(ChainEvent):
    transition = Transition.DECLINED
    topic = transition.topic
    agency: Agency
    reason: str
    suggested_agency: str | None = Field(None, description="code of an agency in the directory")


class Started(ChainEvent):
    transition = Transition.STARTED
    topic = transition.topic
    agency: Agency
    unit: str = Field(description="of the agency's secretariat, which follows up")


class Completed(ChainEvent):
    transition = Transition.COMPLETED
    topic = transition.topic
    agency: Agency
    photos: tuple[Photo, ...]
    note: str


class ReworkRequested(ChainEvent):
    transition = Transition.REWORK_REQUESTED
    topic = transition.topic
    agency: Agency
    reason: str
    due_at: Moment = Field(description="when the agency's new follow-up is due")


class Documented(ChainEvent):
    transition = Transition.DOCUMENTED
    topic = transition.topic
    agency: Agency
    note: str
    evidence: tuple[Photo, ...] = Field(description="the agency's photos of the finished work")
    evidence_note: str = Field(description="the agency's note on the finished work")


class Answered(ChainEvent):
    transition = Transition.ANSWERED
    topic = transition.topic
    channels: tuple[str, ...] = Field(description="the channels that delivered the reply")


class Reopened(ChainEvent):
    transition = Transition.REOPENED
    topic = transition.topic
    reason: str


class Closed(ChainEvent):
    transition = Transition.CLOSED
    topic = transition.topic
    outcome: Literal["rated", "withdrawn", "lapsed"]
    rating: int | None = Field(None, ge=1, le=5)
    comment: str | None = None


class ProgressNoted(ComplaintEvent):
    """A side event: the agency tells how the work goes."""

    topic = "work.progress"
    actor: Actor
    agency: Agency
    note: str


class NotificationDelivered(ComplaintEvent):
    """A side event: the notice about event ``about`` reached the citizen; ``notice`` names its text. Issued for the
    receipt, whose clock it meets (SOP step 1): what a notice says is in the event that it tells of."""

    topic = "notification.delivered"
    notice: str
    about: str
    channels: tuple[str, ...]


class ClockEvent(ComplaintEvent):
    """A side event of the SLA service about one clock: opened at ``opened_at`` by event ``seq``."""

    clock: Clock
    step: int | None
    status: Status
    holder: Desk | None
    responsible: Role
    agency: Agency | None
    opened_at: Moment
    due_at: Moment


class SlaWarned(ClockEvent):
    topic = "sla.warned"


class SlaBreached(ClockEvent):
    topic = "sla.breached"


class SlaWithdrawn(ClockEvent):
    """A warning or breach is taken back: an event that arrived late shows that the step was done in time."""

    topic = "sla.withdrawn"
    alarm: str = Field(description="id of the event taken back")


class CitizenContact(Event):
    """How to reach a citizen; restricted and compacted: the highest ``version`` of a citizen is the one in force, until
    a record without a value (`ContactErased`) says that the citizen has deleted their data.

    ``restricted``: the citizen wants their data kept and not used (UU PDP, article 11): nothing is sent."""

    topic = "citizen.contact"
    citizen_id: str
    version: int = Field(ge=1)
    name: str
    email: str | None
    phone: str | None
    language: Literal["id", "en"]
    restricted: bool = False

    @property
    def key(self) -> str:
        return self.citizen_id


class ContactErased(Event):
    """The citizen has deleted their data. It is a record without a value, Kafka's tombstone: when the topic is
    compacted, all that it held under the citizen's key goes."""

    topic = CitizenContact.topic
    citizen_id: str

    @property
    def key(self) -> str:
        return self.citizen_id


class CitizenCode(Event):
    """Somebody is to be sent a one-time code, or told of what was asked for in his name; restricted, and kept for an
    hour. The code is not in it: it is made from ``challenge_id`` (`shared.codes`).

    To channel ``none`` nothing is sent: somebody asked in the name of nobody, which must take as long as any other."""

    topic = "citizen.code"
    challenge_id: str
    purpose: Literal["register", "sign_in", "contact", "taken", "password_changed"]
    channel: Literal["email", "sms", "none"]
    address: str
    language: Literal["id", "en"]
    expires_at: Moment = Field(description="from when on it is not worth sending")

    @property
    def key(self) -> str:
        return self.challenge_id


class AuditAnchored(Event):
    """How far a service's audit log went, and the hash of its last entry then: what was taken from its end later shows
    by it (`shared.audit`)."""

    topic = "audit.anchored"
    service: str
    n: int = Field(ge=1)
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")

    @property
    def key(self) -> str:
        return self.service


CHAIN: dict[Transition, type[ChainEvent]] = {
    model.transition: model
    for model in (
        Submitted, Forwarded, Returned, Resubmitted, Assigned, Declined, Started,
        Completed, ReworkRequested, Documented, Answered, Reopened, Closed,
    )
}  # fmt: skip


def is_receipt(event: Event) -> bool:
    """Whether it tells that the notice of having been received reached the citizen (SOP step 1)."""
    return isinstance(event, NotificationDelivered) and event.about == ChainEvent.chain_id(event.complaint_id, 1)


SIDE: tuple[type[ComplaintEvent], ...] = (ProgressNoted, NotificationDelivered, SlaWarned, SlaBreached, SlaWithdrawn)
_ALL: tuple[type[Event], ...] = (*CHAIN.values(), *SIDE, CitizenContact, CitizenCode, AuditAnchored)
EVENTS: dict[str, type[Event]] = {model.topic: model for model in _ALL}
RESTRICTED: frozenset[str] = frozenset({CitizenContact.topic, CitizenCode.topic})
"""Topics that hold personal data (UU PDP 27/2022): what is in them goes nowhere else, whatever is wrong with it."""
CHAIN_TOPICS: tuple[str, ...] = tuple(m.topic for m in CHAIN.values())


def from_document(topic: str, document: dict[str, Any]) -> Event:
    """The event in a journal's or projection's document, which only validated events get into."""
    return EVENTS[topic].model_validate(document)
