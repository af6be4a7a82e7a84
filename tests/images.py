"""Pictures for tests, made in code: what phones send, and what nobody should.

No file here was taken by a camera. The same call gives the same bytes.
"""

import io
import random
import struct
import zlib
from typing import Any

from PIL import Image, ImageCms, PngImagePlugin

GPS = {1: "S", 2: (0.0, 1.0, 22.8), 3: "E", 4: (109.0, 20.0, 30.5)}
"""EXIF's GPS IFD of a place in Pontianak."""

SECRET = "Siti Aminah, Jalan Gajah Mada 5"
"""What the metadata below tells about a person: no byte of it may remain."""


def picture(width: int = 640, height: int = 480, seed: int = 0) -> Image.Image:
    """An RGB picture with slopes and edges; another ``seed`` gives another picture."""
    slope = Image.linear_gradient("L").rotate(seed * 7 % 360)
    bands = Image.merge("RGB", (slope, Image.radial_gradient("L"), slope.transpose(Image.Transpose.ROTATE_90)))
    bands.paste((seed % 256, 200, 40), (20, 20, 90, 60))
    return bands.resize((width, height), Image.Resampling.BILINEAR)


def grainy(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture with grain: encoded, it is as large as a photo of that size."""
    grain = Image.frombytes("L", (width, height), random.Random(seed).randbytes(width * height)).convert("RGB")
    return Image.blend(picture(width, height, seed), grain, 0.15)


def encoded(image: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def jpeg(width: int = 640, height: int = 480, seed: int = 0) -> bytes:
    return encoded(picture(width, height, seed), "JPEG", quality=85)


def png(width: int = 640, height: int = 480, seed: int = 0) -> bytes:
    return encoded(picture(width, height, seed), "PNG")


def webp(width: int = 640, height: int = 480, seed: int = 0) -> bytes:
    return encoded(picture(width, height, seed), "WEBP", quality=80, method=0)


def exif(orientation: int = 1) -> Image.Exif:
    tags = Image.Exif()
    tags[274] = orientation
    tags[315] = SECRET  # Artist
    tags[306] = "2026:08:17 07:00:00"
    tags[34853] = GPS
    return tags


def telling(form: str = "JPEG") -> bytes:
    """A photo whose metadata tells who took it and where: EXIF with GPS, XMP, a comment, text chunks."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options: dict[str, Any] = {"exif": exif(), "icc_profile": profile}
    if form == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("Author", SECRET)
        text.add_itxt("XML:com.adobe.xmp", f"<x:xmpmeta>{SECRET}</x:xmpmeta>")
        options["pnginfo"] = text
    else:
        options["xmp"] = f"<x:xmpmeta>{SECRET}</x:xmpmeta>".encode()
    if form == "JPEG":
        options["comment"] = SECRET
    return encoded(picture(), form, **options) + SECRET.encode()


def oriented(orientation: int, form: str = "JPEG") -> bytes:
    """A photo, 300 wide and 200 high once upright, whose left upper corner is then red and the rest white."""
    upright = Image.new("RGB", (300, 200), "white")
    upright.paste((220, 0, 0), (0, 0, 150, 100))
    turns = Image.Transpose
    stored = {
        1: None,
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_90,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_270,
    }[orientation]
    return encoded(upright.transpose(stored) if stored is not None else upright, form, exif=exif(orientation))


def truncated(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


def text_file() -> bytes:
    """What a text file named .jpg holds."""
    return b"Jalan berlubang di depan rumah saya.\n" * 40


def bomb(width: int = 12_000, height: int = 12_000) -> bytes:
    """A valid black-and-white PNG that is a thousand times larger once decoded."""
    row = b"\0" * (1 + (width + 7) // 8)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
        + _chunk(b"IDAT", zlib.compress(row * height, 9))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def animated(form: str) -> bytes:
    return encoded(picture(), form, save_all=True, append_images=[picture(seed=3), picture(seed=9)], duration=100)


def phone_pair() -> bytes:
    """A phone's JPEG with a second picture behind the first (CIPA DC-007, multi-picture format)."""
    return encoded(picture(), "MPO", save_all=True, append_images=[picture(320, 240, seed=5)])


def cmyk() -> bytes:
    return encoded(Image.new("CMYK", (80, 60), (0, 255, 255, 0)), "JPEG", quality=95)


def sixteen_bit_grey() -> bytes:
    """A PNG of 16-bit grey, half of full scale."""
    return encoded(Image.frombytes("I;16", (80, 60), struct.pack("<H", 0x8000) * 4800), "PNG")


def transparent() -> bytes:
    """A PNG that is black and wholly transparent."""
    return encoded(Image.new("RGBA", (80, 60), (0, 0, 0, 0)), "PNG")


def with_colour_profile() -> bytes:
    """A PNG stored as pure red, whose profile says that its first channel is what sRGB calls blue."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", data, 128)[0]
    entries = {bytes(data[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, blue = (bytes(data[entries[tag] + 4 : entries[tag] + 12]) for tag in (b"rXYZ", b"bXYZ"))
    data[entries[b"rXYZ"] + 4 : entries[b"rXYZ"] + 12] = blue
    data[entries[b"bXYZ"] + 4 : entries[b"bXYZ"] + 12] = red
    named = bytes(data).replace("sRGB".encode("utf-16-be"), "Test".encode("utf-16-be"))
    return encoded(Image.new("RGB", (80, 60), (255, 0, 0)), "PNG", icc_profile=named)


def other_format(form: str) -> bytes:
    """A valid picture of a format that is not accepted (``GIF``, ``BMP``, ``TIFF``, ``AVIF``)."""
    return encoded(picture(160, 120), form)
