"""The history: every request of a client and what it was told, one JSON line each."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Json = dict[str, Any]


def moment() -> str:
    """Now, as the history has it."""
    return datetime.now(UTC).isoformat()


@dataclass(slots=True)
class Attempt:
    """One request. ``op`` is what the client wants done, the same in all repetitions and written into the text that it
    sends, so that the stored event tells which request made it; ``status`` is None where no answer came, and then
    nobody knows whether it was done. ``complaint`` is the id, where the client knows it."""

    op: str
    move: str
    who: str
    role: str
    service: str
    path: str
    key: str
    body_hash: str
    complaint: str | None
    round: str
    attempt: int
    at: str
    ended_at: str = ""
    status: int | None = None
    problem: str | None = None
    answer: Json | None = None

    @property
    def acknowledged(self) -> bool:
        """It was told that it is done."""
        return self.status is not None and 200 <= self.status < 300


class History:
    """What was asked and told so far; each attempt is on disk as soon as it has ended."""

    def __init__(self, path: Path | None = None) -> None:
        self._file = path.open("w") if path else None
        self.attempts: list[Attempt] = []
        self.hops: list[tuple[str, str, float]] = []
        """Round, move, and the seconds that a case took to reach the desk that may make it."""

    def add(self, attempt: Attempt) -> None:
        """Keep an attempt that has ended."""
        self.attempts.append(attempt)
        if self._file:
            self._file.write(json.dumps(asdict(attempt)) + "\n")
            self._file.flush()

    def hop(self, round_: str, move: str, seconds: float) -> None:
        """A case has reached a desk."""
        self.hops.append((round_, move, seconds))

    def ops(self) -> Iterator[tuple[str, list[Attempt]]]:
        """The attempts by what was to be done."""
        by_op: dict[str, list[Attempt]] = {}
        for attempt in self.attempts:
            by_op.setdefault(attempt.op, []).append(attempt)
        yield from by_op.items()

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()
