"""Requests that file complaints: valid and all different, put together beforehand so that sending one costs next to
nothing."""

import json
import random
import secrets
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from services.intake.place import DEFAULT_CITY, City, PlaceRefused
from shared.events import now
from tests.load.installation import Citizen
from tests.load.wire import request

_CATEGORIES = Path("services/intake/data/categories.json")
_WHAT = (
    "Jalan berlubang", "Lampu jalan padam", "Sampah menumpuk", "Drainase tersumbat", "Air bersih mati", "Trotoar rusak",
    "Pohon tumbang", "Rambu hilang", "Jembatan retak", "Pasar kebanjiran",
)  # fmt: skip
_WHERE = ("Gajah Mada", "Ahmad Yani", "Tanjungpura", "Veteran", "Pahlawan", "Diponegoro", "Sungai Raya", "Imam Bonjol")
_DETAIL = (
    "Sudah seminggu keadaannya begini dan warga sekitar sangat terganggu, terutama pada malam hari.",
    "Anak sekolah melewati tempat ini setiap pagi; mohon segera ditangani sebelum ada korban.",
    "Kami sudah melapor kepada ketua RT dan kelurahan, tetapi sampai hari ini belum ada tindakan.",
    "Kalau hujan turun keadaannya bertambah parah, air menggenang sampai ke halaman rumah warga.",
)
VARIANTS = 8


def points(count: int, seed: int = 1) -> list[tuple[float, float]]:
    """Longitudes and latitudes inside the city."""
    city, chance, found = City.load(DEFAULT_CITY), random.Random(seed), list[tuple[float, float]]()
    while len(found) < count:
        longitude = round(chance.uniform(109.29, 109.38), 5)
        latitude = round(chance.uniform(-0.07, 0.01), 5)
        try:
            city.place(longitude, latitude, None, None)
        except PlaceRefused:
            continue
        found.append((longitude, latitude))
    return found


class Reports:
    """Requests of these citizens. Each has a number of its own in the title and an Idempotency-Key of its own."""

    def __init__(self, citizens: Sequence[Citizen], *, seed: int = 1) -> None:
        chance = random.Random(seed)
        categories = [entry["code"] for entry in json.loads(_CATEGORIES.read_text(encoding="utf-8"))]
        seen_at = (now() - timedelta(hours=3)).isoformat()
        places = points(len(citizens) * VARIANTS, seed)
        self._run = secrets.randbits(32)  # not from `chance`: no two runs may use a key twice
        self._templates: list[bytes] = []
        for longitude, latitude in places:
            citizen = citizens[len(self._templates) % len(citizens)]
            body = {
                "title": f"{chance.choice(_WHAT)} di {chance.choice(_WHERE)}, laporan %09d",
                "description": " ".join(chance.sample(_DETAIL, 2)),
                "category": chance.choice(categories),
                "place": {"longitude": longitude, "latitude": latitude, "address": f"Jalan {chance.choice(_WHERE)}"},
                "seen_at": seen_at,
                "photos": [citizen.photo],
            }
            encoded = json.dumps(body).encode()
            filled = encoded % 0
            whole = request("POST", "/v1/complaints", filled, token=citizen.token, headers={"Idempotency-Key": "KEY"})
            head = whole[: -len(filled)].replace(b"Key: KEY", b"Key: %08x-%09d")
            self._templates.append(head + encoded)
        self._next = 0

    def next(self) -> bytes:
        """The next request."""
        self._next += 1
        number = self._next
        return self._templates[number % len(self._templates)] % (self._run, number, number)
