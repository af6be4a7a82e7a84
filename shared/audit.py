"""The audit log: who did what to whose data or to the installation, in a chain that cannot be changed unseen.

Each service keeps one chain in its own database. Entries are numbered 1, 2, 3 ... without a gap, and each carries an
HMAC-SHA-256 (RFC 2104) over its content and the hash of the entry before, under a key that is not in the database: who
can write there alone cannot make a chain that fits. That entries are missing at its end no chain can show; so its head
is told on the topic ``audit.anchored``, and `verify` compares (docs/decisions/0017).
"""

import getpass
import hashlib
import hmac
import json
import os
import random
import re
from asyncio import sleep
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from shared.events import AuditAnchored, now
from shared.journal import Overloaded
from shared.keyfile import UnusableKey, random_key
from shared.projection import Document
from shared.together import Together

Fact = str | int | bool | None

BEGINNING = "0" * 64
"""What the first entry names as the hash before its own."""
SYSTEM = "system"
"""The actor of what a service does by itself."""

_ATTEMPTS = 50
_PLAIN = re.compile(r"[A-Za-z0-9._:/-]{1,200}")
_LIKE_A_PHONE = re.compile(r"\d{8,}")
_LARGEST = 2**53 - 1
_PROGRESS_EVERY = 100_000


class Action(StrEnum):
    """What is recorded. Each sign-in and its refusals are counted and logged, and not recorded one by one."""

    IDENTITY_OPENED = "identity_opened"
    STAFF_ADDED = "staff_added"
    STAFF_CHANGED = "staff_changed"
    STAFF_DISABLED = "staff_disabled"
    DEAD_LETTER_REPLAYED = "dead_letter_replayed"
    AGENCY_ADDED = "agency_added"
    AGENCY_CHANGED = "agency_changed"
    AGENCY_CONNECTED = "agency_connected"
    AGENCY_DISCONNECTED = "agency_disconnected"
    RETENTION_RUN = "retention_run"
    LOG_SHORTENED = "log_shortened"
    SESSIONS_ENDED = "sessions_ended"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - no password
    SECOND_FACTOR_ENABLED = "second_factor_enabled"
    SECOND_FACTOR_DISABLED = "second_factor_disabled"
    CLIENT_MADE = "client_made"
    CLIENT_ROTATED = "client_rotated"
    CLIENT_DISABLED = "client_disabled"
    DATA_EXPORTED = "data_exported"
    DATA_RESTRICTED = "data_restricted"
    DATA_DELETED = "data_deleted"


FACTS: Mapping[Action, frozenset[str]] = {
    Action.IDENTITY_OPENED: frozenset({"number"}),
    Action.STAFF_ADDED: frozenset({"account_role", "agency"}),
    Action.STAFF_CHANGED: frozenset({"account_role", "agency"}),
    Action.DEAD_LETTER_REPLAYED: frozenset({"topic"}),
    Action.AGENCY_ADDED: frozenset({"active"}),
    Action.AGENCY_CHANGED: frozenset({"active"}),
    Action.RETENTION_RUN: frozenset({"due", "before"}),
    Action.LOG_SHORTENED: frozenset({"begins"}),
    Action.SESSIONS_ENDED: frozenset({"reason"}),
    Action.CLIENT_MADE: frozenset({"scopes", "agency"}),
    Action.DATA_RESTRICTED: frozenset({"restricted"}),
}
"""What an entry may tell besides who and about whom. Nothing of it is personal data: codes, counts, numbers of
complaints."""


def operator() -> str:
    """The actor of a command: the account of this machine that runs it."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        name = str(os.getuid())
    return "cli:" + re.sub(r"[^A-Za-z0-9._-]", "_", name)[:60]


@dataclass(frozen=True, slots=True, eq=False)
class _Wanted:
    """One record that waits to be written."""

    content: Document


class AuditStore(Protocol):
    """Where entries live (`shared.audit_store`)."""

    async def head(self) -> Document | None:
        """The last entry that no failure takes back; None if there is none."""

    async def add(self, entries: Sequence[Document]) -> int:
        """Store entries in order and durably, up to the first whose number is taken; returns how many were stored."""


class Seal:
    """Makes the hashes of one service's chain. Raises UnusableKey without a key, or for one that is too short."""

    def __init__(self, service: str, key_file: Path | None) -> None:
        if key_file is None:
            raise UnusableKey("there is no key for the audit log: set LAPOR_AUDIT_KEY_FILE")
        self._service = service
        self._key = random_key(key_file)

    def of(self, entry: Mapping[str, Any]) -> str:
        """The hash of an entry, whatever else than ``hash`` is in it, in hex. Raises TypeError or ValueError for what
        no entry holds."""
        content = {name: value for name, value in entry.items() if name != "hash"}
        text = canonical({"service": self._service, "entry": content})
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()


def canonical(value: Any) -> bytes:
    """A value as JSON in one form only, as RFC 8785 has it for what entries hold: sorted names, no spaces, whole
    numbers that each reader reads alike. Times are text, in UTC. Raises TypeError or ValueError for anything else."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) and name.isascii() for name in value):
            raise TypeError("names are ASCII text")
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds")
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int) and abs(value) <= _LARGEST:
        return int(value)
    raise TypeError(f"an entry cannot hold a {type(value).__name__}")


class AuditLog:
    """One service's chain, as its processes and the commands write it. What is recorded at the same time is written
    together; of several processes that want the same number one wins, and the others take the next."""

    def __init__(self, store: AuditStore, seal: Seal | None) -> None:
        self._store = store
        self._seal = seal
        self._head: tuple[int, str] | None = None
        self._writing: Together[_Wanted, Document] = Together(self._write)

    @property
    def sealed(self) -> bool:
        """Whether there is a key, without which nothing can be recorded."""
        return self._seal is not None

    async def record(
        self, action: str, actor: str, subject: str | None = None, *, role: str | None = None, **facts: Fact
    ) -> None:
        """Write down what is about to be done; do it, or answer it, only after this returned. An entry may stand for
        what then failed.

        ``actor`` is an opaque account id, `operator` or `SYSTEM`; ``subject`` an opaque id, a number or a code.
        Raises ValueError for what may not be in an entry, UnusableKey, `Overloaded`, and what the database raises.
        """
        if self._seal is None:
            raise UnusableKey("there is no key for the audit log: set LAPOR_AUDIT_KEY_FILE")
        done = Action(action)
        if extra := facts.keys() - FACTS.get(done, frozenset()):
            raise ValueError(f"{done} has no fact called {', '.join(sorted(extra))}: see FACTS")
        for value in (actor, subject, role, *facts.values()):
            if isinstance(value, str) and (not _PLAIN.fullmatch(value) or _LIKE_A_PHONE.fullmatch(value)):
                raise ValueError("an entry holds opaque ids and codes only: this could be personal data")
        content = {"action": done.value, "actor": actor, "role": role, "subject": subject, "facts": facts}
        await self._writing.get(_Wanted(content))

    async def _write(self, wanted: Collection[_Wanted]) -> dict[_Wanted, Document]:
        assert self._seal is not None
        waiting = list(wanted)
        for attempt in range(_ATTEMPTS):
            last, previous = self._head or await self._read_head()
            self._head = None  # until it is known what is stored
            entries: list[Document] = []
            for n, one in enumerate(waiting, last + 1):
                entry = {"_id": n, "at": now(), **one.content, "previous": previous}
                previous = self._seal.of(entry)
                entries.append({**entry, "hash": previous})
            stored = await self._store.add(entries)
            waiting = waiting[stored:]
            if not waiting:
                self._head = (entries[-1]["_id"], previous)
                return {}
            await sleep(random.uniform(0, 0.01 * min(attempt + 1, 10)))  # noqa: S311 - not a secret
        raise Overloaded("too many write to the audit log at once")

    async def _read_head(self) -> tuple[int, str]:
        head = await self._store.head()
        return (head["_id"], head["hash"]) if head else (0, BEGINNING)


@dataclass(slots=True)
class Verdict:
    """What a look at one chain has found: how many entries fit, from which number to which, and the first fault."""

    service: str
    entries: int = 0
    first: int = 1
    last: int = 0
    fault: str = ""
    begins: int = field(default=1, repr=False)
    """Where the chain begins by what is written in it."""


async def verify(
    service: str, entries: AsyncIterable[Document], seal: Seal, progress: Callable[[Verdict], None] = lambda _: None
) -> Verdict:
    """Walk a chain, given in the order of its numbers, up to its first fault. ``progress`` hears of each 100,000
    entries."""
    found, previous = Verdict(service), ""
    async for entry in entries:
        n = entry["_id"]
        if fault := _fault(entry, found, previous, seal):
            found.fault = fault
            return found
        found.first = n if not found.entries else found.first
        found.last, previous, found.entries = n, entry["hash"], found.entries + 1
        if entry["action"] == Action.LOG_SHORTENED:
            found.begins = max(found.begins, entry["facts"]["begins"])
        if found.entries % _PROGRESS_EVERY == 0:
            progress(found)
    if found.first > found.begins:  # shortened by nobody who had the key
        found.fault = (
            f"{_missing(1, found.first - 1)} missing at the beginning, and no entry says that they were removed"
        )
    return found


def _fault(entry: Document, found: Verdict, previous: str, seal: Seal) -> str:
    n = entry["_id"]
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        return f"there is an entry with the number {n!r}, which no entry has"
    if found.entries and n > found.last + 1:
        return f"{_missing(found.last + 1, n - 1)} missing"
    try:
        genuine = hmac.compare_digest(str(entry.get("hash")), seal.of(entry))
    except (TypeError, ValueError):
        genuine = False
    if not genuine:
        return f"entry {n} is not as it was written: its hash does not fit its content"
    if entry["previous"] != (previous if found.entries else BEGINNING if n == 1 else entry["previous"]):
        return f"entry {n} does not follow the one before it: another stood there when it was written"
    return ""


def _missing(first: int, last: int) -> str:
    return f"entry {first} is" if first == last else f"entries {first} to {last} are"


async def compare(
    verdict: Verdict,
    anchors: AsyncIterator[Sequence[AuditAnchored]],
    hashes: Callable[[Sequence[int]], Awaitable[Mapping[int, str]]],
) -> str:
    """Whether every head that was told outside of the database is in the chain still; the first fault, or nothing.
    ``hashes`` gives the stored hashes of entries by their numbers."""
    lost: AuditAnchored | None = None
    other: AuditAnchored | None = None
    async for some in anchors:
        stored = await hashes([anchor.n for anchor in some])
        for anchor in some:
            if anchor.n < verdict.begins:
                continue
            if anchor.n not in stored:
                lost = anchor if lost is None or anchor.n > lost.n else lost
            elif stored[anchor.n] != anchor.hash and (other is None or anchor.n < other.n):
                other = anchor
    if other is not None:
        return f"entry {other.n} is another than the one that was anchored at {other.occurred_at:%Y-%m-%d %H:%M:%S} UTC"
    if lost is not None:
        return (
            f"entries up to {lost.n} were anchored at {lost.occurred_at:%Y-%m-%d %H:%M:%S} UTC, and entry {lost.n} is "
            f"missing; the last is {verdict.last or 'none'}"
        )
    return ""
