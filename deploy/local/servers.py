"""The servers under the services: Kafka, MongoDB and SMTP, started here or already running elsewhere."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.local import kafka, mongod, ports, smtp
from deploy.local.folder import data_folder
from deploy.local.jars import kafka_jars
from deploy.local.processes import Child, Children
from deploy.local.settings import LocalSettings

Say = Callable[[str], None]


@dataclass(frozen=True)
class Servers:
    """Where the servers are. `mail_dir` holds an .eml file for each mail received; None if the server is not ours."""

    kafka_bootstrap: str
    mongo_url: str
    smtp_host: str
    smtp_port: int
    mail_dir: Path | None


def start_servers(children: Children, data_dir: Path, settings: LocalSettings, say: Say = print) -> Servers:
    """Start, in parallel, the servers for which `settings` has no address; wait until they serve. Raises CannotRun."""
    broker = kafka.Broker(data_dir / "kafka", settings.kafka_port, settings.kafka_controller_port)
    member = mongod.Mongod(data_dir / "mongod", settings.mongo_port, settings.mongo_cache_gb)
    mail_dir = data_dir / "mail"
    jobs: list[Callable[[], Child]] = []
    if not settings.kafka_bootstrap:
        jars = kafka_jars(say)  # before the rest and not beside it: Ctrl-C ends a long download at once
        jobs.append(lambda: kafka.start(children, broker, jars))
    if not settings.mongo_url:
        jobs.append(lambda: mongod.start(children, member))
    if not settings.smtp_host:
        jobs.append(lambda: smtp.start(children, settings.smtp_port, mail_dir))
    if jobs:
        children.together(*jobs)
    return Servers(
        kafka_bootstrap=settings.kafka_bootstrap or broker.bootstrap,
        mongo_url=settings.mongo_url or member.url,
        smtp_host=settings.smtp_host or ports.LOOPBACK,
        smtp_port=settings.smtp_port,
        mail_dir=None if settings.smtp_host else mail_dir,
    )


@contextlib.contextmanager
def embedded_servers(data_dir: Path, settings: LocalSettings | None = None) -> Iterator[Servers]:
    """The servers alone, for tests, on free ports unless `settings` says otherwise. Stopped at the end; the data stays
    in `data_dir`. Raises CannotRun."""
    chosen = settings or LocalSettings().on_free_ports()
    with data_folder(data_dir) as folder, Children(folder / "logs") as children:
        yield start_servers(children, folder, chosen)
