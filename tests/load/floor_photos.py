"""The floor of the photo row: Pillow alone, in a pool of processes."""

import io
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from PIL import Image

_LONGEST = (1280, 320)


def carry_out(data: bytes) -> int:
    """Decode one photo, resize it twice, encode all three; their bytes together."""
    image: Image.Image = Image.open(io.BytesIO(data))
    image.load()
    sizes = [image]
    for longest in _LONGEST:
        scale = longest / max(image.size)
        sizes.append(image.resize((round(image.width * scale), round(image.height * scale))))
    total = 0
    for one in sizes:
        out = io.BytesIO()
        one.save(out, "JPEG", quality=88 if one is image else 80)
        total += out.tell()
    return total


def rate(photos: Sequence[bytes], pool: ProcessPoolExecutor) -> float:
    """Photos per second through a pool."""
    began = time.perf_counter()
    assert all(pool.map(carry_out, photos))
    return len(photos) / (time.perf_counter() - began)
