"""The data folder of a local run: everything that is kept between runs, used by one run at a time; and the user's
cache folder, which all runs share."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from deploy.local.errors import CannotRun

LOCK = ".lapor-data"  # also the sign that the folder is ours to empty
NEEDED_BYTES = 1 << 30  # Kafka and mongod both misbehave on a disk that fills up under them


def cache_folder() -> Path:
    """Where what all runs of this user need is kept (XDG Base Directory Specification); it may have to be made."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lapor"


@contextlib.contextmanager
def data_folder(path: Path, *, fresh: bool = False, needed_bytes: int = NEEDED_BYTES) -> Iterator[Path]:
    """Make `path` (mode 700), hold it for this run alone, and empty it first if `fresh`.

    Raises CannotRun when it cannot be written, is in use by another run, holds something else than our data, or its
    disk has less than `needed_bytes` free.
    """
    path = path.absolute()
    elsewhere = "Choose another folder with --data-dir."
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(path.iterdir()) and not (path / LOCK).exists():
            raise CannotRun(f"{path} is not empty and was not made by this launcher. {elsewhere}")
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CannotRun(f"The data folder {path} cannot be used: {error.strerror}. {elsewhere}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(lock, 20).decode() or "unknown"
            raise CannotRun(
                f"The data folder {path} is in use by another run (process {holder}). Stop that one first. {elsewhere}"
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        if fresh:
            for entry in path.iterdir():
                if entry.name != LOCK:
                    shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        free = shutil.disk_usage(path).free
        if free < needed_bytes:
            raise CannotRun(
                f"The disk of {path} has {free >> 20} MiB free and {needed_bytes >> 20} MiB are needed. "
                f"Free some space. {elsewhere}"
            )
        yield path
    finally:
        os.close(lock)
