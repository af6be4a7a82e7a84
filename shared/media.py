"""What a photo must be, and how it is cleaned before anybody else sees it.

Photos (SOP steps 1 and 4) come straight from phones: large, turned by an EXIF tag, and telling where and when they
were taken. ``prepare`` decodes such a file once, judges it by what the decoder finds and not by its name, and writes
it anew with nothing but the picture in it. It is pure and keeps a CPU busy: services call it through
``shared.media_workers``.
"""

import hashlib
import io
import warnings
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from PIL import Image, ImageCms, UnidentifiedImageError

CONTENT_TYPE = "image/jpeg"
"""Whatever came in, JPEG is kept: one type to serve, encoded some thirty times faster than WebP."""

Size = Literal["original", "large", "small"]

QUALITY = 88
THUMBNAIL_QUALITY = 80
LONGEST_SIDE: dict[Size, int] = {"large": 1280, "small": 320}
"""Pixels; a smaller photo is not enlarged."""

JPEG_LONGEST_SIDE = 65_500
"""libjpeg's JPEG_MAX_DIMENSION."""


class Reason(StrEnum):
    """Why a photo is refused. The value is the problem type's last part in every API."""

    TOO_LARGE = "photo-too-large"
    TOO_MANY_PIXELS = "photo-too-many-pixels"
    NOT_AN_IMAGE = "photo-not-an-image"
    FORMAT_NOT_SUPPORTED = "photo-format-not-supported"
    DAMAGED = "photo-damaged"


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest photo that is accepted."""

    max_bytes: int = 10 * 2**20
    max_pixels: int = 40_000_000


class PhotoRefused(Exception):
    """The photo is not accepted; ``message`` (English) and ``message_id`` (Indonesian) tell the citizen why."""

    def __init__(self, reason: Reason, message: str, message_id: str) -> None:
        super().__init__(reason, message, message_id)  # all three: it has to survive the way back from a worker
        self.reason = reason
        self.message = message
        self.message_id = message_id

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class Rendition:
    """One JPEG of a photo; ``width`` and ``height`` in pixels, as it is seen (upright); ``hash`` is the SHA-256 of its
    bytes, in hex."""

    width: int
    height: int
    hash: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CleanPhoto:
    """A cleaned photo in its three sizes."""

    original: Rendition
    large: Rendition
    small: Rendition

    @property
    def content_hash(self) -> str:
        """What names the photo: the hash of its original."""
        return self.original.hash


def check_size(data: bytes, limits: Limits) -> None:
    """Raises PhotoRefused (``too_large``). Apart from ``prepare``, so that it costs no worker."""
    if len(data) > limits.max_bytes:
        raise too_large(limits)


def too_large(limits: Limits) -> PhotoRefused:
    """The refusal of what has more bytes than are taken."""
    most = f"{limits.max_bytes / 2**20:g} MB"
    return PhotoRefused(
        Reason.TOO_LARGE,
        f"The photo is larger than {most}. Send a smaller one.",
        f"Ukuran foto lebih dari {most}. Kirim foto yang lebih kecil.",
    )


def prepare(data: bytes, limits: Limits = Limits()) -> CleanPhoto:
    """Judge, clean and scale one photo. The same bytes give the same photo and hash.

    Left behind: EXIF with its position, XMP, comments, embedded previews, text, and whatever follows the picture.
    Applied first: the orientation, the colour profile (the result is sRGB), transparency (on white).

    Raises PhotoRefused. A file that ends too early is refused; wrong bits in mid-picture that the JPEG decoder
    bridges cannot be told from a picture and are accepted.
    """
    check_size(data, limits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd EXIF, which is thrown away
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with _open(data, limits) as image:
                quality, subsampling = _quality(image), "4:4:4" if image.format == "PNG" else "4:2:0"
                image.load()
                upright = _turned(_in_srgb(image), _orientation(image))
        except PhotoRefused:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise _too_many_pixels(limits) from None
        except Exception as error:  # whatever a decoder raises on hostile bytes says the same
            raise damaged() from error
    original = _encoded(upright, quality, subsampling)
    large = _fitted(upright, LONGEST_SIDE["large"])
    return CleanPhoto(
        original=original,
        large=_encoded(large, THUMBNAIL_QUALITY, "4:2:0"),
        small=_encoded(_fitted(large, LONGEST_SIDE["small"]), THUMBNAIL_QUALITY, "4:2:0"),
    )


def _open(data: bytes, limits: Limits) -> Image.Image:
    """Reads the header alone; the picture is decoded by ``load`` once its dimensions are known to be harmless."""
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP"))
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    if image.width * image.height > limits.max_pixels or max(image.size) > JPEG_LONGEST_SIDE:
        raise _too_many_pixels(limits)
    # MPO is a phone's JPEG with further pictures (depth, HDR) behind the first, which is the one that is read
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise PhotoRefused(
            Reason.FORMAT_NOT_SUPPORTED,
            "This is an animation. Send a still photo.",
            "Berkas ini berupa animasi. Kirim foto biasa.",
        )
    return image


_ACCEPTED_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_OTHER_STARTS = (b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\xff\x0a", b"\0\0\0\x0cJXL ", b"\0\0\0\x0cjP  ", b"%PDF-")
_OTHER_BRANDS = (b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis", b"mp42", b"isom", b"qt  ")
"""HEIC and AVIF, and the videos that are sent by mistake (ISO base media file format, section 4.3)."""


def _unidentified(data: bytes) -> PhotoRefused:
    """The refusal that helps most for a file which no accepted decoder takes up."""
    if data.startswith(_ACCEPTED_STARTS) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
        return damaged()
    if data.startswith(_OTHER_STARTS) or (data[4:8] == b"ftyp" and data[8:12] in _OTHER_BRANDS):
        return PhotoRefused(
            Reason.FORMAT_NOT_SUPPORTED,
            "This file format is not supported. Send the photo as JPEG, PNG or WebP.",
            "Format berkas tidak didukung. Kirim foto dalam format JPEG, PNG, atau WebP.",
        )
    return PhotoRefused(
        Reason.NOT_AN_IMAGE,
        "This file is not a picture. Send a photo as JPEG, PNG or WebP.",
        "Berkas ini bukan gambar. Kirim foto dalam format JPEG, PNG, atau WebP.",
    )


def damaged() -> PhotoRefused:
    return PhotoRefused(
        Reason.DAMAGED,
        "The photo is damaged or incomplete and cannot be read. Send it again or take another one.",
        "Foto rusak atau tidak lengkap sehingga tidak dapat dibaca. Kirim ulang atau ambil foto lain.",
    )


def _too_many_pixels(limits: Limits) -> PhotoRefused:
    most = f"{limits.max_pixels / 1e6:g}"
    return PhotoRefused(
        Reason.TOO_MANY_PIXELS,
        f"The photo has more than {most} megapixels. Send a smaller one.",
        f"Resolusi foto lebih dari {most} megapiksel. Kirim foto yang lebih kecil.",
    )


_LUMINANCE_SUM = 3688
"""The sum of JPEG's example luminance table (ITU-T T.81, table K.1), which libjpeg scales by quality."""


def _quality(image: Image.Image) -> int:
    """No finer than the source: encoding what is already gone only makes the file larger."""
    tables: dict[int, list[int]] = getattr(image, "quantization", {})
    if not tables.get(0):
        return QUALITY
    scale = 100 * sum(tables[0]) / _LUMINANCE_SUM
    quality = 100 - scale / 2 if scale <= 100 else 5000 / scale  # the inverse of libjpeg's jpeg_quality_scaling
    return min(QUALITY, max(30, round(quality)))


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a photo upright, by its EXIF orientation (Exif 2.3, tag 274)."""


def _orientation(image: Image.Image) -> int | None:
    try:
        value = image.getexif().get(274)
    except Exception:  # noqa: BLE001 - unreadable EXIF is no reason to refuse the picture
        return None
    return value if isinstance(value, int) else None


def _turned(image: Image.Image, orientation: int | None) -> Image.Image:
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _in_srgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        image = Image.new("RGB", seen.size, "white")
        image.paste(seen, mask=seen)
    elif image.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip instead of scale
        image = image.point(lambda value: value / 256).convert("L")
    if profile and image.mode in ("RGB", "CMYK", "L"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "sRGB" not in ImageCms.getProfileDescription(source):
                target = ImageCms.createProfile("sRGB")
                image = ImageCms.profileToProfile(image, source, target, outputMode="RGB") or image
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
            pass  # a profile that does not fit the picture says nothing about its colours
    return image.convert("RGB")


def _fitted(image: Image.Image, longest: int) -> Image.Image:
    scale = longest / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=1.5)


def _encoded(image: Image.Image, quality: int, subsampling: str) -> Rendition:
    image.info = {}  # Pillow would carry a comment over from here
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, subsampling=subsampling)
    data = out.getvalue()
    return Rendition(image.width, image.height, hashlib.sha256(data).hexdigest(), data)
