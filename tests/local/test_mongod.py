"""The packaged mongod on a machine without libcurl."""

import subprocess
from pathlib import Path

import pytest

from deploy.local import mongod
from deploy.local.errors import CannotRun


def test_the_borrowed_libcurl_is_what_mongod_is_linked_to_and_it_runs(tmp_path: Path) -> None:
    environment = mongod.borrowed_libcurl(tmp_path / "lib")
    packaged = mongod.packaged()
    assert mongod.missing_libraries(packaged, environment) == []
    linked = subprocess.run(["ldd", packaged], env=environment, capture_output=True, text=True, check=True).stdout
    assert f"libcurl.so.4 => {tmp_path}/lib/libcurl.so.4" in linked
    told = subprocess.run([packaged, "--version"], env=environment, capture_output=True, text=True, check=True).stdout
    assert "db version v6" in told


def test_what_is_missing_is_told_by_its_debian_package() -> None:
    with pytest.raises(CannotRun, match="apt-get install libcurl4 libssl3"):
        mongod.refuse_without(["libssl.so.3", "libcrypto.so.3", "libcurl.so.4"])
    mongod.refuse_without([])


@pytest.mark.parametrize(("version", "major"), [("db version v6.0.5\nBuild", 6), ("db version v4.4.1", 4), ("", 0)])
def test_a_mongod_on_the_path_is_judged_by_its_version(tmp_path: Path, version: str, major: int) -> None:
    program = tmp_path / "mongod"
    program.write_text(f"#!/bin/sh\necho '{version}'\n")
    program.chmod(0o755)
    assert mongod.major_version(str(program)) == major
