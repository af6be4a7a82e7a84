"""The five complaints of the demo. A story is what its people do, in order; the narrator checks and prints each
step."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from deploy.demo.narrator import Narrator
from deploy.demo.people import Json, Person
from deploy.demo.pictures import street
from shared.events import now
from shared.sop import Transition

SHORTENED = {"LAPOR_DEADLINES__FORWARD": "20s"}
"""The demo's settings: step 2 is due after 20 seconds. The neglected complaint passes that, the others are forwarded
long before. No clock is faked."""


@dataclass(frozen=True, slots=True)
class Cast:
    """Everybody who is signed in."""

    citizen: Person
    central: Person
    regional: Person
    coordinator: Person
    agencies: dict[str, Person]


@dataclass(frozen=True, slots=True)
class Complaint:
    """What a story is about: its ids, and the person who filed it."""

    id: str
    number: str
    citizen: Person


async def _report(person: Person, title: str, description: str, category: str, seed: int) -> Json:
    return {
        "title": title,
        "description": description,
        "category": category,
        "place": {"longitude": 109.3425, "latitude": -0.0263, "address": "Jalan Gajah Mada, dekat simpang Pahlawan"},
        "seen_at": (now() - timedelta(hours=3)).isoformat(),
        "photos": [await person.photo("intake", street(seed, repaired=False))],
        "visibility": "public",
    }


class Stories:
    """Tells the stories on one running system."""

    def __init__(self, cast: Cast, narrator: Narrator, agencies: tuple[str, str]) -> None:
        self._cast = cast
        self._tell = narrator
        self._first, self._second = agencies

    async def submit(self, title: str, description: str, category: str = "roads", seed: int = 1) -> Complaint:
        """SOP step 1: the citizen files a report with a photo."""
        citizen = self._cast.citizen
        answer = await citizen.post(
            "intake", "/v1/complaints", await _report(citizen, title, description, category, seed)
        )
        complaint = Complaint(answer["complaint_id"], answer["number"], citizen)
        await self._tell.step(complaint.id, 1, Transition.SUBMITTED, citizen)
        return complaint

    async def _move(
        self, person: Person, service: str, path: str, action: str, move: Transition, complaint: Complaint, body: Json
    ) -> None:
        await person.can(service, path, move.value)
        answer = await person.post(service, f"{path}/{action}", body)
        await self._tell.step(complaint.id, answer["seq"], move, person)

    async def _by_citizen(self, complaint: Complaint, action: str, move: Transition, body: Json) -> None:
        path = f"/v1/complaints/{complaint.id}"
        await self._move(complaint.citizen, "intake", path, action, move, complaint, body)

    async def _by_operator(self, who: Person, complaint: Complaint, action: str, move: Transition, body: Json) -> None:
        await self._move(who, "routing", f"/v1/cases/{complaint.id}", action, move, complaint, body)

    async def _by_agency(self, code: str, complaint: Complaint, action: str, move: Transition, body: Json) -> None:
        path = f"/v1/work/{complaint.id}"
        await self._move(self._cast.agencies[code], "opd", path, action, move, complaint, body)

    async def forward(self, complaint: Complaint) -> None:
        """SOP step 2."""
        body = {"analysis": "Laporan lengkap: foto, lokasi, dan uraian jelas. Diteruskan ke operator daerah."}
        await self._by_operator(self._cast.central, complaint, "forward", Transition.FORWARDED, body)

    async def assign(self, complaint: Complaint, agency: str) -> None:
        """SOP step 3, "Yes"."""
        body = {"agency": agency, "considerations": "Tim PPM: jalan kota, kewenangan OPD ini; mendesak karena ramai."}
        await self._by_operator(self._cast.regional, complaint, "assign", Transition.ASSIGNED, body)

    async def start(self, complaint: Complaint, agency: str) -> None:
        """SOP step 4, begun."""
        body = {"unit": "Sekretariat, Subbagian Umum"}
        await self._by_agency(agency, complaint, "start", Transition.STARTED, body)

    async def complete(self, complaint: Complaint, agency: str, seed: int, *, repaired: bool = True) -> None:
        """SOP step 4, finished: evidence with a photo of the same street."""
        photo = await self._cast.agencies[agency].photo("opd", street(seed, repaired=repaired))
        body = {"photos": [photo], "note": "Lubang ditutup dengan aspal panas dan dipadatkan."}
        await self._by_agency(agency, complaint, "complete", Transition.COMPLETED, body)

    async def document(self, complaint: Complaint) -> None:
        """SOP step 5, and step 6, which the system does by itself."""
        body = {"note": "Bukti sesuai dengan laporan; tindak lanjut didokumentasikan."}
        await self._by_operator(self._cast.regional, complaint, "document", Transition.DOCUMENTED, body)
        await self._tell.answered(complaint.id)

    async def straight(self) -> Complaint:
        """All six steps without a detour."""
        complaint = await self.submit(
            "Jalan berlubang di Gajah Mada", "Lubang selebar satu meter, membahayakan pengendara."
        )
        await self.forward(complaint)
        await self.assign(complaint, self._first)
        await self.start(complaint, self._first)
        note: dict[str, Any] = {"note": "Tim sudah di lokasi; pengaspalan hari ini."}
        answer = await self._cast.agencies[self._first].post("opd", f"/v1/work/{complaint.id}/notes", note)
        await self._tell.progress(answer["id"], self._cast.agencies[self._first])
        await self.complete(complaint, self._first, 1)
        await self.document(complaint)
        return complaint

    async def corrected(self) -> Complaint:
        """Returned as incomplete, corrected by the citizen, and back at the desk that asked."""
        complaint = await self.submit("Ada jalan rusak", "Jalan di daerah kami rusak, mohon diperbaiki segera.", seed=2)
        await self.forward(complaint)
        body = {"reason": "incomplete", "explanation": "Sebutkan nama jalan dan patokan terdekat, dan foto dari dekat."}
        await self._by_operator(self._cast.regional, complaint, "return", Transition.RETURNED, body)
        report = await _report(
            complaint.citizen,
            "Jalan rusak di Gang Kenari, Sungai Jawi",
            "Aspal terkelupas sepanjang 10 meter di depan rumah nomor 12, dekat masjid.",
            "roads",
            3,
        )
        await self._by_citizen(complaint, "resubmit", Transition.RESUBMITTED, report)
        await self.assign(complaint, self._first)
        return complaint

    async def reassigned(self) -> Complaint:
        """Declined by the first agency, assigned to the one it suggests."""
        complaint = await self.submit("Sampah menumpuk di tepi parit", "Tumpukan sampah menutup parit.", "waste", 4)
        await self.forward(complaint)
        await self.assign(complaint, self._first)
        body = {"reason": "Pengangkutan sampah bukan kewenangan dinas kami.", "suggested_agency": self._second}
        await self._by_agency(self._first, complaint, "decline", Transition.DECLINED, body)
        await self.assign(complaint, self._second)
        await self.start(complaint, self._second)
        return complaint

    async def reworked(self) -> Complaint:
        """Evidence that does not do, then an answer, a reopening, a second answer, a rating."""
        complaint = await self.submit(
            "Trotoar amblas depan sekolah", "Trotoar amblas, anak sekolah jalan di badan jalan.", seed=5
        )
        await self.forward(complaint)
        await self.assign(complaint, self._first)
        await self.start(complaint, self._first)
        await self.complete(complaint, self._first, 5, repaired=False)
        body = {"reason": "Foto belum menunjukkan pekerjaan selesai: lubang masih terlihat."}
        await self._by_operator(self._cast.regional, complaint, "rework", Transition.REWORK_REQUESTED, body)
        await self.complete(complaint, self._first, 5)
        await self.document(complaint)
        await self._by_citizen(
            complaint, "reopen", Transition.REOPENED, {"reason": "Amblas lagi setelah hujan pada malam yang sama."}
        )
        await self.assign(complaint, self._first)
        await self.start(complaint, self._first)
        await self.complete(complaint, self._first, 6)
        await self.document(complaint)
        await self._by_citizen(
            complaint, "rate", Transition.CLOSED, {"rating": 4, "comment": "Akhirnya baik, terima kasih."}
        )
        return complaint

    async def neglected(self) -> Complaint:
        """Filed, and left lying at the central desk; `Narrator.overdue` tells how it ends."""
        return await self.submit(
            "Lampu jalan padam di Jalan Imam Bonjol", "Sudah seminggu padam.", "street_lighting", 7
        )
