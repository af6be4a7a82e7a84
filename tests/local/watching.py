"""Waiting for what other processes do."""

import contextlib
import re
import time
from collections.abc import Sequence

import psutil


def appears(what: str, lines: Sequence[str], within: float) -> re.Match[str]:
    """The first match of a pattern in lines that another thread collects; fails after `within` seconds."""
    deadline = time.monotonic() + within
    while not (found := re.search(what, "".join(lines))):
        assert time.monotonic() < deadline, "".join(lines)
        time.sleep(0.1)
    return found


def ended(pid: int, within: float) -> bool:
    """Whether a process ends within so many seconds. One that only waits to be fetched by its parent has ended."""
    deadline = time.monotonic() + within
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
    return True
