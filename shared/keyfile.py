"""Secret keys that are files of random bytes."""

from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

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


def derived_key(path: Path, purpose: bytes, length: int) -> bytes:
    """A key of ``length`` bytes for one purpose, made of a key file (HKDF, RFC 5869): keys for other purposes, and the
    file, cannot be told from it. Raises UnusableKey."""
    return HKDF(SHA256(), length, salt=None, info=purpose).derive(random_key(path))
