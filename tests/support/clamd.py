"""A real clamd with one harmless signature of the tests' own, so that no database has to be fetched."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_UNPACKED = Path(__file__).parents[2] / "build/clamav"
_PACKAGES = ("clamav-daemon", "libclamav12", "libmspack0")

SIGNATURE = b"LAPOR-UJI-COBA-TIDAK-BERBAHAYA"
"""What clamd finds in the tests, and nothing else."""


def program() -> tuple[str, dict[str, str]]:
    """The path of ``clamd`` and the environment that it needs: as installed, or from Debian's packages, unpacked in the
    build folder. Skips the test where there is neither, and says what to install."""
    if found := shutil.which("clamd"):
        return found, dict(os.environ)
    unpacked = _UNPACKED / "usr/sbin/clamd"
    if not unpacked.exists() and shutil.which("apt-get"):
        _UNPACKED.mkdir(parents=True, exist_ok=True)
        if not _run("apt-get", "download", "-qq", *_PACKAGES) and os.getuid() == 0 and _run("apt-get", "update", "-qq"):
            _run("apt-get", "download", "-qq", *_PACKAGES)
        for package in _UNPACKED.glob("*.deb"):
            _run("dpkg-deb", "-x", package.name, ".")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(_UNPACKED / "usr/lib/x86_64-linux-gnu")}
    works = (
        unpacked.exists() and subprocess.run([unpacked, "--help"], env=environment, capture_output=True).returncode == 0
    )
    if not works:
        pytest.skip("clamd is not on PATH. On Debian or Ubuntu: apt-get install clamav-daemon")
    return str(unpacked), environment


def _run(*command: str) -> bool:
    return subprocess.run(command, cwd=_UNPACKED, capture_output=True, check=False).returncode == 0


@contextmanager
def running_clamd(folder: Path) -> Iterator[Path]:
    """clamd with the one signature: the path of its socket. It has ended afterwards."""
    path, environment = program()
    (folder / "database").mkdir()
    (folder / "database/tests.ndb").write_text(f"Lapor.Uji:0:*:{SIGNATURE.hex()}\n")
    socket = folder / "clamd.sock"
    settings = {"DatabaseDirectory": str(folder / "database"), "LocalSocket": str(socket)}
    settings |= {"TemporaryDirectory": str(folder), "Foreground": "yes", "StreamMaxLength": "20M"}
    (folder / "clamd.conf").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    with (folder / "clamd.log").open("wb") as log:
        process = subprocess.Popen([path, "-c", folder / "clamd.conf"], stdout=log, stderr=log, env=environment)
        try:
            deadline = time.monotonic() + 60
            while not socket.exists():
                said = (folder / "clamd.log").read_text()[-1000:]
                assert process.poll() is None, said
                assert time.monotonic() < deadline, said
                time.sleep(0.1)
            yield socket
        finally:
            process.terminate()
            process.wait(20)
