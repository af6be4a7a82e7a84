"""What is tortured: the whole system, with proxies between the services and their servers, and disks that can fill up.

The servers are started here and not by the launcher, since the broker must name the proxy to its clients, and the data
of each server lie on a small file system of their own (tmpfs) where this user may mount one.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from deploy.local import kafka, mongod, ports
from deploy.local.errors import CannotRun
from deploy.local.kafka import Broker
from deploy.local.launcher import System, running_system
from deploy.local.mongod import Mongod
from deploy.local.processes import Child, Children
from deploy.local.provision import provision
from deploy.local.settings import SERVICES, LocalSettings
from tests.chaos.proxy import Proxy

DEADLINES = {"FORWARD": "6s", "ASSIGN": "9s", "DOCUMENT": "8s", "REOPEN": "10s"}
"""So short that faults make steps late, that answered complaints lapse, and that what a round leaves behind strikes in
that round: while clocks of minutes struck all through a later one, it did not come to rest."""

ENVIRONMENT = {
    **{f"LAPOR_DEADLINES__{name}": value for name, value in DEADLINES.items()},
    "LAPOR_LIMITS__ENABLED": "false",  # few accounts, one address: they would be refused as a flood
    "LAPOR_RELAY_AFTER_SECONDS": "2",
    "LAPOR_REPORT_AFTER_SECONDS": "4",
    "LAPOR_SMTP_TIMEOUT_SECONDS": "6",
    "LAPOR_PHOTO_TIMEOUT_SECONDS": "3",
    "LAPOR_DELIVERY_LEASE_SECONDS": "11",
    "LAPOR_MAIL_RETRY_SECONDS": "1",
    "LAPOR_MAIL_RETRY_MAX_SECONDS": "4",
    "LAPOR_PHOTO_RETRY_SECONDS": "1",
    "LAPOR_ALARM_PATIENCE_SECONDS": "20",
}
"""Pauses of seconds in place of minutes, so that a round need not wait long for what comes again by itself."""

DISK_MB = {"kafka": 512, "mongod": 1024}
_PROXY_URL = "mongodb://127.0.0.1:{port}/?directConnection=true"


class Rig:
    """The running system and everything that faults take hold of. ``down`` are the services that are down on
    purpose."""

    def __init__(
        self,
        system: System,
        servers: Children,
        addresses: tuple[str, str],
        proxies: Mapping[str, Proxy] | None = None,
        disks: Mapping[str, Path] | None = None,
    ) -> None:
        """``addresses`` are those by which the checker reaches MongoDB (its URL) and Kafka."""
        self.system = system
        self.servers = servers
        self.mongo_url, self.kafka_bootstrap = addresses
        self.proxies = proxies or {}
        self.disks = disks or {}
        self.namespace = "lapor"
        self.later: list[asyncio.Task[None]] = []
        """What has yet to be started again, of faults that go on while recovery is awaited."""
        self._plain = {name: list(system.children[name].command) for name in SERVICES}

    def service(self, name: str) -> Child:
        """A service's process."""
        return self.system.children[name]

    def server(self, name: str) -> Child:
        """A broker or a mongod."""
        return self.servers[name]

    def kill(self, *names: str) -> None:
        """SIGKILL to processes, services or servers, with all that they have started."""
        for name in names:
            self._child(name).kill()

    def start(self, *names: str) -> None:
        """Start what is down, without waiting for it."""
        for name in names:
            self._child(name).start()

    def freeze(self, name: str) -> None:
        """SIGSTOP."""
        self._signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> None:
        pid = self._child(name).pid
        assert pid is not None
        os.killpg(pid, number)

    def _child(self, name: str) -> Child:
        return self.service(name) if name in SERVICES else self.server(name)

    def dress(self, name: str, *options: str) -> None:
        """From its next start on, a service runs as `tests.chaos.process` with ``options``; without any, as itself."""
        service = [sys.executable, "-m", "tests.chaos.process", name, *options]
        self.service(name).command = service if options else list(self._plain[name])

    async def start_twin(self, name: str) -> Child:
        """A second process of a service, in the same group; returns once it is ready."""
        port = ports.free_ports(1)[0]
        environment = {**self.service(name).environment, "LAPOR_PORT": str(port)}
        twin = self.system.children.start(f"{name}-twin", self._plain[name], environment, stage=1)
        url = f"http://{ports.LOOPBACK}:{port}/health/ready"
        async with httpx.AsyncClient(timeout=2) as client:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(url)).status_code == 200:
                        return twin
                twin.check()
                await asyncio.sleep(0.2)
        raise CannotRun(f"a second {name} was not ready within 60 s; see {twin.log_path}")

    async def wait_ready(self, *names: str, within: float = 90) -> None:
        """Wait until services (all, if none is named) answer that they are ready. Raises CannotRun."""
        await asyncio.to_thread(self.system.wait_ready, *(names or SERVICES), within=within)

    async def server_up(self, name: str) -> None:
        """Start a server that is down and wait until it serves."""
        child = self.server(name)
        before = child.log_path.stat().st_size
        child.start()
        if name.startswith("kafka"):
            await asyncio.to_thread(child.wait_until, lambda: kafka.STARTED in _from(child.log_path, before), 120)
        else:
            await asyncio.to_thread(child.wait_until, self._has_primary, 90)

    def _has_primary(self) -> bool:
        with (
            contextlib.suppress(PyMongoError),
            MongoClient[dict[str, Any]](self.mongo_url, serverSelectionTimeoutMS=1000) as client,
        ):
            return bool(client.admin.command("hello").get("isWritablePrimary"))
        return False

    async def renew(self, namespace: str, dressed: Mapping[str, tuple[str, ...]] | None = None) -> None:
        """Stop the services and start them on databases and topics of their own, ``dressed`` as told."""
        await asyncio.to_thread(self.system.stop, *SERVICES)
        self.namespace = namespace
        for name in SERVICES:
            child = self.service(name)
            child.environment["LAPOR_NAMESPACE"] = namespace
            self.dress(name, *(dressed or {}).get(name, ()))
        environment = dict(self.service("intake").environment)
        await asyncio.to_thread(lambda: asyncio.run(provision(environment, self.system.credentials)))
        self.start(*SERVICES)
        await self.wait_ready()

    def fill(self, server: str, leave_kb: int = 64) -> None:
        """Fill a server's disk with ballast but for a little. Raises KeyError where it has no file system of its
        own."""
        disk = self.disks[server]
        ballast = disk / "ballast"
        free = os.statvfs(disk)
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(4096, free.f_bavail * free.f_frsize - leave_kb * 1024))

    def flush(self) -> None:
        """Let mongod write a checkpoint now, and not within the minute."""
        with (
            contextlib.suppress(PyMongoError),
            MongoClient[dict[str, Any]](self.mongo_url, serverSelectionTimeoutMS=1000, socketTimeoutMS=5000) as client,
        ):
            client.admin.command("fsync")

    def free(self, server: str) -> None:
        """Take the ballast away."""
        (self.disks[server] / "ballast").unlink(missing_ok=True)


def _from(path: Path, offset: int) -> str:
    with path.open("rb") as file:
        file.seek(min(offset, path.stat().st_size))
        return file.read().decode(errors="replace")


@contextlib.contextmanager
def _disk(folder: Path, megabytes: int) -> Any:
    """A file system of its own at ``folder``; yields whether there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "lapor-chaos", str(folder)]
    mounted = subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


@contextlib.asynccontextmanager
async def running_rig(folder: Path) -> AsyncIterator[Rig]:
    """The system on free ports, with everything in ``folder``; stopped at the end. Raises CannotRun."""
    broker_port, controller, member_port, front, mongo_front = ports.free_ports(5)
    with contextlib.ExitStack() as stack:
        disks = {
            name: folder / name for name, size in DISK_MB.items() if stack.enter_context(_disk(folder / name, size))
        }
        servers = stack.enter_context(Children(folder / "server-logs"))
        broker = Broker(folder / "kafka" / "data", broker_port, controller, advertised=f"{ports.LOOPBACK}:{front}")
        member = Mongod(folder / "mongod" / "data", member_port)
        jars = kafka.program()
        await asyncio.to_thread(
            servers.together,
            lambda: kafka.start(servers, [broker], jars),
            lambda: mongod.start(servers, [member]),
        )
        mongo_proxy, kafka_proxy = Proxy(mongo_front, member_port), Proxy(front, broker_port)
        await mongo_proxy.start()
        await kafka_proxy.start()
        addresses = {
            "kafka_bootstrap": f"{ports.LOOPBACK}:{front}",
            "mongo_url": _PROXY_URL.format(port=mongo_front),
        }
        settings = LocalSettings().model_copy(update=addresses).on_free_ports()
        running = running_system(folder / "system", ENVIRONMENT, settings=settings, fresh=True)
        system = await asyncio.to_thread(running.__enter__)
        try:
            direct = f"mongodb://{ports.LOOPBACK}:{member_port}/?directConnection=true"
            proxies = {"mongod": mongo_proxy, "kafka": kafka_proxy}
            yield Rig(system, servers, (direct, f"{ports.LOOPBACK}:{front}"), proxies, disks)
        finally:
            await asyncio.to_thread(running.__exit__, None, None, None)
            await kafka_proxy.stop()
            await mongo_proxy.stop()


@contextlib.asynccontextmanager
async def replicated_rig(folder: Path) -> AsyncIterator[Rig]:
    """The system on three brokers and three mongods, as the launcher starts them; no proxies and no small disks."""
    settings = LocalSettings().model_copy(update={"replicas": 3}).on_free_ports()
    running = running_system(folder / "replicated", ENVIRONMENT, settings=settings, fresh=True)
    system = await asyncio.to_thread(running.__enter__)
    try:
        yield Rig(system, system.children, (system.servers.mongo_url, system.servers.kafka_bootstrap))
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)
