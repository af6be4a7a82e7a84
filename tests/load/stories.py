"""One complaint's documents in all five databases, made by the services' own decisions and folds.

A story is told twice with another identity and at another time of day; where the two differ is where the seeder varies
its copies (`tests.load.seed`).
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from services.intake import desk as intake
from services.intake import projection as complaints
from services.notify import desk as notify
from services.notify import projection as notices
from services.notify.settings import Settings
from services.opd import desk as opd
from services.opd import projection as work
from services.routing import desk as routing
from services.routing import projection as cases
from services.sla import desk as sla
from services.sla import projection as clocks
from shared.calendar import Deadlines
from shared.case import Case
from shared.events import (
    Actor,
    Agency,
    ChainEvent,
    ClockEvent,
    ComplaintEvent,
    Event,
    NotificationDelivered,
    Photo,
    Place,
    Report,
)
from shared.projection import Derive, Document, chain_order, concerns, fold
from shared.sop import MOVES, Refusal, Role

T = TypeVar("T")

Documents = dict[tuple[str, str], list[Document]]
"""Documents by service and collection."""

_SOON = timedelta(seconds=1)
_PATIENCE = notify.Patience.of(Settings())
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes one complaint another than its like. All values of a field are of one length."""

    complaint_id: str
    number: str
    reporter_id: str
    serial: str


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and about what a story is."""

    title: str
    description: str
    category: str
    agency: Agency
    other_agency: Agency
    longitude: float
    latitude: float
    district: str
    visibility: str


@dataclass(frozen=True, slots=True)
class Plot:
    """What happens, as steps ``(days after the last one, what)``, and how often among a hundred thousand complaints."""

    name: str
    weight: int
    steps: tuple[tuple[float, str], ...]
    closed: bool = True


_MINUTES = 1 / (24 * 60)
_FINISHED = ((3, "completed"), (4 * _MINUTES, "documented"))
_STRAIGHT = ((0, "submitted"), (1, "forwarded"), (1, "assigned"), (1, "started"), (2, "noted"), *_FINISHED)

PLOTS: tuple[Plot, ...] = (
    Plot("rated", 50_000, (*_STRAIGHT, (2, "rated"))),
    Plot("lapsed", 24_000, (*_STRAIGHT, (30, "lapsed"))),
    Plot("forwarded late", 5_000, ((0, "submitted"), (4, "forwarded"), *_STRAIGHT[2:], (3, "rated"))),
    Plot("worked late", 5_000, (*_STRAIGHT[:5], (12, "completed"), (4 * _MINUTES, "documented"), (1, "rated"))),
    Plot("corrected", 5_000, (*_STRAIGHT[:2], (1, "returned"), (2, "resubmitted"), *_STRAIGHT[2:], (1, "rated"))),
    Plot("declined", 4_000, (*_STRAIGHT[:3], (1, "declined"), (1, "reassigned"), *_STRAIGHT[3:], (1, "rated"))),
    Plot("withdrawn", 2_000, (*_STRAIGHT[:2], (1, "returned"), (1, "withdrawn"))),
    Plot("reworked", 2_000, (*_STRAIGHT[:6], (4 * _MINUTES, "rework"), *_FINISHED, (1, "rated"))),
    Plot("submitted", 400, ((0, "submitted"),), closed=False),
    Plot("submitted, overdue", 100, ((0, "submitted"), (4, "")), closed=False),
    Plot("forwarded", 400, ((0, "submitted"), (1, "forwarded")), closed=False),
    Plot("forwarded, overdue", 100, ((0, "submitted"), (1, "forwarded"), (4, "")), closed=False),
    Plot("returned", 200, (*_STRAIGHT[:2], (1, "returned")), closed=False),
    Plot("assigned", 500, _STRAIGHT[:3], closed=False),
    Plot("in progress", 700, _STRAIGHT[:5], closed=False),
    Plot("in progress, overdue", 100, (*_STRAIGHT[:5], (10, "")), closed=False),
    Plot("completed", 100, (*_STRAIGHT[:6], (60 * _MINUTES, "")), closed=False),
    Plot("answered", 400, _STRAIGHT, closed=False),
)


def age(plot: Plot) -> timedelta:
    """How long the story takes from the complaint to its last step."""
    return sum((days * _DAY for days, _ in plot.steps), timedelta())


class Story:
    """One complaint, told step by step. ``documents`` has what each service keeps of it."""

    def __init__(
        self, plot: Plot, setting: Setting, identity: Identity, began_at: datetime, deadlines: Deadlines
    ) -> None:
        self._setting = setting
        self._identity = identity
        self._deadlines = deadlines
        self._rules = sla.Rules(deadlines, timedelta(seconds=2), timedelta(seconds=60))
        self._events: list[ComplaintEvent] = []
        self._recorded: list[tuple[Event, datetime]] = []
        self._closed = plot.closed
        self.documents: Documents = {}
        self._at = began_at
        for days, step in plot.steps:
            self._until(self._at + days * _DAY)
            if step:
                self._happened(self._decide(step), self._at)
        self._project()

    def _until(self, at: datetime) -> None:
        """Time passes: the alarms that fall due are issued."""
        while alarms := sla.due(self._events, self._rules, at) if self._events else []:
            for alarm in sorted(alarms, key=lambda event: event.occurred_at):
                self._happened(alarm, alarm.occurred_at + self._rules.grace)
        self._at = at

    def _happened(self, event: ComplaintEvent, at: datetime) -> None:
        """One event was journaled; notify learns of it and tells people, which makes events of its own."""
        self._events = sorted([*self._events, event], key=chain_order)
        self._recorded.append((event, at))
        made = notices.project([event], at + _SOON, self._deadlines, timedelta(seconds=60))
        for entry in made.inbox:
            read = {"unread": False, "read_at": entry["stored_at"] + timedelta(hours=1)} if self._closed else {}
            self._keep("notify", "inbox", {**entry, **read})
        for delivery in made.deliveries:
            done = delivery["created_at"]
            decision = notify.triage(delivery, {"email": None}, {}, done, _PATIENCE)
            assert isinstance(decision, notify.Finish)  # who has no address needs no courier
            finished = {"state": decision.state, "reason": decision.reason, "open": False, "done_at": done}
            settled = {**delivery, **finished, "reported": True}
            self._keep("notify", "deliveries", settled)
            if report := notify.report(settled):
                assert isinstance(report, ComplaintEvent)
                self._happened(report, done)

    def _decide(self, step: str) -> ComplaintEvent:
        case, at, place = Case.of(self._events), self._at, self._setting
        operator = Actor(
            role=Role.AGENCY_OPERATOR, id="seeded-operator", agency=case.agency.code if case.agency else ""
        )
        citizen, central, regional = (
            Actor(role=Role.CITIZEN, id=self._identity.reporter_id),
            Actor(role=Role.CENTRAL_OPERATOR, id="seeded-central"),
            Actor(role=Role.REGIONAL_OPERATOR, id="seeded-regional"),
        )
        considerations = "Kewenangan dinas; lokasi jelas dan bukti memadai."
        evidence = (_photo("b", "opd"),)
        decisions: dict[str, Callable[[], ComplaintEvent | Refusal]] = {
            "submitted": lambda: intake.submit(
                self._identity.complaint_id, self._identity.number, citizen, at, self._report()
            ),
            "forwarded": lambda: routing.forward(case, central, at, "Lengkap dan jelas; kewenangan kota."),
            "returned": lambda: routing.return_(case, regional, at, "incomplete", "Mohon lengkapi patokan terdekat."),
            "resubmitted": lambda: intake.resubmit(case, citizen, at, self._report()),
            "assigned": lambda: routing.assign(case, regional, at, place.agency, considerations, self._deadlines),
            "reassigned": lambda: routing.assign(
                case, regional, at, place.other_agency, considerations, self._deadlines
            ),
            "declined": lambda: opd.decline(case, operator, at, "Bukan kewenangan dinas kami.", None),
            "started": lambda: opd.start(case, operator, at, "Sekretariat, Subbagian Umum"),
            "noted": lambda: opd.note_progress(case, operator, at, "Tim sudah di lokasi, material datang besok."),
            "completed": lambda: opd.complete(case, operator, at, evidence, "Pekerjaan selesai dan sudah diperiksa."),
            "rework": lambda: routing.request_rework(
                case, regional, at, "Foto tidak menunjukkan lokasi yang dilaporkan.", self._deadlines
            ),
            "documented": lambda: routing.document(case, regional, at, "Bukti sesuai dengan laporan."),
            "rated": lambda: intake.rate(case, citizen, at, 4, "Terima kasih, sudah baik."),
            "withdrawn": lambda: intake.withdraw(case, citizen, at, None),
            "lapsed": lambda: intake.lapse(case, at, self._deadlines),
        }
        decided = decisions[step]()
        assert isinstance(decided, ComplaintEvent), f"{step} is refused: {decided}"
        if step == "noted":  # its id is drawn at random; told twice, the story must be the same
            decided = decided.model_copy(update={"id": f"{case.complaint_id}:{case.seq}:note"})
        return decided

    def _report(self) -> Report:
        place = self._setting
        visibility: Any = place.visibility
        return Report(
            title=f"{place.title}, laporan {self._identity.serial}",
            description=place.description,
            category=place.category,
            place=Place(longitude=place.longitude, latitude=place.latitude, district=place.district),
            seen_at=self._at - timedelta(minutes=5),
            photos=(_photo("a", "intake"),),
            visibility=visibility,
        )

    def _project(self) -> None:
        hexadecimal = self._identity.complaint_id.replace("-", "")
        for event, at in self._recorded:
            entry: Document = {
                "_id": event.id,
                "topic": event.topic,
                "event": event.model_dump(),
                "recorded_at": at,
                "published": True,
            }
            if isinstance(event, ChainEvent) and event.actor.role is not Role.SYSTEM:
                entry["idempotency"] = {"key": f"{hexadecimal}{event.seq:032x}", "request": "0" * 64}
            self._keep(_desk_of(event), "journal", entry)
        self._fold("intake", "complaints", complaints.deriving(self._deadlines), complaints.TAKES)
        self._fold("routing", "cases", cases.deriving(self._deadlines), cases.TAKES)
        self._fold("opd", "work", work.derive, work.TAKES)
        self._fold("sla", "clocks", clocks.deriving(self._rules), clocks.TAKES)

    def _fold(self, service: str, collection: str, derive: Derive, takes: Sequence[str]) -> None:
        taken = [event for event in self._events if concerns(event, takes)]
        document = fold(None, taken, derive) if taken else None
        if document is not None:
            # a revision only has to be the one that was read, and a hash of ids could not be copied
            self._keep(service, collection, document | {"revision": len(taken)})

    def _keep(self, service: str, collection: str, document: Document) -> None:
        self.documents.setdefault((service, collection), []).append(document)


def _desk_of(event: Event) -> str:
    if isinstance(event, ChainEvent):
        return MOVES[event.transition].desk.value
    if isinstance(event, ClockEvent):
        return "sla"
    return "notify" if isinstance(event, NotificationDelivered) else "opd"


def _photo(digit: str, held_by: Any) -> Photo:
    return Photo(id=digit * 64, held_by=held_by, content_type="image/jpeg", width=1280, height=960)


_WHAT = {
    "roads": ("Jalan berlubang", "Aspal terkelupas", "Jembatan retak"),
    "street_lighting": ("Lampu jalan padam", "Tiang lampu miring"),
    "waste": ("Sampah menumpuk", "Bak sampah penuh"),
    "drainage_flood": ("Drainase tersumbat", "Genangan air", "Gorong-gorong ambruk"),
    "water_supply": ("Air bersih mati", "Pipa bocor"),
    "public_order": ("Pedagang menutup trotoar", "Kebisingan malam hari"),
    "health": ("Antrean puskesmas panjang", "Obat tidak tersedia"),
    "education": ("Atap sekolah bocor", "Pagar sekolah roboh"),
    "social_aid": ("Bantuan belum diterima", "Data bantuan keliru"),
    "civil_registration": ("KTP belum terbit", "Akta kelahiran tertunda"),
    "transport_parking": ("Parkir liar", "Rambu hilang"),
    "permits": ("Izin usaha tertunda", "Reklame tanpa izin"),
    "parks_trees": ("Pohon tumbang", "Taman tidak terawat"),
    "markets": ("Pasar kebanjiran", "Kios rusak"),
    "other": ("Layanan tidak ramah", "Informasi tidak jelas"),
}
_STREETS = (
    "Gajah Mada", "Ahmad Yani", "Tanjungpura", "Veteran", "Pahlawan", "Diponegoro", "Sungai Raya", "Imam Bonjol",
    "Komyos Sudarso", "Sultan Abdurrahman", "Tanjung Raya", "Khatulistiwa", "Husein Hamzah", "Danau Sentarum",
    "Purnama", "Parit Haji Husin", "Sutoyo", "Merdeka", "Kapuas", "Siam",
)  # fmt: skip
_PLACES = (
    "pasar",
    "sekolah dasar",
    "masjid",
    "gereja",
    "kantor lurah",
    "warung kopi",
    "jembatan",
    "simpang",
    "puskesmas",
)
_EFFECTS = (
    "warga sulit lewat pada malam hari", "anak sekolah hampir celaka", "air masuk ke rumah ketika hujan",
    "bau menyengat sampai ke jalan", "pengendara motor sering jatuh", "kami sudah melapor kepada ketua RT",
    "keadaan ini sudah dua minggu", "lansia tidak berani keluar rumah", "usaha kami terganggu",
)  # fmt: skip


def settings(
    count: int,
    agencies: Sequence[tuple[Agency, Sequence[str]]],
    points: Sequence[tuple[float, float, str]],
    chance: random.Random,
) -> list[Setting]:
    """So many places and subjects: agencies with the categories that they serve, points with their district."""
    made = []
    for _ in range(count):
        agency, categories = chance.choice(agencies)
        other = chance.choice([one for one, _ in agencies if one.code != agency.code])
        category = chance.choice(categories)
        street = chance.choice(_STREETS)
        longitude, latitude, district = chance.choice(points)
        effects = chance.sample(_EFFECTS, 3)
        made.append(
            Setting(
                title=f"{chance.choice(_WHAT[category])} di {street}",
                description=f"Di dekat {chance.choice(_PLACES)} di Jalan {street}: {', '.join(effects)}.",
                category=category,
                agency=agency,
                other_agency=other,
                longitude=longitude,
                latitude=latitude,
                district=district,
                visibility=chance.choices(("public", "anonim", "rahasia"), (90, 6, 4))[0],
            )
        )
    return made
