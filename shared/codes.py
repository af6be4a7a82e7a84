"""One-time codes, by which somebody shows that an address is theirs: six digits, made from the id of the challenge
under a key (HMAC-SHA-256, truncated as RFC 4226, section 5.3, does it).

So a code is stored nowhere and stands in no topic: intake, which asks for it, and notify, which sends it, have the key.
"""

import hmac
import re
from pathlib import Path

from shared.keyfile import UnusableKey, random_key

DIGITS = 6


class OneTimeCodes:
    """Makes codes and compares them. Without a key it can do neither."""

    def __init__(self, key_file: Path | None) -> None:
        self._key = random_key(key_file) if key_file is not None else None

    def code(self, challenge_id: str) -> str:
        """The code of a challenge. Raises UnusableKey without a key."""
        digest = self._digest("code", challenge_id)
        offset = digest[-1] & 0x0F
        number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
        return f"{number % 10**DIGITS:0{DIGITS}}"

    def matches(self, challenge_id: str, given: str) -> bool:
        """Whether a code is the challenge's, in a time that tells nothing. Raises UnusableKey without a key."""
        typed = re.sub(r"[\s-]", "", given)
        return hmac.compare_digest(self.code(challenge_id).encode(), typed.encode())

    def fingerprint(self, address: str) -> str:
        """What an address is counted under: nobody without the key can tell whose it is. Raises UnusableKey without a
        key."""
        return self._digest("address", address).hex()

    def _digest(self, purpose: str, text: str) -> bytes:
        if self._key is None:
            raise UnusableKey("there is no key for one-time codes: set LAPOR_CODE_KEY_FILE")
        return hmac.digest(self._key, f"{purpose}\n{text}".encode(), "sha256")
