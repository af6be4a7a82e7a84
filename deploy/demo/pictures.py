"""Photos for the demo, drawn and then saved as a phone saves them: JPEG with EXIF, a position and a turned sensor.

They are made here because the project carries no pictures of real places and people.
"""

import io
import random

from PIL import Image, ImageDraw, ImageFilter

_ORIENTATION, _MAKE, _GPS = 274, 271, 34853
_ASPHALT, _PATCH, _HOLE = (108, 108, 112), (58, 58, 62), (34, 30, 28)


def street(seed: int, *, repaired: bool, width: int = 2016, height: int = 1512) -> bytes:
    """A street with a hole in it, or the same street with the hole filled; JPEG bytes. The same seed, the same
    street."""
    chance = random.Random(seed)  # noqa: S311 - a drawing
    noise = Image.effect_noise((width // 4, height // 4), 38).resize((width, height))
    image = Image.composite(
        Image.new("RGB", (width, height), _ASPHALT), Image.new("RGB", (width, height), (132, 130, 126)), noise
    )
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width, height // 4), fill=(168, 202, 226))
    draw.rectangle((0, height // 4, width, height // 3), fill=(72, 120, 66))
    for x in range(0, width, 260):
        draw.rectangle((x, height * 2 // 3, x + 140, height * 2 // 3 + 22), fill=(232, 228, 214))
    left, top = chance.randint(width // 4, width // 2), chance.randint(height // 2, height * 3 // 5)
    box = (left, top, left + width // 4, top + height // 6)
    draw.ellipse(box, fill=_PATCH if repaired else _HOLE)
    if not repaired:
        inner = (left + width // 20, top + height // 30, left + width // 5, top + height // 8)
        draw.ellipse(inner, fill=(92, 84, 70))
    image = image.filter(ImageFilter.GaussianBlur(1.2))
    exif = Image.Exif()
    exif[_MAKE] = "LAPOR demo"
    exif[_ORIENTATION] = 1
    exif[_GPS] = {1: "S", 2: (0.0, 1.0, 34.0), 3: "E", 4: (109.0, 20.0, 30.0)}
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90, exif=exif)
    return out.getvalue()
