"""Where the parts of a local system listen, and which running servers it should use instead of its own."""

from typing import Self

from pydantic_settings import BaseSettings, SettingsConfigDict

from deploy.local import ports

SERVICES = ("intake", "routing", "opd", "notify", "sla")


class LocalSettings(BaseSettings):
    """From the environment, prefix LAPOR_. An address given for a server means: use that one, start none."""

    model_config = SettingsConfigDict(env_prefix="LAPOR_")

    namespace: str = "lapor"
    kafka_bootstrap: str | None = None
    mongo_url: str | None = None
    smtp_host: str | None = None

    kafka_port: int = 19092
    kafka_controller_port: int = 19093
    mongo_port: int = 27117
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
        if not self.kafka_bootstrap:
            own |= {"kafka_port": "Kafka", "kafka_controller_port": "Kafka's controller"}
        if not self.mongo_url:
            own |= {"mongo_port": "mongod"}
        if not self.smtp_host:
            own |= {"smtp_port": "the local SMTP server"}
        return own

    def on_free_ports(self) -> Self:
        """The same with a free port wherever we bind one: for tests and demos, beside whatever else runs here."""
        own = self.own_ports()
        return self.model_copy(update=dict(zip(own, ports.free_ports(len(own)), strict=True)))
