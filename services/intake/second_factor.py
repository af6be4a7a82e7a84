"""The second factor of staff: time-based one-time passwords (TOTP, RFC 6238) of an authenticator app, and recovery
codes for the day that it is lost.

The secret is stored enciphered and bound to its account, so that neither a copy of the database nor a row moved to
another account lets anybody in. A code is taken once: whoever looks over a shoulder cannot use it again.
"""

import base64
import hashlib
import hmac
import re
import secrets
import time
from pathlib import Path

import pyotp
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from services.intake.second_factor_store import SecondFactorStore
from shared.auth import Principal
from shared.http import Problem
from shared.issuers import GIVABLE
from shared.keyfile import derived_key
from shared.projection import Document
from shared.scopes import SECOND_FACTOR
from shared.sop import Role

ISSUER = "LAPOR! Pontianak"
RECOVERY_CODES = 10
STEP_SECONDS = 30
_SIV_KEY = 64
_RECOVERY_BYTES = 15
"""120 bits: what has 112 or more needs no slow hash (NIST SP 800-63B-4, section 3.1.2.2)."""
_CODE = re.compile(r"[0-9]{6}")


class SecondFactors:
    """Sets them up and asks for them. Where they are ``required``, staff without one get a token that lets them set one
    up and do nothing else."""

    def __init__(self, store: SecondFactorStore, key_file: Path, *, required: bool = False) -> None:
        self._store = store
        self._cipher = AESSIV(derived_key(key_file, b"lapor second factors of staff", _SIV_KEY))
        self._required = required

    async def admit(self, account: Document, otp: str | None) -> Principal | None:
        """Who somebody is whose password was right; None if ``otp`` is wrong or was used. Raises 401 if there is none
        and the account needs one."""
        role = Role(account["role"])
        factor = await self._store.find(account["_id"]) if role in GIVABLE else None
        if factor is not None and factor["active"]:
            if not otp:
                raise Problem(
                    401,
                    "second-factor-required",
                    "Send the code of your authenticator app, or a recovery code, as `otp` beside the password.",
                    "Masukkan kode dari aplikasi autentikator atau kode pemulihan.",
                )
            if not await self._accepted(factor, otp):
                return None
            scopes = None
        else:
            scopes = frozenset({SECOND_FACTOR}) if self._required and role in GIVABLE else None
        return Principal(account["_id"], role, account["agency"], scopes=scopes)

    async def begin(self, account: Document) -> tuple[str, str] | None:
        """A new secret (base 32) and its otpauth URI, in force once it is confirmed; None if another is in force."""
        secret = pyotp.random_base32()
        account_id = account["_id"]
        if not await self._store.begin(account_id, self._cipher.encrypt(secret.encode(), [account_id.encode()])):
            return None
        return secret, pyotp.TOTP(secret).provisioning_uri(name=account["logins"][0], issuer_name=ISSUER)

    async def confirm(self, factor: Document, code: str) -> list[str] | None:
        """The recovery codes of a factor that the code puts in force; None if the code is wrong."""
        step = self._step(factor, code)
        if step is None:
            return None
        codes = [_recovery_code() for _ in range(RECOVERY_CODES)]
        if not await self._store.activate(factor, step, [_hashed(recovery) for recovery in codes]):
            return None
        return codes

    async def find(self, account_id: str) -> Document | None:
        """An account's factor, be it in force or not."""
        return await self._store.find(account_id)

    async def remove(self, factor: Document, code: str) -> bool:
        """Take a factor away; False if the code is wrong."""
        return await self._accepted(factor, code) and await self._store.remove(factor["_id"])

    async def _accepted(self, factor: Document, code: str) -> bool:
        if _CODE.fullmatch(_packed(code)):
            step = self._step(factor, code)
            return step is not None and await self._store.use_step(factor, step)
        return await self._store.use_recovery(factor, _hashed(code))

    def _step(self, factor: Document, code: str) -> int | None:
        """The time step whose code this is: the present one, or one beside it, for clocks that differ (RFC 6238,
        section 5.2). None as well for a secret of another account or under another key."""
        try:
            secret = self._cipher.decrypt(factor["secret"], [factor["_id"].encode()]).decode()
        except InvalidTag:
            return None
        codes, present = pyotp.TOTP(secret), int(time.time()) // STEP_SECONDS
        given = _packed(code).encode()
        fits = [
            step
            for step in (present - 1, present, present + 1)
            if hmac.compare_digest(codes.generate_otp(step).encode(), given)
        ]
        return max(fits, default=None)


def _recovery_code() -> str:
    """120 random bits, in six groups of four letters and digits."""
    text = base64.b32encode(secrets.token_bytes(_RECOVERY_BYTES)).decode()
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))


def _hashed(recovery_code: str) -> str:
    """A recovery code as it is stored: however it was typed, with or without hyphens, in small letters or large."""
    return hashlib.sha256(_packed(recovery_code).upper().encode()).hexdigest()


def _packed(code: str) -> str:
    return re.sub(r"[\s-]", "", code)
