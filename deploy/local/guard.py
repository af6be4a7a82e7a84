"""Ends what a launcher left behind when the launcher itself was killed.

A process that dies by SIGKILL cannot stop its children, and a child's own children (a photo worker, say) hear of
nothing. So each launcher keeps one guard beside it, joined by a pipe. The pipe closes when the launcher ends, however
it ends; the guard then ends every process that carries the launcher's mark in its environment, whose child it may be.
"""

import contextlib
import os
import signal
import sys
import time

MARK = "LAPOR_LAUNCHER_MARK"
STOPPED = b"stopped"  # what a launcher says that could stop its children itself


def main(mark: str, grace_seconds: float) -> None:
    """Wait for the end of standard input, then end what is marked `mark`: SIGTERM first, SIGKILL after the grace.

    After STOPPED there is no grace: what is left then has outlived those who should have ended it.
    """
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    heard = b""
    while said := os.read(sys.stdin.fileno(), 4096):
        heard += said
    deadline = time.monotonic() + (0 if heard == STOPPED else grace_seconds)
    told: set[int] = set()
    while pids := marked(mark):
        late = time.monotonic() > deadline
        for pid in pids if late else pids - told:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        told |= pids
        time.sleep(0.1)


def marked(mark: str) -> set[int]:
    """The ids of all living processes that carry `mark` in their environment."""
    import psutil  # here and not above: while it waits, the guard should weigh as little as possible

    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process.pid)
    return found


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
