"""Secret keys that are files of random bytes."""

from pathlib import Path

SHORTEST_KEY = 32


class UnusableKey(Exception):
    """A key cannot be used; the text says which and why. The service must not start."""


def random_key(path: Path) -> bytes:
    """What a key file holds: at least `SHORTEST_KEY` bytes. Raises UnusableKey."""
    try:
        key = path.read_bytes()
    except OSError as error:
        raise UnusableKey(f"{path}: {error}") from None
    if len(key) < SHORTEST_KEY:
        raise UnusableKey(f"{path}: holds {len(key)} bytes; it needs at least {SHORTEST_KEY} random ones")
    return key
