"""The logs of all children as one readable stream: each line with its process's name, in its colour."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from deploy.local.processes import Child, Children

COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")
LEVEL_STYLES = {"warning": "yellow", "error": "bold red", "critical": "bold red", "debug": "dim"}
MONGOD_LEVELS = {"F": "critical", "E": "error", "W": "warning", "I": "info"}
# Said by every line of a service, or for machines only.
HIDDEN = {"timestamp", "level", "event", "service", "traceparent", "trace_id", "exception", "logger"}
KAFKA_LINE = re.compile(r"(\d\d:\d\d:\d\d)\.\d+ \[(\w+)\] (.*)")


class LogView:
    """Prints what children write after `begin`; of the servers below the services, warnings and errors only."""

    def __init__(self, children: Children, console: Console) -> None:
        self._children = children
        self._console = console
        self._read_up_to: dict[str, int] = {}
        self._unfinished: dict[str, bytes] = {}

    def begin(self) -> None:
        """Leave out what was written so far."""
        for child in self._children.all:
            if child.log_path.exists():
                self._read_up_to[child.name] = child.log_path.stat().st_size

    def print_new(self) -> None:
        """Print the lines finished since the last call."""
        for number, child in enumerate(self._children.all):
            for line in self._new_lines(child):
                time, level, text, more = readable(line)
                if child.stage == 0 and level in ("info", "debug"):
                    continue
                shown = Text.assemble((f"{time:8} ", "dim"), (f"{child.name:8} ", COLOURS[number % len(COLOURS)]))
                shown.append(text, LEVEL_STYLES.get(level, ""))
                shown.append(more, "dim")
                self._console.print(shown, soft_wrap=True)

    def _new_lines(self, child: Child) -> Iterator[str]:
        if not child.log_path.exists():
            return
        with child.log_path.open("rb") as log:
            log.seek(self._read_up_to.get(child.name, 0))
            new = log.read(1 << 20)
        self._read_up_to[child.name] = self._read_up_to.get(child.name, 0) + len(new)
        *lines, self._unfinished[child.name] = (self._unfinished.get(child.name, b"") + new).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines if line.strip())


def readable(line: str) -> tuple[str, str, str, str]:
    """(local time HH:MM:SS or "", level, what happened, details) of a line as services (JSON), mongod (JSON) and Kafka
    write it; any other line is what happened, at level info."""
    if kafka := KAFKA_LINE.match(line):
        return kafka[1], {"WARN": "warning", "ERROR": "error"}.get(kafka[2], "info"), kafka[3], ""
    try:
        entry: dict[str, Any] = json.loads(line)
        if "msg" in entry and "t" in entry:
            details = json.dumps(entry["attr"], default=str) if "attr" in entry else ""
            return _local(entry["t"]["$date"]), MONGOD_LEVELS.get(entry["s"], "debug"), entry["msg"], f" {details}"
        details = "".join(f" {key}={value}" for key, value in entry.items() if key not in HIDDEN)
        trace = f"\n{entry['exception']}" if entry.get("exception") else ""
        return _local(entry["timestamp"]), str(entry.get("level", "info")), str(entry["event"]), details + trace
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", "info", line, ""


def _local(stamp: str) -> str:
    return f"{datetime.fromisoformat(stamp).astimezone():%H:%M:%S}"
