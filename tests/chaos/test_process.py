"""A trap in a service kills whom it is set for, once, and never fails the service itself."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from shared.storage import MongoJournal
from tests.chaos.process import strike_at


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def insert(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stored(self: MongoJournal, entries: list[Any]) -> list[None]:
        return [None for _ in entries]

    monkeypatch.setattr(MongoJournal, "insert", stored)


async def passed(times: int) -> None:
    journal = MongoJournal.__new__(MongoJournal)
    for _ in range(times):
        assert await journal.insert([]) == []


@pytest.mark.usefixtures("insert")
async def test_the_victim_dies_at_the_passing_that_was_told(victim: subprocess.Popen[bytes]) -> None:
    strike_at("after-insert", 3, victim.pid)
    await passed(2)
    assert victim.poll() is None
    await passed(1)
    assert victim.wait(10) == -signal.SIGKILL


@pytest.mark.usefixtures("insert")
async def test_a_victim_that_has_ended_before_is_let_be(victim: subprocess.Popen[bytes]) -> None:
    strike_at("after-insert", 3, victim.pid)
    victim.kill()
    victim.wait(10)
    await passed(4)
