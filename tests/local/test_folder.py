"""The data folder: one run at a time, never somebody else's files, and a clear word where it cannot be used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import credentials
from deploy.local.errors import CannotRun
from deploy.local.folder import data_folder


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with (
        data_folder(tmp_path / "data"),
        pytest.raises(CannotRun, match=f"in use by another run .process {os.getpid()}"),
        data_folder(tmp_path / "data"),
    ):
        pass
    with data_folder(tmp_path / "data"):
        pass


def test_fresh_empties_only_what_is_ours(tmp_path: Path) -> None:
    with data_folder(tmp_path / "data") as folder:
        (folder / "kafka").mkdir()
        (folder / "kafka" / "old").touch()
    with data_folder(tmp_path / "data", fresh=True) as folder:
        assert not (folder / "kafka").exists()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letters").touch()
    with pytest.raises(CannotRun, match="not made by this launcher"), data_folder(tmp_path / "home", fresh=True):
        pass
    assert (tmp_path / "home" / "letters").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotRun, match=r"cannot be used(?s:.*)--data-dir"), data_folder(tmp_path / "file" / "data"):
        pass


def test_a_disk_too_full(tmp_path: Path) -> None:
    with (
        pytest.raises(CannotRun, match=r"MiB free and .* MiB are needed"),
        data_folder(tmp_path / "d", needed_bytes=1 << 60),
    ):
        pass


def test_credentials_are_made_once_and_for_the_owner_only(tmp_path: Path) -> None:
    first = credentials.load_or_make(tmp_path)
    again = credentials.load_or_make(tmp_path)
    assert first == again
    assert len({first.notify, *(account.password for account in first.staff)}) == len(first.staff) + 1
    for name in ("credentials.json", "signing-key.pem"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert first.signing_key.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")


def test_the_launcher_says_it_in_words_and_exits_with_1(tmp_path: Path) -> None:
    (tmp_path / "letters").touch()
    told = subprocess.run(
        [sys.executable, "-m", "deploy.cli", "up", "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1
    assert "not made by this launcher" in told.stdout + told.stderr
    assert "Traceback" not in told.stdout + told.stderr
