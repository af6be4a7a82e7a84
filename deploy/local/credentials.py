"""Secrets of a local installation: made once at random, kept in its data folder for its owner's eyes only.

No secret is in the code, and no two installations share one.
"""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.local.errors import CannotRun


@dataclass(frozen=True)
class Account:
    """One demo sign-in. `role` as in shared/sop.py; `agency` is the agency's code, for agency operators only."""

    login: str
    name: str
    role: str
    password: str
    agency: str | None = None


@dataclass(frozen=True)
class Credentials:
    """`signing_key` is the PEM file of intake's ES256 key, `tracking_key` the file that its tracking codes are made
    from, `pseudonym_key` the one by which anonymous reporters are known, `code_key` the one that one-time codes are
    made from, `audit_key` the one that seals the audit logs; `notify` is the secret of the machine account `NOTIFY`, by
    which notify asks intake."""

    signing_key: Path
    tracking_key: Path
    pseudonym_key: Path
    code_key: Path
    audit_key: Path
    notify: str
    staff: tuple[Account, ...]


NOTIFY = "notify"
STAFF = (
    ("pusat@lapor.localhost", "Operator Admin Pengaduan Pusat", "central_operator", None),
    ("daerah@lapor.localhost", "Operator Admin Pengaduan Daerah", "regional_operator", None),
    ("koordinator@lapor.localhost", "Koordinator Pengaduan Masyarakat", "coordinator", None),
    ("pupr@lapor.localhost", "Pejabat Penghubung Dinas PUPR", "agency_operator", "DPUPR"),
    ("dlh@lapor.localhost", "Pejabat Penghubung Dinas Lingkungan Hidup", "agency_operator", "DLH"),
    ("admin@lapor.localhost", "Administrator", "admin", None),
)


def load_or_make(folder: Path) -> Credentials:
    """The credentials kept in `folder`; what is missing is made and kept (files of mode 600).

    Raises CannotRun when the kept file cannot be read.
    """
    kept_at, signing_key = folder / "credentials.json", folder / "signing-key.pem"
    try:
        kept: dict[str, str] = json.loads(kept_at.read_text())["passwords"] if kept_at.exists() else {}
    except (ValueError, KeyError, OSError) as error:
        raise CannotRun(f"{kept_at} cannot be read: {error}. Mend it, or start with --fresh.") from error
    notify = kept.get(NOTIFY) or secrets.token_urlsafe(32)
    staff = [
        Account(login, name, role, kept.get(login) or secrets.token_urlsafe(12), agency)
        for login, name, role, agency in STAFF
    ]
    passwords = {NOTIFY: notify} | {account.login: account.password for account in staff}
    if passwords != kept:
        _write(
            kept_at, json.dumps({"passwords": passwords, "staff": [asdict(one) for one in staff]}, indent=2).encode()
        )
    if not signing_key.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        _write(
            signing_key,
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )
    keys = {f"{name}_key": folder / f"{name}-key" for name in ("tracking", "pseudonym", "code", "audit")}
    for key_file in keys.values():
        if not key_file.exists():
            _write(key_file, secrets.token_bytes(32))
    return Credentials(signing_key=signing_key, **keys, notify=notify, staff=tuple(staff))


def _write(path: Path, content: bytes) -> None:
    unfinished = path.with_suffix(".part")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    unfinished.rename(path)
