"""Children are stopped in order, their deaths are told, and none outlives its launcher, however that ends."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local.errors import CannotRun, ChildDied
from deploy.local.processes import Children
from tests.local.watching import ended

Launch = Callable[..., "subprocess.Popen[str]"]

# A child that does not mind SIGTERM and has a child of its own in another session, where no process group reaches.
STUBBORN = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
inner = subprocess.Popen(["sleep", "600"], start_new_session=True)
pathlib.Path(sys.argv[1]).write_text(str(inner.pid))
time.sleep(600)
"""
LAUNCHER = """
import pathlib, sys, time
from deploy.local.processes import Children
with Children(pathlib.Path(sys.argv[1]), grace_seconds=1) as children:
    for name in ("one", "two"):
        child = children.start(name, [sys.executable, "-c", sys.argv[2], f"{sys.argv[1]}/{name}.pid"])
        print(child.pid, flush=True)
    time.sleep(600)
"""
SERVERS = """
import pathlib, sys, time
from deploy.local.servers import embedded_servers
with embedded_servers(pathlib.Path(sys.argv[1])):
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def launched() -> Iterator[Launch]:
    """Starts a launcher from source; it is gone after the test."""
    with contextlib.ExitStack() as stack:

        def launch(source: str, *arguments: str) -> "subprocess.Popen[str]":
            launcher = subprocess.Popen(
                [sys.executable, "-c", source, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            stack.enter_context(launcher)
            stack.callback(launcher.kill)
            return launcher

        yield launch


def line(launcher: "subprocess.Popen[str]") -> str:
    assert launcher.stdout
    return launcher.stdout.readline().strip()


def written(path: Path) -> int:
    deadline = time.monotonic() + 10
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"{path} was not written"
        time.sleep(0.05)
    return int(path.read_text())


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    with Children(tmp_path / "logs") as started:
        yield started


def test_a_killed_launcher_leaves_neither_children_nor_their_children(launched: Launch, tmp_path: Path) -> None:
    launcher = launched(LAUNCHER, str(tmp_path), STUBBORN)
    pids = [int(line(launcher)) for _ in range(2)]
    pids += [written(tmp_path / f"{name}.pid") for name in ("one", "two")]
    assert not any(ended(pid, 0) for pid in pids)
    launcher.kill()
    launcher.communicate()
    assert all(ended(pid, 15) for pid in pids)


def test_a_killed_launcher_leaves_no_server(launched: Launch, tmp_path: Path) -> None:
    launcher = launched(SERVERS, str(tmp_path / "data"))
    assert line(launcher) == "up"
    below = psutil.Process(launcher.pid).children(recursive=True)
    names = {process.name() for process in below}
    assert {"java", "mongod"} <= names
    launcher.kill()
    launcher.communicate()
    assert all(ended(process.pid, 25) for process in below)


def test_leaving_stops_the_highest_stage_first_and_what_ignores_the_asking(children: Children, tmp_path: Path) -> None:
    order = tmp_path / "order"
    told = f"trap 'echo $0 >> {order}; exit' TERM; echo up; while :; do sleep 0.05; done"
    with Children(tmp_path / "inner") as inner:
        for stage, name in enumerate(("server", "service")):
            child = inner.start(name, ["sh", "-c", told, name], stage=stage)
            while "up" not in child.tail():
                time.sleep(0.02)
        stubborn = inner.start("stubborn", [sys.executable, "-c", STUBBORN, str(tmp_path / "pid")], stop_within=0.3)
        grandchild = written(tmp_path / "pid")
    assert order.read_text().split() == ["service", "server"]
    assert stubborn.exit_code == -signal.SIGKILL
    assert ended(grandchild, 5)


def test_a_dead_child_is_told_with_its_last_lines(children: Children) -> None:
    child = children.start("routing", ["sh", "-c", "echo no more paper; exit 3"])
    with pytest.raises(ChildDied, match=r"routing has ended \(exit code 3\)(?s:.*)no more paper(?s:.*)routing\.log"):
        child.wait_until(lambda: False, 10)
    with pytest.raises(ChildDied, match="routing"):
        children.check()


def test_a_child_killed_from_outside_is_told(children: Children) -> None:
    child = children.start("opd", ["sleep", "600"])
    assert child.pid
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(ChildDied, match=r"SIGKILL(?s:.*)killed from outside"):
        child.wait_until(lambda: False, 10)


def test_a_child_that_was_meant_to_end_is_no_trouble(children: Children) -> None:
    child = children.start("sla", ["sleep", "600"])
    first = child.pid
    child.stop()
    children.check()
    child.start()
    assert child.running
    assert child.pid != first
    child.kill()
    children.check()


def test_a_full_disk_is_told_as_such(children: Children) -> None:
    child = children.start("kafka", ["sh", "-c", "echo 'java.io.IOException: No space left on device' >&2; exit 1"])
    with pytest.raises(ChildDied, match="The disk is full"):
        child.wait_until(lambda: False, 10)


def test_a_missing_program_is_told(children: Children) -> None:
    with pytest.raises(CannotRun, match=r"mongod cannot be started.*no-such-program"):
        children.start("mongod", ["no-such-program"])


def test_the_first_failure_ends_the_waits_of_the_others(children: Children) -> None:
    slow = children.start("slow", ["sleep", "600"])
    bad = children.start("bad", ["false"])
    began = time.monotonic()
    with pytest.raises(ChildDied, match="bad"):
        children.together(lambda: slow.wait_until(lambda: False, 60), lambda: bad.wait_until(lambda: False, 60))
    assert time.monotonic() - began < 10
