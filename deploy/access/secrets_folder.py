"""Passwords of principals: made at random, each in files of its own that only their owner may read.

A principal's folder is what ``LAPOR_SECRETS_DIR`` can name: `lapor` commands and containers read it as it is.
"""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

ADMIN = "admin"
"""Provisions: makes topics, users and rights. No service signs in as it."""
BROKER = "broker"
"""What Kafka's brokers and controllers know one another by."""


@dataclass(frozen=True)
class Secret:
    """One principal's user name and password."""

    username: str
    password: str

    def settings(self) -> dict[str, str]:
        """By the names of `shared.settings.ServiceSettings`."""
        return {
            f"{server}_{field}": getattr(self, field)
            for server in ("kafka", "mongo")
            for field in ("username", "password")
        }

    def environment(self) -> dict[str, str]:
        """The same as environment variables."""
        return {f"LAPOR_{name.upper()}": value for name, value in self.settings().items()}


class SecretsFolder:
    """A folder (mode 700) with a folder for each principal, and files of mode 600 in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def secret(self, name: str, username: str) -> Secret:
        """The secret kept under a short name; made at its first use. Raises OSError."""
        kept = self._folder / name / "lapor_kafka_password"
        secret = Secret(username, kept.read_text() if kept.exists() else secrets.token_urlsafe(24))
        (self._folder / name).mkdir(mode=0o700, exist_ok=True)
        for field, value in secret.settings().items():
            write_secret(self._folder / name / f"lapor_{field}", value)
        return secret

    def key_file(self) -> Path:
        """The file by which the members of MongoDB's replica set know one another."""
        path = self._folder / "mongo-key"
        if not path.exists():
            write_secret(path, secrets.token_hex(64))  # MongoDB takes letters of base64 only
        return path


def write_secret(path: Path, content: str) -> None:
    """Write a file that only its owner may read; it is there in full or not at all, and not at all for others."""
    unfinished = path.with_name(f"{path.name}.part")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(content)
    unfinished.rename(path)
