"""Who has reported anonymously: events name such a reporter by another id in each complaint.

Topics are read by agencies' systems too. Were the account's id in the events of an anonymous complaint, they could put
together what one person reports, and with it what he reports under his name. So intake puts a pseudonym there: the
account's id, enciphered under a key together with the complaint's id (AES-SIV, RFC 5297). Who has the key reads who it
is: intake, whose accounts they are, notify, which reaches them, and opd, which shows them the photos of the work.
"""

import base64
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from shared.keyfile import UnusableKey, derived_key

PREFIX = "anon-"
_PURPOSE, _SIV_KEY = b"lapor pseudonyms of reporters", 64


class Pseudonyms:
    """Makes pseudonyms and reads them. Without a key it can do neither: nobody's own complaint is found by one."""

    def __init__(self, key_file: Path | None) -> None:
        self._cipher = AESSIV(derived_key(key_file, _PURPOSE, _SIV_KEY)) if key_file is not None else None

    def of(self, citizen_id: str, complaint_id: str) -> str:
        """The id under which the events of one complaint name a citizen. Raises UnusableKey without a key."""
        if self._cipher is None:
            raise UnusableKey("there is no key for pseudonyms: set LAPOR_PSEUDONYM_KEY_FILE")
        hidden = self._cipher.encrypt(citizen_id.encode(), [complaint_id.encode()])
        return PREFIX + base64.urlsafe_b64encode(hidden).decode().rstrip("=")

    def citizen(self, reporter_id: str, complaint_id: str) -> str:
        """The account behind the reporter that a complaint's events name; what is no pseudonym of this complaint, or
        cannot be read without a key, stays as it is."""
        if self._cipher is None or not reporter_id.startswith(PREFIX):
            return reporter_id
        text = reporter_id.removeprefix(PREFIX)
        try:
            hidden = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            return self._cipher.decrypt(hidden, [complaint_id.encode()]).decode()
        except (ValueError, InvalidTag):
            return reporter_id


NO_PSEUDONYMS = Pseudonyms(None)
"""For those who read events in which nobody is anonymous."""
