"""The machine that is measured on: what it is, whether it is busy with something else, and who uses its processors."""

import contextlib
import importlib.metadata
import math
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psutil

from deploy.local import jars
from deploy.local.processes import Children

BUSY_SHARE = 0.15
"""Share of all processors' time that others may take. The load average would tell of the row before as well."""

_PACKAGES = (
    "fastapi", "uvicorn", "uvloop", "httptools", "pydantic", "motor", "pymongo", "aiokafka", "faststream", "pillow",
)  # fmt: skip


def facts() -> dict[str, Any]:
    """Processors, memory, versions, how busy it was before the start, and how fast it is just now."""
    memory = psutil.virtual_memory()
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gib": round(memory.total / 2**30, 1),
        "free_gib": round(memory.available / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "kafka": jars.VERSION,
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "busy_before": round(others_share(5.0), 3),
        "pace": round(pace(), 1),
    }


def pace() -> float:
    """Million turns a second of a loop of plain Python on one core: the best of the tries that go into a
    second. The same machine changes by the hour where others share it, and rows without a floor are compared by this
    alone."""
    turns = 200_000
    best = math.inf
    until = time.perf_counter() + 1.0
    while time.perf_counter() < until:
        began = time.perf_counter()
        total = 0
        for number in range(turns):
            total += number & 7
        best = min(best, time.perf_counter() - began)
    return turns / best / 1e6


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as told:
        for line in told:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def others_share(seconds: float) -> float:
    """The share of all processors' time that is used while we do nothing, over some seconds."""
    return psutil.cpu_percent(interval=seconds) / 100


def warning(machine: Mapping[str, Any]) -> str:
    """What is to be said of figures from a busy machine; empty if it was idle."""
    busy = machine["busy_before"]
    if busy <= BUSY_SHARE:
        return ""
    return (
        f"The machine was busy with something else before this row ({100 * busy:.0f} % of its processors in use): "
        "its figures are not to be relied on."
    )


class Cpu:
    """CPU time of children (each with what it started itself) and of this process."""

    def __init__(self, children: Children) -> None:
        self._children = children

    def seconds(self) -> dict[str, float]:
        """Seconds used so far, by the child's name; `generator` is this process, `machine` all that was not idle."""
        used = {"generator": time.process_time(), "machine": _machine()}
        for child in self._children.all:
            if child.running and child.pid:
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(child.pid)
                    used[child.name] = sum(_own(p) for p in [process, *process.children(recursive=True)])
        return used

    @contextmanager
    def of(self, uses: dict[str, dict[str, float]], run: str) -> Iterator[None]:
        """Put what is used within it into ``uses`` under the run's name."""
        before, began = self.seconds(), time.monotonic()
        yield
        after, wall = self.seconds(), time.monotonic() - began
        spent = {name: round(after[name] - before.get(name, 0), 2) for name in after if name in before}
        others = spent["machine"] - sum(seconds for name, seconds in spent.items() if name != "machine")
        uses[run] = {**spent, "others": round(max(0.0, others), 2), "wall": round(wall, 2)}


def _own(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def _machine() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0) - getattr(times, "guest", 0))
