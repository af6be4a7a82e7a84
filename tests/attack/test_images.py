"""Pictures that are none, or more than one thing, or too much: through the real workers and the real service."""

import asyncio
import io
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from PIL import Image
from structlog.testing import capture_logs

from shared.media import CleanPhoto, Limits, PhotoRefused
from shared.media_workers import PhotoWorkers
from shared.pieces import pieces
from shared.sop import Role
from tests import images
from tests.attack.conftest import FULL, World
from tests.attack.corpus import mutated

MUTATED = 10_000 if FULL else 600


@asynccontextmanager
async def workers() -> AsyncIterator[PhotoWorkers]:
    made = PhotoWorkers(2, 64, Limits())
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def kept(photo: CleanPhoto) -> None:
    """Fails unless each rendition is a plain JPEG and nothing else."""
    for rendition in (photo.original, photo.large, photo.small):
        with Image.open(io.BytesIO(rendition.data)) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (rendition.width, rendition.height))
            assert not image.getexif()
        assert rendition.data.endswith(b"\xff\xd9"), "something hangs behind the picture"


@pytest.mark.timeout(900)
async def test_no_mutated_image_ends_a_worker_or_is_anything_but_kept_or_refused() -> None:
    outcomes: dict[str, int] = {}
    wrong: list[str] = []

    async def tried(made: PhotoWorkers, number: int) -> None:
        try:
            kept(await made.prepare(mutated(number)))
            outcome = "kept"
        except PhotoRefused as refusal:
            outcome = refusal.reason.value
        except Exception as error:  # noqa: BLE001 - whatever else it is, it is wrong, and its number is named
            outcome = "wrong"
            wrong.append(f"mutated({number}): {error!r}")
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    with capture_logs() as logs:
        async with workers() as made:
            for numbers in pieces(range(MUTATED), 50):
                await asyncio.gather(*(tried(made, number) for number in numbers))
    assert wrong == []
    assert [entry for entry in logs if entry["event"] == "photo worker ended"] == []
    assert sum(outcomes.values()) == MUTATED
    assert outcomes["kept"] > MUTATED / 20, f"mutations that spoil everything try nothing: {outcomes}"
    assert outcomes["photo-damaged"] > MUTATED / 20, outcomes
    print(f"{MUTATED} mutated images: {outcomes}")


def zip_behind_jpeg() -> bytes:
    """A JPEG that unzip opens."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("index.html", "<script>alert(1)</script>")
    return images.jpeg(64, 48) + archive.getvalue()


def gif_that_is_script() -> bytes:
    """GIF to one reader, JavaScript to another."""
    return b"GIF89a=1;alert(document.domain)//" + b"\0" * 64


def script_in_comment() -> bytes:
    """A JPEG whose comment is a page with a script."""
    return images.encoded(images.picture(64, 48), "JPEG", comment="--><script>alert(1)</script><!--")


def svg() -> bytes:
    return b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script><image href="http://127.0.0.1/"/></svg>'


def pdf_in_jpeg() -> bytes:
    return images.jpeg(64, 48) + b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>"


def huge_png() -> bytes:
    """Says that it is two thousand million pixels a side, in a hundred bytes."""
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return b"\x89PNG\r\n\x1a\n" + chunk


def text_bomb() -> bytes:
    """A PNG whose text chunk unpacks to 200 MB."""
    plain = images.png(64, 48)
    content = b"Comment\0\0" + zlib.compress(b"\0" * 200_000_000, 9)
    chunk = struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))
    return plain[:33] + chunk + plain[33:]


def profile_bomb() -> bytes:
    """The same in a colour profile."""
    plain = images.png(64, 48)
    content = b"icc\0\0" + zlib.compress(b"\0" * 200_000_000, 9)
    chunk = struct.pack(">I", len(content)) + b"iCCP" + content + struct.pack(">I", zlib.crc32(b"iCCP" + content))
    return plain[:33] + chunk + plain[33:]


def huge_jpeg() -> bytes:
    """A JPEG whose frame header says 65,500 by 65,500."""
    data = bytearray(images.jpeg(64, 48))
    frame = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, frame + 5, 65_500, 65_500)
    return bytes(data)


def bad_exif() -> bytes:
    """A JPEG whose EXIF points into itself and out of the file."""
    ifd = struct.pack("<H", 3) + b"".join(
        struct.pack("<HHII", tag, kind, count, offset)
        for tag, kind, count, offset in ((274, 3, 0xFFFFFFFF, 8), (34853, 4, 1, 8), (34665, 4, 1, 0xFFFFFFF0))
    )
    tiff = b"II*\0" + struct.pack("<I", 8) + ifd + struct.pack("<I", 8)
    return images.encoded(images.picture(64, 48), "JPEG", exif=b"Exif\0\0" + tiff)


def long_side() -> bytes:
    """One pixel high and as wide as there may be no JPEG."""
    return images.encoded(Image.new("L", (70_000, 1)), "PNG")


HOSTILE: dict[Callable[[], bytes], int] = {
    zip_behind_jpeg: 201,
    pdf_in_jpeg: 201,
    script_in_comment: 201,
    images.cmyk: 201,
    bad_exif: 201,
    gif_that_is_script: 415,
    svg: 415,
    images.text_file: 415,
    lambda: images.animated("GIF"): 415,
    lambda: images.animated("WEBP"): 415,
    lambda: images.truncated(images.jpeg()): 422,
    lambda: images.truncated(images.webp()): 422,
    images.bomb: 422,
    huge_png: 422,
    huge_jpeg: 422,
    long_side: 422,
    text_bomb: 422,
    lambda: b"": 422,
}
FOREIGN = (b"PK\x03\x04", b"<script", b"%PDF", b"alert", b"Exif", b"GIF8")


def _attacks() -> Iterator[tuple[bytes, int]]:
    for make, status in HOSTILE.items():
        yield make(), status


async def test_the_service_answers_each_of_them_and_keeps_only_the_picture(world: World) -> None:
    answers = []
    async with world.client("intake", Role.CITIZEN) as client:
        for data, expected in _attacks():
            answer = await client.post("/v1/photos", content=data, headers={"Content-Type": "image/jpeg"})
            answers.append((answer.status_code, expected, data[:20], answer.text[:150]))
            if answer.status_code == 201:
                report = await world.files(photos=[answer.json()["id"]])
                path = f"/v1/complaints/{report['complaint_id']}/photos/{answer.json()['id']}"
                served = await client.get(path, params={"size": "original"})
                assert served.headers["content-type"] == "image/jpeg"
                assert served.headers["x-content-type-options"] == "nosniff"
                assert not [mark for mark in FOREIGN if mark in served.content]
        bombed = await client.post("/v1/photos", content=profile_bomb())
        assert bombed.status_code in (201, 422), bombed.text
        again = await client.post("/v1/photos", content=images.jpeg(64, 48, seed=77))
        assert again.status_code == 201, "the workers are as they were"
    assert [given for given in answers if given[0] != given[1]] == []
