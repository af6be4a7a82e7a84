"""A complaint's events as its desks would issue them, for tests that begin in the middle of the procedure."""

from datetime import UTC, datetime, timedelta
from typing import Any

from shared.events import (
    CHAIN,
    Actor,
    Agency,
    ChainEvent,
    ComplaintEvent,
    NotificationDelivered,
    Photo,
    Place,
    ProgressNoted,
    Report,
    new_id,
)
from shared.sop import MOVES, Role, Status, Transition

BEGAN_AT = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
"""A Monday, 09:00 in Pontianak."""
PUPR = Agency(code="DPUPR", name="Dinas Pekerjaan Umum dan Penataan Ruang")
PERKIM = Agency(code="DPRKP", name="Dinas Perumahan Rakyat dan Kawasan Permukiman")
STRAIGHT = (
    Transition.SUBMITTED,
    Transition.FORWARDED,
    Transition.ASSIGNED,
    Transition.STARTED,
    Transition.COMPLETED,
    Transition.DOCUMENTED,
    Transition.ANSWERED,
)
"""The six steps without a detour."""
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
"""A trace context, as a caller or another system writes it."""


def photo(digit: str = "a", held_by: Any = "intake") -> Photo:
    """A reference to a photo whose id is one hex digit over and over."""
    return Photo(id=digit * 64, held_by=held_by, content_type="image/jpeg", width=640, height=480)


def report(**changes: Any) -> Report:
    """A citizen's report."""
    fields: dict[str, Any] = {
        "title": "Jalan berlubang di depan pasar",
        "description": "Lubang besar di tengah jalan, berbahaya bagi pengendara motor.",
        "category": "jalan",
        "place": Place(longitude=109.3425, latitude=-0.0263, district="Pontianak Kota"),
        "seen_at": BEGAN_AT - timedelta(hours=1),
        "photos": (photo(),),
        "visibility": "public",
    }
    return Report(**fields | changes)


class Chain:
    """One complaint's chain, built event by event: each call of `then` is the next ``seq``."""

    def __init__(self, *, at: datetime = BEGAN_AT, complaint_id: str | None = None, **submitted: Any) -> None:
        self.complaint_id = complaint_id or new_id()
        self.number = f"LP-{self.complaint_id[-8:]}"
        self.reporter_id = new_id()
        self.report = report()
        self.agency: Agency | None = None
        self.events: list[ComplaintEvent] = []
        self.at = at
        self.seq = 0
        self.then(Transition.SUBMITTED, after=timedelta(), **submitted)

    @property
    def status(self) -> Status:
        """Where the complaint stands after its last move."""
        moves = [event for event in self.events if isinstance(event, ChainEvent)]
        return MOVES[moves[-1].transition].target

    @property
    def last(self) -> ComplaintEvent:
        """The event that was added last."""
        return self.events[-1]

    def then(self, transition: Transition, *, after: timedelta = timedelta(minutes=1), **fields: Any) -> "Chain":
        """Add the next move, ``after`` the last; ``fields`` replace what a plain move of this kind carries."""
        self.at += after
        self.seq += 1
        self.agency = fields.get("agency", self.agency or PUPR)
        role = min(MOVES[transition].roles, key=list(Role).index)
        of_agency = self.agency.code if role is Role.AGENCY_OPERATOR else None
        given = self._common(ChainEvent.chain_id(self.complaint_id, self.seq)) | {
            "actor": Actor(role=role, id=self.reporter_id if role is Role.CITIZEN else f"test-{role}", agency=of_agency)
        }
        event = CHAIN[transition](**given | self._plain(transition) | fields)
        self.report = getattr(event, "report", self.report)
        self.events.append(event)
        return self

    def through(self, *transitions: Transition, after: timedelta = timedelta(minutes=1)) -> "Chain":
        """Add several plain moves."""
        for transition in transitions:
            self.then(transition, after=after)
        return self

    def received(self, *, at: datetime | None = None, about: int = 1) -> "Chain":
        """Add the side event that a notice about event number ``about`` reached the citizen."""
        given = self._common(f"{self.complaint_id}:{about}:delivered") | ({"occurred_at": at} if at else {})
        about_id = ChainEvent.chain_id(self.complaint_id, about)
        self.events.append(NotificationDelivered(**given, notice="submitted", about=about_id, channels=("inbox",)))
        return self

    def noted(self, note: str = "Tim sudah di lokasi.") -> "Chain":
        """Add a progress note of the agency that has the work."""
        assert self.agency is not None
        actor = Actor(role=Role.AGENCY_OPERATOR, id="test-agency_operator", agency=self.agency.code)
        given = self._common(f"{self.complaint_id}:{self.seq}:{new_id()}")
        self.events.append(ProgressNoted(**given, actor=actor, agency=self.agency, note=note))
        return self

    def _common(self, event_id: str) -> dict[str, Any]:
        return {
            "id": event_id,
            "occurred_at": self.at,
            "complaint_id": self.complaint_id,
            "seq": self.seq,
            "number": self.number,
            "reporter_id": self.reporter_id,
        }

    def _plain(self, transition: Transition) -> dict[str, Any]:
        """What a move of this kind carries when nothing else is asked for; fields of other kinds are ignored."""
        evidence = (photo("b", "opd"),)
        return {
            "report": self.report,
            "analysis": "Laporan lengkap, diteruskan ke operator daerah.",
            "explanation": "Mohon tambahkan lokasi yang lebih jelas.",
            "considerations": "Sesuai kewenangan OPD.",
            "binding": False,
            "agency": self.agency,
            "unit": "Sekretariat",
            "photos": evidence,
            "note": "Lubang sudah ditambal.",
            "evidence": evidence,
            "evidence_note": "Lubang sudah ditambal.",
            "due_at": self.at + timedelta(days=10),
            "channels": ("inbox",),
            "outcome": "rated",
            "rating": 5 if transition is Transition.CLOSED else None,
            "reason": "incomplete" if transition is Transition.RETURNED else "Belum selesai, masih berlubang.",
        }
