"""The whole system on this machine: servers, then what they must hold, then the five services; and the reverse."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType

import httpx
import psutil
from aiokafka.errors import KafkaError
from pymongo.errors import OperationFailure

from deploy.access.install import install
from deploy.access.kafka import KafkaRefused
from deploy.access.rights import WITNESS
from deploy.access.secrets_folder import Secret, SecretsFolder
from deploy.local import credentials, ports
from deploy.local.credentials import NOTIFY, Credentials
from deploy.local.errors import CannotRun
from deploy.local.folder import data_folder
from deploy.local.locks import FOLDER
from deploy.local.processes import Children
from deploy.local.provision import provision
from deploy.local.replicas import Revival
from deploy.local.servers import Say, Servers, needed_bytes, start_servers
from deploy.local.settings import SERVICES, LocalSettings
from shared.storage import TRANSIENT

READY_WITHIN = 60.0
SAY_EVERY = 3.0
SMS_DOMAIN = "sms.lapor.localhost"
"""The local SMTP server takes what goes to phones, too."""


class System:
    """The running system. `urls` has the base URL of each service by its name; `witness` are the settings by which
    somebody may look at everything, where the servers are locked."""

    def __init__(
        self,
        children: Children,
        servers: Servers,
        secrets: Credentials,
        urls: Mapping[str, str],
        say: Say,
        witness: Mapping[str, str],
    ) -> None:
        self.children = children
        self.servers = servers
        self.credentials = secrets
        self.urls = urls
        self.say = say
        self.witness = witness

    def start(self, *names: str) -> None:
        """Start services or servers that were stopped or killed, and wait until they are ready. Raises CannotRun."""
        for name in names:
            self.children[name].start()
        for name in names:
            if name in self.servers.waits:
                self.servers.waits[name](self.children[name])
        self.wait_ready(*(name for name in names if name in self.urls))

    def stop(self, *names: str) -> None:
        """Stop services or servers in good order; the others go on."""
        self.children.stop(*(self.children[name] for name in names))

    def kill(self, name: str) -> None:
        """End a service or server at once, as a crash would (SIGKILL); it stays away until it is started."""
        self.children[name].kill()

    def restart(self, *names: str) -> None:
        """Stop, then start."""
        self.stop(*names)
        self.start(*names)

    def wait_ready(self, *names: str, within: float = READY_WITHIN) -> None:
        """Wait until `/health/ready` of each service answers 200, saying at times what is missing. Raises CannotRun."""
        began = said = time.monotonic()
        missing = dict.fromkeys(names, "")
        with httpx.Client(timeout=2) as client:
            while missing:
                for name in list(missing):
                    self.children[name].check()
                    missing[name] = _missing(client, self.urls[name])
                    if not missing[name]:
                        del missing[name]
                now = time.monotonic()
                waits_for = "; ".join(f"{name}: {what}" for name, what in missing.items())
                if now - began > within:
                    logs = ", ".join(str(self.children[name].log_path) for name in missing)
                    raise CannotRun(f"Not ready within {within:.0f} s: {waits_for}. See {logs}.")
                if missing and now - said > SAY_EVERY:
                    self.say(f"Waiting for {waits_for}")
                    said = now
                time.sleep(0.1)

    def memory(self) -> dict[str, int]:
        """Resident bytes of each running child together with what it started itself."""
        held = {}
        for child in self.children.all:
            if child.running and child.pid:
                process = psutil.Process(child.pid)
                held[child.name] = sum(p.memory_info().rss for p in [process, *process.children(recursive=True)])
        return held


def _missing(client: httpx.Client, url: str) -> str:
    """What the service at `url` says it misses; empty when it is ready."""
    try:
        answer = client.get(f"{url}/health/ready")
        return (
            ""
            if answer.status_code == 200
            else ", ".join(answer.json().get("missing", [])) or f"status {answer.status_code}"
        )
    except (httpx.HTTPError, ValueError):
        return "does not answer yet"


@contextlib.contextmanager
def running_system(
    data_dir: Path,
    overrides: Mapping[str, str] | None = None,
    *,
    settings: LocalSettings | None = None,
    fresh: bool = False,
    say: Say = print,
) -> Iterator[System]:
    """The system, ready to use; stopped in order on leaving. It blocks: from async code, enter it in a thread.

    `overrides` are environment variables for every service (`{"LAPOR_DEADLINES__FORWARD": "20s"}`); `settings` says
    where things listen (`LocalSettings().on_free_ports()` beside another run). Raises CannotRun, worded for people.
    """
    chosen = settings or LocalSettings()
    chosen.require_supported()
    with (
        data_folder(data_dir, fresh=fresh, needed_bytes=needed_bytes(chosen)) as folder,
        Children(folder / "logs") as children,
    ):
        for setting, wanted_by in chosen.own_ports().items():
            ports.require_free(getattr(chosen, setting), wanted_by, f"LAPOR_{setting.upper()}")
        secrets = credentials.load_or_make(folder)
        how = ", three of the first two" if chosen.replicas == 3 else ""
        say(f"Starting the servers: Kafka, MongoDB, SMTP{how}{', locked' if chosen.secure else ''}")
        servers = start_servers(children, folder, chosen, say)
        urls = {name: f"http://{ports.LOOPBACK}:{chosen.port_of(name)}" for name in SERVICES}
        tls = servers.locks.tls.settings() if servers.locks and servers.locks.tls else {}
        common = {
            "LAPOR_NAMESPACE": chosen.namespace,
            "LAPOR_KAFKA_BOOTSTRAP": servers.kafka_bootstrap,
            "LAPOR_MONGO_URL": servers.mongo_url,
            "LAPOR_HOST": ports.LOOPBACK,
            "LAPOR_LOG_FORMAT": "json",
            "LAPOR_INTAKE_URL": urls["intake"],
            "LAPOR_OPD_URL": urls["opd"],
            "LAPOR_AUDIT_KEY_FILE": str(secrets.audit_key),
            **({} if chosen.kafka_bootstrap else {"LAPOR_TOPIC_REPLICATION": str(chosen.replicas)}),
            **{f"LAPOR_{name.upper()}": value for name, value in tls.items()},
            **(overrides or {}),
        }
        known = {"LAPOR_PSEUDONYM_KEY_FILE": str(secrets.pseudonym_key)}
        coded = {"LAPOR_CODE_KEY_FILE": str(secrets.code_key), "LAPOR_SMS_DOMAIN": SMS_DOMAIN}
        own = {
            "intake": {
                "LAPOR_SIGNING_KEY_FILE": str(secrets.signing_key),
                "LAPOR_TRACKING_KEY_FILE": str(secrets.tracking_key),
                **known,
                **coded,
            },
            "opd": known,
            "notify": {
                "LAPOR_SMTP_HOST": servers.smtp_host,
                "LAPOR_SMTP_PORT": str(servers.smtp_port),
                "LAPOR_NOTIFY_CLIENT_ID": NOTIFY,
                "LAPOR_NOTIFY_CLIENT_SECRET": secrets.notify,
                **known,
                **coded,
            },
        }
        say("Making topics, accounts and agencies")
        try:
            environment = {**os.environ, **common, **(servers.locks.admin.environment() if servers.locks else {})}
            (principals,) = children.together(lambda: _provision(environment, secrets, folder, servers))
        except (KafkaError, KafkaRefused, *TRANSIENT, OperationFailure) as error:
            raise CannotRun(
                f"Kafka at {servers.kafka_bootstrap} or MongoDB at {servers.mongo_url} cannot be used: {error!r}\n"
                "If they are servers of your own, mend LAPOR_KAFKA_BOOTSTRAP and LAPOR_MONGO_URL, or leave them out."
            ) from error
        say(f"Starting the services: {', '.join(SERVICES)}")
        witness = principals.get(WITNESS)
        system = System(children, servers, secrets, urls, say, {**tls, **witness.settings()} if witness else {})
        for name in SERVICES:
            environment = {**common, **own.get(name, {}), "LAPOR_PORT": str(chosen.port_of(name))}
            if name in principals:
                environment |= principals[name].environment()
            children.start(name, [sys.executable, "-m", f"services.{name}"], environment, stage=1)
        system.wait_ready(*SERVICES)
        yield system


def _provision(
    environment: Mapping[str, str], secrets: Credentials, folder: Path, servers: Servers
) -> dict[str, Secret]:
    """What the services need; on locked servers their principals too, whose secrets are returned by short name."""
    settings = asyncio.run(provision(environment, secrets))
    return install(settings, SecretsFolder(folder / FOLDER)) if servers.locks else {}


@contextlib.contextmanager
def ending_on_signals() -> Iterator[None]:
    """Within it SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt once; later ones do not disturb the stopping.

    Where an event loop runs, it is raised between two of its callbacks: out of the middle of a protocol's, uvloop logs
    it and goes on."""
    names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt() -> None:
        raise KeyboardInterrupt

    def end(_: int, __: FrameType | None) -> None:
        for name in names:
            signal.signal(name, lambda _, __: None)
        loop = None
        with contextlib.suppress(RuntimeError):
            loop = asyncio.get_running_loop()
        if loop is None:
            interrupt()
        else:
            loop.call_soon_threadsafe(interrupt)

    before = {name: signal.signal(name, end) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def wait_for_trouble(system: System, each_turn: Callable[[], None]) -> None:
    """Stay until a child dies: raises ChildDied. `each_turn` is called some five times a second.

    The death of a server that has others of its kind is no trouble: it is said and started again.
    """
    replicated = system.servers.names.values() if system.servers.replicas > 1 else ()
    revival = Revival([system.children[name] for name in replicated], system.say)
    while True:
        each_turn()
        revival.look()
        system.children.check()
        time.sleep(0.2)
