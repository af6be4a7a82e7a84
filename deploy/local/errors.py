"""What can keep the system from running on this machine. Each message says what to do about it."""

import signal
from pathlib import Path

# What children write before they give up, and what helps. Matched in their last log lines.
REMEDIES = (
    ("No space left on device", "The disk is full: free some space, or put the data elsewhere with --data-dir."),
    ("OutOfMemoryError", "There is not enough memory: about 2 GB must be free."),
    ("Cannot allocate memory", "There is not enough memory: about 2 GB must be free."),
    (
        "Address already in use",
        "Another process took the port in between: start again, or choose other ports (LAPOR_..._PORT).",
    ),
    ("Permission denied", "The data folder has files of another user: mend their owner, or choose another --data-dir."),
    (
        "meta.properties",
        "The data folder is from another Kafka cluster or damaged: start with --fresh (this deletes its data).",
    ),
    ("WiredTiger error", "MongoDB cannot read its data folder: start with --fresh (this deletes its data)."),
)


class CannotRun(Exception):
    """The local system cannot be started or kept running as asked; the message says why and what to do."""


class PortTaken(CannotRun):
    """A port that we need belongs to another process."""

    def __init__(self, port: int, wanted_by: str, setting: str, owner: str | None) -> None:
        by = owner or "a process that this user may not see"
        super().__init__(
            f"Port {port}, wanted by {wanted_by}, is taken by {by}.\n"
            f"Stop that process, or choose another port: {setting}=<port>."
        )


class ChildDied(CannotRun):
    """A program that should run has ended. `exit_code` is negative for a signal, as subprocess has it."""

    def __init__(self, name: str, exit_code: int, log_path: Path, last_lines: str) -> None:
        self.name = name
        self.exit_code = exit_code
        how = f"exit code {exit_code}" if exit_code >= 0 else signal.Signals(-exit_code).name
        remedies = [remedy for sign, remedy in REMEDIES if sign in last_lines]
        if exit_code == -signal.SIGILL:
            remedies.append(
                "This processor lacks instructions that the program needs (mongod: AVX): set LAPOR_MONGO_URL."
            )
        if exit_code == -signal.SIGKILL:
            remedies.append("It was killed from outside: by someone, or by the kernel for want of memory (see dmesg).")
        written = "\n".join(f"    {line}" for line in last_lines.splitlines()) or "    (nothing)"
        super().__init__(
            "\n".join([f"{name} has ended ({how}). It last wrote:", written, f"Its whole log: {log_path}", *remedies])
        )
