"""Row 5: photos as phones make them, and what they do to those who file complaints meanwhile."""

import asyncio
import io
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from PIL import Image

from shared.photos import PhotoSettings
from tests.images import grainy
from tests.load import floor_photos
from tests.load.generator import Load, quantile
from tests.load.installation import Citizen, Installation, installation
from tests.load.proof import until_level
from tests.load.reports import Reports
from tests.load.row import Effort, Measured, compare
from tests.load.wire import Pool, pool, request

WIDTH, HEIGHT, BYTES = 4000, 3000, 4_000_000
WORKERS = PhotoSettings().workers
UPLOADS_AT_ONCE = 8
UPLOADS_BESIDE = 4
PHOTOS_PER_SECOND = 8
"""More than two cores prepare: none is sent twice."""
CREATES_PER_SECOND = 40


class Camera:
    """Photos of 12 megapixels and some 4 MB, each different from all before."""

    def __init__(self) -> None:
        self._scene = grainy(WIDTH, HEIGHT)
        self._taken = 0
        self.quality = next((q for q in range(95, 40, -5) if len(self._encoded(q)) <= 1.05 * BYTES), 40)

    def _encoded(self, quality: int) -> bytes:
        out = io.BytesIO()
        self._scene.save(out, "JPEG", quality=quality)
        return out.getvalue()

    def take(self) -> bytes:
        """The next one."""
        self._taken += 1
        colour = (self._taken % 256, self._taken // 256 % 256, 90)
        self._scene.paste(Image.new("RGB", (400, 400), colour), (200, 200))
        return self._encoded(self.quality)


@dataclass(frozen=True, slots=True)
class Photos:
    """Uploads through intake beside Pillow alone; creates with and without uploads beside them."""

    name: str = "photo"
    title: str = "A photo of 4 MB, 12 megapixels"
    how: str = (
        f"{UPLOADS_AT_ONCE} uploads at a time through intake's HTTP: received, decoded, judged, cleaned, hashed, "
        f"scaled, encoded in three sizes and stored in GridFS, with {WORKERS} worker processes; beside a pool of as "
        "many processes that decode the same photos with Pillow, resize each twice and encode the three. Runs "
        f"alternate. Then {CREATES_PER_SECOND} complaints a second are filed by 8 connections, with and without "
        f"{UPLOADS_BESIDE} uploads at a time beside them. The other services are stopped. Each photo is new to the "
        "service."
    )

    def run(self, effort: Effort) -> Measured:
        pairs, count = int(effort.pick(1, 3)), int(effort.pick(4, 24))
        seconds = effort.pick(3, 8)
        camera = Camera()
        result = Measured([], facts={"photos_per_run": count, "quality": camera.quality, "workers": WORKERS})
        ours: list[float] = []
        floor: list[float] = []
        alone: list[Load] = []
        beside: list[Load] = []
        sizes: list[int] = []
        with (
            installation(effort.folder / "photo", effort.say, only=("intake",)) as bench,
            ProcessPoolExecutor(WORKERS) as workers,
        ):
            citizens = self._citizens(bench, int(effort.pick(10, 40)))
            reports = Reports(citizens)
            floor_photos.rate([camera.take() for _ in range(WORKERS)], workers)
            bench.run(uploads(bench, citizens, [camera.take() for _ in range(WORKERS)]))
            for number in range(1, pairs + 1):
                photos = [camera.take() for _ in range(count)]
                sizes += map(len, photos)
                with bench.cpu.of(result.cpu, f"ours {number}"):
                    ours.append(bench.run(uploads(bench, citizens, photos)))
                with bench.cpu.of(result.cpu, f"floor {number}"):
                    floor.append(floor_photos.rate(photos, workers))
                bench.say(f"  photos {number}: ours {ours[-1]:.2f}/s, floor {floor[-1]:.2f}/s")
            for number in range(1, pairs + 1):
                photos = [camera.take() for _ in range(int(seconds * PHOTOS_PER_SECOND))]
                alone.append(bench.run(creates(bench, reports, seconds)))
                beside.append(bench.run(creates(bench, reports, seconds, citizens, photos)))
                bench.say(
                    f"  creates {number}: p50 {1e3 * quantile(alone[-1].latencies, 0.5):.1f} ms alone, "
                    f"{1e3 * quantile(beside[-1].latencies, 0.5):.1f} ms beside uploads"
                )
            until_level(bench, ("intake",), within=60)
        result.facts["bytes_per_photo"] = round(sum(sizes) / len(sizes))
        result.comparisons += [
            compare("photos", "/s", ours, floor, at_least=0.8),
            *(
                compare(
                    f"create p{round(100 * share)} beside uploads",
                    "ms",
                    [1e3 * quantile(load.latencies, share) for load in beside],
                    [1e3 * quantile(load.latencies, share) for load in alone],
                    at_most=2.0,
                    against_name="same without uploads",
                )
                for share in (0.5, 0.95)
            ),
        ]
        result.proofs["no create was refused"] = not sum(load.refused for load in (*alone, *beside))
        return result

    def _citizens(self, bench: Installation, count: int) -> tuple[Citizen, ...]:
        bench.system.start("opd")  # whose photo an agency's operator uploads
        citizens = bench.people(count).citizens
        bench.system.stop("opd")
        return citizens


async def upload(service: Pool, citizen: Citizen, data: bytes) -> None:
    """One photo. Raises ValueError if it is not taken."""
    sent = request("POST", "/v1/photos", data, token=citizen.token, headers={"Content-Type": "image/jpeg"})
    status, body = await service.send(sent)
    if status != 201:
        raise ValueError(f"{status} {body[:300]!r}")


async def uploads(bench: Installation, citizens: tuple[Citizen, ...], photos: list[bytes]) -> float:
    """Photos per second through intake."""
    async with pool(bench.urls["intake"], UPLOADS_AT_ONCE) as intake:
        began = time.perf_counter()
        await asyncio.gather(*(upload(intake, citizens[n % len(citizens)], photo) for n, photo in enumerate(photos)))
        return len(photos) / (time.perf_counter() - began)


async def creates(
    bench: Installation,
    reports: Reports,
    seconds: float,
    citizens: tuple[Citizen, ...] = (),
    photos: Sequence[bytes] = (),
) -> Load:
    """File complaints at an even rate; while that goes on, upload ``photos`` one after the other."""
    connections = 8
    took: list[float] = []
    statuses: Counter[int] = Counter()
    async with pool(bench.urls["intake"], connections) as intake, pool(bench.urls["intake"], UPLOADS_BESIDE) as other:

        async def upload_on(number: int) -> None:
            for photo in itertools.cycle(photos[number::UPLOADS_BESIDE]):
                await upload(other, citizens[number % len(citizens)], photo)

        uploading = [asyncio.create_task(upload_on(number)) for number in range(UPLOADS_BESIDE if photos else 0)]
        began = time.perf_counter()

        async def file_on(number: int) -> None:
            due = began + number / CREATES_PER_SECOND
            while due < began + seconds:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                status, _ = await intake.send(reports.next())
                took.append(time.perf_counter() - due)  # from when it was due: waiting for one's turn counts
                statuses[status] += 1
                due += connections / CREATES_PER_SECOND

        await asyncio.gather(*(file_on(number) for number in range(connections)))
        ended = time.perf_counter()
        for task in uploading:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    return Load(ended - began, sorted(took), statuses)


PHOTOS = Photos()
