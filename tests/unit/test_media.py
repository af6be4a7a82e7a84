"""Photos: what is accepted, what is refused and why, and what is left of a photo that was cleaned."""

import asyncio
import io
import os
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.journal import Overloaded
from shared.media import CleanPhoto, Limits, PhotoRefused, Reason, Rendition, prepare
from shared.media_workers import PhotoWorkers
from tests import images


def decoded(rendition: Rendition) -> Image.Image:
    image = Image.open(io.BytesIO(rendition.data))
    image.load()
    assert image.format == "JPEG"
    assert image.mode == "RGB"
    assert image.size == (rendition.width, rendition.height)
    return image


def pixel(photo: CleanPhoto, x: int, y: int) -> tuple[int, ...]:
    value = decoded(photo.original).getpixel((x, y))
    assert isinstance(value, tuple)
    return value


def segments(data: bytes) -> list[int]:
    """The marker codes of a JPEG up to its scan (ITU-T T.81, annex B)."""
    codes, at = [], 2
    while True:
        assert data[at] == 0xFF
        codes.append(data[at + 1])
        if codes[-1] == 0xDA:
            return codes
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")


@pytest.mark.parametrize("make", [images.jpeg, images.png, images.webp, images.phone_pair])
def test_accepted_formats_become_three_jpegs(make: Callable[[], bytes]) -> None:
    photo = prepare(make())
    assert decoded(photo.original).size == (640, 480)
    assert decoded(photo.large).size == (640, 480), "not enlarged"
    assert decoded(photo.small).size == (320, 240)
    original = images.picture()
    for at in ((40, 40), (320, 240), (600, 100)):
        want = original.getpixel(at)
        assert isinstance(want, tuple)
        assert all(abs(a - b) < 25 for a, b in zip(want, pixel(photo, *at), strict=True)), "the same picture"


def test_thumbnails_keep_the_shape() -> None:
    photo = prepare(images.jpeg(3000, 1500))
    assert decoded(photo.original).size == (3000, 1500)
    assert decoded(photo.large).size == (1280, 640)
    assert decoded(photo.small).size == (320, 160)
    assert decoded(prepare(images.png(5000, 1)).small).size == (320, 1)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_nothing_but_the_picture_is_left(form: str) -> None:
    data = images.telling(form)
    assert images.SECRET.encode() in data, "the test picture does tell"
    photo = prepare(data)
    for rendition in (photo.original, photo.large, photo.small):
        assert images.SECRET.encode() not in rendition.data
        assert set(segments(rendition.data)) <= {0xE0, 0xDB, 0xC0, 0xC4, 0xDA}, "JFIF header, tables and the scan only"
        assert rendition.data.endswith(b"\xff\xd9")
        image = decoded(rendition)
        assert not image.getexif()
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation: int, form: str) -> None:
    photo = prepare(images.oriented(orientation, form))
    assert decoded(photo.original).size == (300, 200)
    assert pixel(photo, 40, 40)[1] < 60, "red in the upper left"
    for corner in ((260, 40), (40, 160), (260, 160)):
        assert pixel(photo, *corner)[1] > 200, "white elsewhere"


def test_colours_become_srgb() -> None:
    red, green, blue = pixel(prepare(images.cmyk()), 40, 30)
    assert red > 180
    assert max(green, blue) < 90
    assert all(abs(value - 128) < 4 for value in pixel(prepare(images.sixteen_bit_grey()), 40, 30))
    assert min(pixel(prepare(images.transparent()), 40, 30)) > 250, "transparency becomes white"
    red, green, blue = pixel(prepare(images.with_colour_profile()), 40, 30)
    assert blue > 240
    assert red < 40, "the profile was applied"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.NOT_AN_IMAGE),
        (images.text_file(), Reason.NOT_AN_IMAGE),
        (os.urandom(3000), Reason.NOT_AN_IMAGE),
        (images.truncated(images.jpeg()), Reason.DAMAGED),
        (images.truncated(images.png()), Reason.DAMAGED),
        (images.truncated(images.webp()), Reason.DAMAGED),
        (images.jpeg()[:30], Reason.DAMAGED),
        (images.png()[:20], Reason.DAMAGED),
        (images.bomb(), Reason.TOO_MANY_PIXELS),
        (images.bomb(40_000, 10_000), Reason.TOO_MANY_PIXELS),
        (images.bomb(70_000, 8), Reason.TOO_MANY_PIXELS),
        (images.animated("PNG"), Reason.FORMAT_NOT_SUPPORTED),
        (images.animated("WEBP"), Reason.FORMAT_NOT_SUPPORTED),
        (images.animated("GIF"), Reason.FORMAT_NOT_SUPPORTED),
        *((images.other_format(form), Reason.FORMAT_NOT_SUPPORTED) for form in ("GIF", "BMP", "TIFF", "AVIF")),
        (b"\0\0\0\x18ftypheic" + bytes(100), Reason.FORMAT_NOT_SUPPORTED),
        (images.jpeg() + bytes(10 * 2**20), Reason.TOO_LARGE),
    ],
)
def test_refused_by_name(data: bytes, reason: Reason) -> None:
    with pytest.raises(PhotoRefused) as refused:
        prepare(data)
    assert refused.value.reason is reason
    assert refused.value.message.endswith(".")
    assert refused.value.message_id.endswith(".")
    assert refused.value.message != refused.value.message_id
    again = pickle.loads(pickle.dumps(refused.value))
    assert (again.reason, str(again), again.message_id) == (reason, refused.value.message, refused.value.message_id)


def test_limits_are_inclusive_and_settable() -> None:
    data = images.png(100, 50)
    assert prepare(data, Limits(len(data), 5000)).original.width == 100
    with pytest.raises(PhotoRefused, match="larger than"):
        prepare(data, Limits(len(data) - 1, 5000))
    with pytest.raises(PhotoRefused, match="more than"):
        prepare(data, Limits(len(data), 4999))


def test_the_bomb_is_not_decoded() -> None:
    """A bomb's picture data may be anything: the header alone decides."""
    header = images.bomb()[:60]
    with pytest.raises(PhotoRefused) as refused:
        prepare(header)
    assert refused.value.reason is Reason.TOO_MANY_PIXELS


@pytest.mark.parametrize("quality", [30, 50, 70, 80, 90, 95])
def test_a_photo_does_not_grow(quality: int) -> None:
    data = images.encoded(images.grainy(800, 600), quality=quality)
    assert len(prepare(data).original.data) <= len(data) * 1.05


def test_the_same_file_gives_the_same_photo() -> None:
    assert prepare(images.telling()) == prepare(images.telling())
    hashes = {prepare(images.jpeg(seed=seed)).content_hash for seed in range(5)}
    assert len(hashes) == 5
    assert all(len(value) == 64 for value in hashes)


_SEEDS = [images.jpeg(48, 32), images.png(48, 32), images.webp(48, 32), images.telling("PNG"), images.phone_pair()]


@settings(max_examples=200)
@given(st.sampled_from(_SEEDS), st.data())
def test_whatever_comes_is_a_photo_or_a_named_refusal(seed: bytes, data: st.DataObject) -> None:
    damaged = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        photo = prepare(bytes(damaged[: data.draw(st.integers(1, len(damaged)))]))
    except PhotoRefused:
        return
    assert decoded(photo.original)


@asynccontextmanager
async def running(pool: PhotoWorkers) -> AsyncIterator[PhotoWorkers]:
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


@pytest.fixture
async def workers() -> AsyncIterator[PhotoWorkers]:
    async with running(PhotoWorkers(workers=1, waiting=2)) as pool:
        yield pool


async def test_workers_give_what_prepare_gives(workers: PhotoWorkers) -> None:
    for data in (images.webp(), images.png(), images.jpeg()):
        assert await workers.prepare(data) == prepare(data)
    with pytest.raises(PhotoRefused) as refused:
        await workers.prepare(images.text_file())
    assert refused.value.reason is Reason.NOT_AN_IMAGE


async def test_the_loop_goes_on_and_the_queue_is_bounded(workers: PhotoWorkers) -> None:
    big = images.jpeg(4000, 3000)
    calls = [asyncio.create_task(workers.prepare(big)) for _ in range(6)]
    ticks = 0
    while not all(call.done() for call in calls):
        await asyncio.sleep(0.005)
        ticks += 1
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert ticks > 20
    assert sum(isinstance(result, CleanPhoto) for result in results) == 3, "one in work, two in line"
    assert sum(isinstance(result, Overloaded) for result in results) == 3
    assert isinstance(await workers.prepare(images.jpeg()), CleanPhoto)


async def test_a_caller_that_goes_away_does_not_free_a_busy_worker() -> None:
    async with running(PhotoWorkers(workers=1, waiting=0)) as pool:
        call = asyncio.create_task(pool.prepare(images.jpeg(4000, 3000)))
        await asyncio.sleep(0.02)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        with pytest.raises(Overloaded):
            await pool.prepare(images.jpeg())


@pytest.mark.parametrize("bound", [{"cpu_seconds": 0.05}, {"memory_bytes": 400 * 2**20}])
async def test_a_photo_beyond_its_means_is_refused_and_the_others_are_not(bound: dict[str, float]) -> None:
    costly = images.png(6000, 6000)
    photos = [costly if i == 3 else images.jpeg(64, 48, seed=i) for i in range(10)]
    async with running(PhotoWorkers(workers=2, waiting=20, **bound)) as pool:  # type: ignore[arg-type]  # either bound
        results = await asyncio.gather(*(pool.prepare(photo) for photo in photos), return_exceptions=True)
    for i, result in enumerate(results):
        if i == 3:
            assert isinstance(result, PhotoRefused)
            assert result.reason is Reason.DAMAGED
        else:
            assert isinstance(result, CleanPhoto)


async def test_a_stopped_pool_takes_no_more() -> None:
    pool = PhotoWorkers(workers=1)
    async with running(pool):
        assert isinstance(await pool.prepare(images.jpeg()), CleanPhoto)
    with pytest.raises(Overloaded):
        await pool.prepare(images.jpeg())


def worker_processes(service: int) -> list[psutil.Process]:
    """The photo workers of a process: forked by the fork server, which is its child."""
    return [
        child
        for child in psutil.Process(service).children(recursive=True)
        if child.ppid() != service and "multiprocessing.forkserver" in " ".join(child.cmdline())
    ]


async def test_a_worker_killed_from_outside_costs_nothing() -> None:
    others = set(worker_processes(os.getpid()))  # of other tests
    async with running(PhotoWorkers(workers=1)) as pool:
        await pool.start()  # again, as a service does that waits for its servers: no second worker
        (worker,) = set(worker_processes(os.getpid())) - others
        call = asyncio.create_task(pool.prepare(images.jpeg(4000, 3000)))
        await asyncio.sleep(0.02)
        worker.kill()
        assert isinstance(await call, CleanPhoto)


def niceness_of_session(pid: int) -> int | None:
    """How far back a process's session stands; None where the kernel does not share processors among sessions."""
    autogroup = Path(f"/proc/{pid}/autogroup")
    return int(autogroup.read_text().rpartition(" ")[2]) if autogroup.exists() else None


async def test_workers_stand_back_behind_all_that_answers_requests() -> None:
    """Also behind other sessions, such as the database's, where the kernel shares processors among these."""
    others = set(worker_processes(os.getpid()))
    async with running(PhotoWorkers(workers=2)):
        workers = set(worker_processes(os.getpid())) - others
        assert len(workers) == 2
        for worker in workers:
            assert worker.nice() == os.nice(0) + 10
            assert os.getsid(worker.pid) == worker.pid != os.getsid(0)
            assert niceness_of_session(worker.pid) in (10, None)


_SERVICE = """
import asyncio, sys
from shared.media_workers import PhotoWorkers

async def serve():
    pool = PhotoWorkers(workers=2)
    await pool.start()
    print("ready", flush=True)
    await asyncio.sleep(60)

if __name__ == "__main__":
    asyncio.run(serve())
"""


def test_workers_end_with_a_service_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "service.py"
    script.write_text(_SERVICE)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env={"PYTHONPATH": os.getcwd()}) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == b"ready\n"
        left = psutil.Process(service.pid).children(recursive=True)
        assert len(worker_processes(service.pid)) == 2
        service.kill()
    assert psutil.wait_procs(left, timeout=10)[1] == []
