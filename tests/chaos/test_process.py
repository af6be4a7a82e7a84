"""A trap in a service kills whom it is set for, once, and never fails the service itself."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from shared.events import AuditAnchored, Event, now
from shared.journal import Entry
from shared.storage import MongoJournal
from tests.chaos.process import strike_at
from tests.support.events import Chain

MOVE = Chain().last
ANCHOR = AuditAnchored(id="audit:routing:1", occurred_at=now(), service="routing", n=1, hash="0" * 64)


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def insert(monkeypatch: pytest.MonkeyPatch) -> None:
    async def always(self: MongoJournal, entries: Sequence[Entry]) -> list[None]:
        return [None for _ in entries]

    monkeypatch.setattr(MongoJournal, "insert", always)


async def stored(*events: Event) -> None:
    """Each in an insert of its own."""
    journal = MongoJournal.__new__(MongoJournal)
    for event in events:
        assert await journal.insert([Entry(event)]) == [None]


@pytest.mark.usefixtures("insert")
async def test_the_victim_dies_at_the_passing_that_was_told_of_those_with_a_move(
    victim: subprocess.Popen[bytes],
) -> None:
    strike_at("after-insert", 2, victim.pid)
    await stored(MOVE, ANCHOR, ANCHOR)
    with pytest.raises(subprocess.TimeoutExpired):
        victim.wait(0.5)
    await stored(MOVE)
    assert victim.wait(10) == -signal.SIGKILL


@pytest.mark.usefixtures("insert")
async def test_a_victim_that_has_ended_before_is_let_be(victim: subprocess.Popen[bytes]) -> None:
    strike_at("after-insert", 2, victim.pid)
    victim.kill()
    victim.wait(10)
    strike_at("after-insert", 3, victim.pid)
    await stored(MOVE, MOVE, MOVE)
