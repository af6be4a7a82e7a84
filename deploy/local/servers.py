"""The servers under the services: Kafka, MongoDB and SMTP, started here or already running elsewhere."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from deploy.local import kafka, mongod, ports, smtp
from deploy.local.errors import CannotRun
from deploy.local.folder import NEEDED_BYTES, data_folder
from deploy.local.locks import Locks, locks_of
from deploy.local.processes import Child, Children
from deploy.local.settings import LocalSettings

Say = Callable[[str], None]
Wait = Callable[[Child], None]


@dataclass(frozen=True)
class Servers:
    """Where the servers are. `mail_dir` holds an .eml file for each mail received; None if the server is not ours.

    `replicas` is how many there are of each broker and mongod of ours; `locks` is who may administer them, None where
    they are open to all on this machine. `names` has the child's name by the address that
    clients know a broker or mongod by; `waits` has, by the name of each child that is a server, what waits until that
    one serves after it was started again.
    """

    kafka_bootstrap: str
    mongo_url: str
    smtp_host: str
    smtp_port: int
    mail_dir: Path | None
    replicas: int = 1
    locks: Locks | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    waits: Mapping[str, Wait] = field(default_factory=dict)


def start_servers(children: Children, data_dir: Path, settings: LocalSettings, say: Say = print) -> Servers:
    """Start, in parallel, the servers for which `settings` has no address; wait until they serve. Raises CannotRun."""
    settings.require_supported()
    refuse_other_number(data_dir, settings.replicas)
    locks = locks_of(data_dir, settings)
    own_brokers = [replace(one, locks=locks) for one in brokers(data_dir, settings)]
    own_members = [replace(one, locks=locks) for one in members(data_dir, settings)]
    mail_dir = data_dir / "mail"
    jobs: list[Callable[[], object]] = []
    names: dict[str, str] = {}
    waits: dict[str, Wait] = {}
    if not settings.kafka_bootstrap:
        jars = kafka.program(say)  # before the rest and not beside it: Ctrl-C ends a long download at once
        jobs.append(lambda: kafka.start(children, own_brokers, jars))
        names |= {one.bootstrap: one.name for one in own_brokers}
        waits |= {one.name: kafka.wait for one in own_brokers}
    if not settings.mongo_url:
        jobs.append(lambda: mongod.start(children, own_members))
        names |= {one.host: one.name for one in own_members}
        waits |= {one.name: partial(mongod.wait, member=one) for one in own_members}
    if not settings.smtp_host:
        jobs.append(lambda: smtp.start(children, settings.smtp_port, mail_dir))
        waits["smtp"] = partial(smtp.wait, port=settings.smtp_port)
    if jobs:
        children.together(*jobs)
    return Servers(
        kafka_bootstrap=settings.kafka_bootstrap or ",".join(one.bootstrap for one in own_brokers),
        mongo_url=settings.mongo_url or mongod.url(own_members),
        smtp_host=settings.smtp_host or ports.LOOPBACK,
        smtp_port=settings.smtp_port,
        mail_dir=None if settings.smtp_host else mail_dir,
        replicas=settings.replicas,
        locks=locks,
        names=names,
        waits=waits,
    )


def brokers(data_dir: Path, settings: LocalSettings) -> list[kafka.Broker]:
    """The Kafka brokers of an installation. One is called `kafka`; of several, each has its number too: `kafka-2`."""
    addresses = _split(settings.kafka_advertised, settings.replicas, "LAPOR_KAFKA_ADVERTISED")
    listens = [
        (settings.kafka_port, settings.kafka_controller_port),
        (settings.kafka_2_port, settings.kafka_2_controller_port),
        (settings.kafka_3_port, settings.kafka_3_controller_port),
    ]
    return [
        kafka.Broker(data_dir / name, *listens[number], node_id=number + 1, name=name, advertised=addresses[number])
        for number, name in enumerate(_names("kafka", settings.replicas))
    ]


def members(data_dir: Path, settings: LocalSettings) -> list[mongod.Mongod]:
    """The mongods of an installation, named like the brokers."""
    addresses = _split(settings.mongo_advertised, settings.replicas, "LAPOR_MONGO_ADVERTISED")
    listens = [settings.mongo_port, settings.mongo_2_port, settings.mongo_3_port]
    return [
        mongod.Mongod(data_dir / name, listens[number], settings.mongo_cache_gb, name, addresses[number])
        for number, name in enumerate(_names("mongod", settings.replicas))
    ]


def refuse_other_number(data_dir: Path, replicas: int) -> None:
    """Raise CannotRun when the folder's data were made by another number of servers."""
    other = 3 if replicas == 1 else 1
    kept = [name for part in ("kafka", "mongod") for name in _names(part, other) if (data_dir / name).exists()]
    if kept:
        raise CannotRun(
            f"The data in {data_dir} were made with {other} of each server ({', '.join(kept)}), not with {replicas},\n"
            f"and are not carried over. Start with --replicas {other} (make run REPLICAS={other}) to use them, with "
            "--fresh to delete them, or choose another folder with --data-dir."
        )


def _names(part: str, replicas: int) -> list[str]:
    return [part] if replicas == 1 else [f"{part}-{number}" for number in range(1, replicas + 1)]


def _split(advertised: str, replicas: int, setting: str) -> list[str]:
    addresses = advertised.split(",") if advertised else [""] * replicas
    if len(addresses) != replicas:
        raise CannotRun(
            f"{setting} has {len(addresses)} addresses and there are {replicas} servers: give one for each."
        )
    return addresses


def needed_bytes(settings: LocalSettings) -> int:
    """What must be free on the disk for these servers to start."""
    return NEEDED_BYTES * settings.replicas


@contextlib.contextmanager
def embedded_servers(data_dir: Path, settings: LocalSettings | None = None) -> Iterator[Servers]:
    """The servers alone, for tests, on free ports unless `settings` says otherwise. Stopped at the end; the data stays
    in `data_dir`. Raises CannotRun."""
    chosen = settings or LocalSettings().on_free_ports()
    chosen.require_supported()
    with (
        data_folder(data_dir, needed_bytes=needed_bytes(chosen)) as folder,
        Children(folder / "logs") as children,
    ):
        yield start_servers(children, folder, chosen)
