"""Where the parts of a local system listen, and which running servers it should use instead of its own."""

from typing import Self

from pydantic import FilePath
from pydantic_settings import BaseSettings, SettingsConfigDict

from deploy.local import ports
from deploy.local.errors import CannotRun

SERVICES = ("intake", "routing", "opd", "notify", "sla")


class LocalSettings(BaseSettings):
    """From the environment, prefix LAPOR_. An address given for a server means: use that one, start none.

    `replicas` is the number of Kafka brokers and of mongods, 1 or 3. `kafka_advertised` and `mongo_advertised` are the
    addresses (host:port, one for each server, with commas between) by which clients and the other servers reach ours,
    where those are not the ones that they listen at: something stands in between.

    `secure` locks the servers that are started here: sign-in, rights, and, with the `tls_` files (PEM; the servers'
    certificate has its key in it, and the name 127.0.0.1), encryption.
    """

    model_config = SettingsConfigDict(env_prefix="LAPOR_")

    namespace: str = "lapor"
    kafka_bootstrap: str | None = None
    mongo_url: str | None = None
    smtp_host: str | None = None
    replicas: int = 1
    secure: bool = False
    tls_cert_file: FilePath | None = None
    tls_ca_file: FilePath | None = None
    tls_ask_clients: bool = False

    kafka_port: int = 19092
    kafka_controller_port: int = 19093
    kafka_2_port: int = 19094
    kafka_2_controller_port: int = 19095
    kafka_3_port: int = 19096
    kafka_3_controller_port: int = 19097
    kafka_advertised: str = ""
    mongo_port: int = 27117
    mongo_2_port: int = 27118
    mongo_3_port: int = 27119
    mongo_advertised: str = ""
    mongo_cache_gb: float = 1.0
    smtp_port: int = 10250

    intake_port: int = 8101
    routing_port: int = 8102
    opd_port: int = 8103
    notify_port: int = 8104
    sla_port: int = 8105

    def port_of(self, service: str) -> int:
        """The HTTP port of a service."""
        port: int = getattr(self, f"{service}_port")
        return port

    def own_ports(self) -> dict[str, str]:
        """The ports that we bind ourselves: the setting's name -> what it is for."""
        own = {f"{name}_port": f"the service {name}" for name in SERVICES}
        for number in range(1, self.replicas + 1):
            which = f"_{number}" if number > 1 else ""
            if not self.kafka_bootstrap:
                own |= {f"kafka{which}_port": "Kafka", f"kafka{which}_controller_port": "Kafka's controller"}
            if not self.mongo_url:
                own |= {f"mongo{which}_port": "mongod"}
        if not self.smtp_host:
            own |= {"smtp_port": "the local SMTP server"}
        return own

    def require_supported(self) -> None:
        """Raise CannotRun for settings that make no sense; before anything is touched."""
        if self.replicas not in (1, 3):
            raise CannotRun(
                f"There can be 1 or 3 replicas of Kafka and MongoDB, not {self.replicas}: two could not outvote "
                "a third, and more add nothing on one machine. Set LAPOR_REPLICAS or --replicas to 1 or 3."
            )

        if self.secure and (self.kafka_bootstrap or self.mongo_url):
            raise CannotRun(
                "SECURE locks the servers that are started here, and LAPOR_KAFKA_BOOTSTRAP or LAPOR_MONGO_URL name "
                "others. Leave those out; or lock yours yourself, make the principals on them with "
                "`lapor principals make`, and run the services with these."
            )
        if (self.tls_cert_file is None) != (self.tls_ca_file is None) or (self.tls_cert_file and not self.secure):
            raise CannotRun("LAPOR_TLS_CERT_FILE and LAPOR_TLS_CA_FILE belong together, and with --secure (SECURE=1).")

    def on_free_ports(self) -> Self:
        """The same with a free port wherever we bind one: for tests and demos, beside whatever else runs here."""
        own = self.own_ports()
        return self.model_copy(update=dict(zip(own, ports.free_ports(len(own)), strict=True)))
