"""Child processes: started, watched, and stopped in order, with nothing left behind."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Self, TypeVar

from deploy.local import guard
from deploy.local.errors import CannotRun, ChildDied

POLL_SECONDS = 0.05
T = TypeVar("T")


class Child:
    """One program that we run. Its output goes to `log_path`.

    It leads a process group of its own, so that a Ctrl-C in the terminal reaches the launcher only and the order of
    stopping stays the launcher's.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log_path: Path,
        waits_end: threading.Event,
        stage: int,
        stop_within: float,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.environment = dict(environment)
        self.log_path = log_path
        self.stage = stage
        self.stop_within = stop_within
        self._waits_end = waits_end
        self._wanted = False
        self._log_from = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, or None when it was never started."""
        return self._process.pid if self._process else None

    @property
    def exit_code(self) -> int | None:
        """None while it runs (or was never started); negative for a signal, as subprocess has it."""
        return self._process.poll() if self._process else None

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it (again). Raises CannotRun when the program is missing or may not be run."""
        if self.running:
            return
        with self.log_path.open("ab") as log:
            self._log_from = log.tell()
            try:
                self._process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self.environment,
                    start_new_session=True,
                )
            except OSError as error:
                raise CannotRun(f"{self.name} cannot be started: {error}. Tried: {self.command}") from error
        self._wanted = True

    def terminate(self) -> None:
        """Ask it to end (SIGTERM), without waiting."""
        self._wanted = False
        if self._process and self.running:
            self._process.terminate()

    def stop(self) -> None:
        """Ask it to end, wait `stop_within` seconds, then kill it and whatever it had started itself."""
        self.terminate()
        if self._process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self.stop_within)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to its whole process group, as a power cut would do it."""
        self._wanted = False
        if self._process:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def tail(self, lines: int = 15) -> str:
        """The last lines that it wrote since it was last started."""
        with contextlib.suppress(OSError), self.log_path.open("rb") as log:
            log.seek(self._log_from)
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
        return ""

    def check(self) -> None:
        """Raise ChildDied when it should run and does not."""
        if self._wanted and not self.running:
            raise ChildDied(self.name, self.exit_code or 0, self.log_path, self.tail())

    def wait_until(self, ready: Callable[[], bool], within: float) -> None:
        """Poll `ready` until it holds. Raises ChildDied if the child ends before, CannotRun after `within` seconds."""
        deadline = time.monotonic() + within
        while not ready():
            self.check()
            if self._waits_end.wait(POLL_SECONDS):
                raise CannotRun(f"{self.name} is no longer waited for: the start was broken off.")
            if time.monotonic() > deadline:
                raise CannotRun(
                    f"{self.name} runs, but was not ready within {within:.0f} s. It last wrote:\n{self.tail()}\n"
                    f"Its whole log: {self.log_path}"
                )

    def wait_for_end(self, within: float) -> None:
        """For a program that does one job and ends. Raises ChildDied unless its exit code is 0."""
        self._wanted = False
        self.wait_until(lambda: not self.running, within)
        if self.exit_code:
            raise ChildDied(self.name, self.exit_code, self.log_path, self.tail())


class Children:
    """All children of one launcher. Leaving the context stops them: the highest stage first, each stage at once.
    Should this very process be killed, its guard does it."""

    def __init__(self, log_dir: Path, *, grace_seconds: float = 15.0) -> None:
        """`grace_seconds`: how long the guard gives the children to end by themselves."""
        self._grace_seconds = grace_seconds
        self.log_dir = log_dir
        self._mark = secrets.token_hex(16)
        self._by_name: dict[str, Child] = {}
        self._waits_end = threading.Event()

    def __enter__(self) -> Self:
        self.log_dir.mkdir(parents=True, exist_ok=True)
        # -I: the guard must come up whatever folder and PYTHON* variables the launcher was started with.
        self._guard = subprocess.Popen(
            [sys.executable, "-I", guard.__file__, self._mark, str(self._grace_seconds)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._waits_end.set()
        said = None
        try:
            for stage in sorted({child.stage for child in self.all}, reverse=True):
                self.stop(*(child for child in self.all if child.stage == stage))
            said = guard.STOPPED
        finally:
            self._guard.communicate(
                said
            )  # closes its pipe: it ends what a child of ours may have left, and then itself

    @property
    def all(self) -> list[Child]:
        """Every child ever started, in that order."""
        return list(self._by_name.values())

    def __getitem__(self, name: str) -> Child:
        return self._by_name[name]

    def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        stage: int = 0,
        stop_within: float = 20.0,
    ) -> Child:
        """Start a program under a name of its own. It inherits our environment, changed by `environment`. The log of an
        earlier run is kept beside the new one as `<name>.previous.log`. Raises CannotRun when it cannot be started."""
        log_path = self.log_dir / f"{name}.log"
        if log_path.exists():
            log_path.replace(self.log_dir / f"{name}.previous.log")
        marked = {**os.environ, **(environment or {}), guard.MARK: self._mark}
        child = Child(name, command, marked, log_path, self._waits_end, stage, stop_within)
        self._by_name[name] = child
        child.start()
        return child

    def stop(self, *children: Child) -> None:
        """Stop these together: all are asked before any is waited for."""
        for child in children:
            child.terminate()
        for child in children:
            child.stop()

    def check(self) -> None:
        """Raise ChildDied for the first child that should run and does not."""
        for child in self.all:
            child.check()

    def together(self, *jobs: Callable[[], T]) -> list[T]:
        """Run start-up jobs in parallel and return their results in order. The first failure (or Ctrl-C) ends the waits
        of the others and is raised."""
        with ThreadPoolExecutor(len(jobs)) as pool:
            futures = [pool.submit(job) for job in jobs]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self._waits_end.set()
                raise
        return [future.result() for future in futures]
