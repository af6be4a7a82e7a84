"""Mutated images, as many as wanted, each a function of its number: what broke a decoder can be made again."""

import random
import struct
from collections.abc import Callable
from functools import cache

from PIL import Image

from tests import images
from tests.attack.conftest import SEED

_SMALL = (72, 54)
_ODD = (0, 1, 0x7F, 0x80, 0xFF)
_ODD_32 = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF, 0x10000)


def _progressive() -> bytes:
    return images.encoded(images.picture(*_SMALL), "JPEG", quality=70, progressive=True)


def _oriented() -> bytes:
    return images.encoded(images.picture(*_SMALL), "JPEG", exif=images.exif(6))


def _palette() -> bytes:
    return images.encoded(images.picture(*_SMALL).convert("P"), "PNG", transparency=3)


def _lossless() -> bytes:
    return images.encoded(images.picture(*_SMALL).convert("RGBA"), "WEBP", lossless=True, method=0)


def _animated() -> bytes:
    frames = [images.picture(*_SMALL, seed=n) for n in (1, 2)]
    return images.encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=50)


def _pair() -> bytes:
    return images.encoded(images.picture(*_SMALL), "MPO", save_all=True, append_images=[images.picture(40, 30)])


def _grey() -> bytes:
    return images.encoded(Image.linear_gradient("L").resize(_SMALL), "PNG")


SEEDS: tuple[Callable[[], bytes], ...] = (
    lambda: images.jpeg(*_SMALL),
    lambda: images.png(*_SMALL),
    lambda: images.webp(*_SMALL),
    _progressive,
    _oriented,
    _palette,
    _lossless,
    _animated,
    _pair,
    _grey,
    images.cmyk,
    images.sixteen_bit_grey,
    images.transparent,
    images.with_colour_profile,
)


@cache
def _seeds() -> tuple[bytes, ...]:
    return tuple(make() for make in SEEDS)


def mutated(number: int) -> bytes:
    """The image of this number: a valid picture of one of the kinds above, spoilt in one to four ways."""
    draw = random.Random(f"{SEED}:{number}")
    data = bytearray(draw.choice(_seeds()))
    for _ in range(draw.randint(1, 4)):
        data = draw.choice(_WAYS)(data, draw)
    return bytes(data)


def _place(data: bytearray, draw: random.Random) -> int:
    """A place in it, mostly near the front: headers decide more than pixels."""
    return draw.randrange(min(len(data), 400) if draw.random() < 0.7 else len(data)) if data else 0


def _flip(data: bytearray, draw: random.Random) -> bytearray:
    for _ in range(draw.randint(1, 16)):
        if data:
            data[_place(data, draw)] ^= 1 << draw.randrange(8)
    return data


def _set(data: bytearray, draw: random.Random) -> bytearray:
    if data:
        data[_place(data, draw)] = draw.choice(_ODD)
    return data


def _number(data: bytearray, draw: random.Random) -> bytearray:
    at = _place(data, draw)
    if at + 4 <= len(data):
        struct.pack_into(draw.choice((">I", "<I")), data, at, draw.choice(_ODD_32))
    return data


def _cut(data: bytearray, draw: random.Random) -> bytearray:
    return data[: _place(data, draw) + 1]


def _remove(data: bytearray, draw: random.Random) -> bytearray:
    at = _place(data, draw)
    del data[at : at + draw.randint(1, 64)]
    return data


def _repeat(data: bytearray, draw: random.Random) -> bytearray:
    at = _place(data, draw)
    piece = data[at : at + draw.randint(1, 200)]
    return data[:at] + piece * draw.randint(1, 20) + data[at:]


def _graft(data: bytearray, draw: random.Random) -> bytearray:
    other = draw.choice(_seeds())
    at, start = _place(data, draw), draw.randrange(len(other))
    return data[:at] + other[start : start + draw.randint(1, 500)] + data[at:]


def _noise(data: bytearray, draw: random.Random) -> bytearray:
    at, size = _place(data, draw), draw.randint(1, 100)
    return data[:at] + draw.randbytes(size) + data[at + size :]


_WAYS = (_flip, _set, _number, _cut, _remove, _repeat, _graft, _noise)
