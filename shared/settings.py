"""Settings that all services share, read from the environment (prefix ``LAPOR_``). No secret has a default.

Where secrets come as mounted files (containers), ``LAPOR_SECRETS_DIR`` is their folder: the file
``lapor_notify_client_secret`` in it stands for the variable of that name, which goes before it where it is set.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, FilePath, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.calendar import Deadlines
from shared.issuers import ExternalIssuer, unique
from shared.kept import RetentionSettings
from shared.rates import LimitSettings

Breath = Annotated[float, Field(ge=0, le=1)]
"""Seconds; longer ones would show in what people wait for."""


class ServiceSettings(BaseSettings):
    """What every service is told. A service's own settings extend it and give ``port`` its default."""

    model_config = SettingsConfigDict(
        env_prefix="LAPOR_",
        env_nested_delimiter="__",
        extra="ignore",
        secrets_dir=os.environ.get("LAPOR_SECRETS_DIR"),
    )

    namespace: str = Field(
        "lapor", pattern=r"^[a-z][a-z0-9-]{0,40}$", description="prefix of topics, groups and databases"
    )
    kafka_bootstrap: str = "127.0.0.1:19092"
    kafka_username: str | None = Field(None, description="the service's principal; none: it does not sign in")
    kafka_password: SecretStr | None = None
    kafka_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = "SCRAM-SHA-512"
    kafka_tls: bool = Field(False, description="encrypt, and check the brokers' certificates and names")
    kafka_ca_file: FilePath | None = Field(None, description="PEM of the authority; none: those of the system")
    kafka_cert_file: FilePath | None = Field(None, description="PEM of the service's own certificate, if brokers ask")
    kafka_key_file: FilePath | None = Field(None, description="PEM of its key; none: it is in the same file")
    mongo_url: str = "mongodb://127.0.0.1:27117/?replicaSet=lapor"
    mongo_username: str | None = Field(None, description="the service's user; none: it does not sign in")
    mongo_password: SecretStr | None = None
    mongo_auth_source: str = Field("admin", description="the database that the user is kept in")
    mongo_tls: bool = Field(False, description="encrypt, and check the servers' certificates and names")
    mongo_ca_file: FilePath | None = Field(None, description="PEM of the authority; none: those of the system")
    mongo_cert_file: FilePath | None = Field(None, description="PEM of the service's own certificate and key")
    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65535)
    intake_url: str = Field("http://127.0.0.1:8101", description="where the JWKS of sign-in is served")
    issuers: Annotated[Sequence[ExternalIssuer], AfterValidator(unique)] = Field(
        (), description="OpenID Connect issuers whose staff may use the service as well (`shared/issuers.py`)"
    )
    pseudonym_key_file: Path | None = Field(
        None, description="at least 32 random bytes by which intake, notify and opd know anonymous reporters"
    )
    code_key_file: Path | None = Field(
        None, description="at least 32 random bytes from which intake and notify make one-time codes"
    )
    sms_domain: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*$",
        description="the e-mail-to-SMS gateway's: codes go to <digits>@domain; none: phone numbers cannot be verified",
    )
    audit_key_file: Path | None = Field(
        None, description="at least 32 random bytes that seal the audit log; without it nothing can be recorded"
    )
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    topic_partitions: int = Field(3, ge=1, description="of each topic: the most processes of one service that share it")
    topic_replication: int = Field(1, ge=1)
    body_seconds: float = Field(30, gt=0, description="within which a request's body must be there; photos: their own")
    requests_at_a_time: int = Field(500, ge=1, description="requests inside the service; beyond it 503")
    journal_queue: int = Field(2000, ge=1, description="requests that may wait for the journal; beyond it 503")
    journal_batch: int = Field(500, ge=1, description="entries of one group commit")
    relay_after_seconds: float = Field(5.0, gt=0, description="age from which the relay takes an unpublished entry")
    consumer_batch: int = Field(5000, ge=1, description="most records of one batch: the more, the cheaper a backlog")
    consumer_breath_seconds: Breath = Field(0.02, description="how long a busy consumer lets records come together")
    consumer_busy_per_second: int = Field(200, ge=0, description="from so many records a second on a consumer is busy")
    consumer_fetch_bytes: int = Field(
        1, ge=1, description="where fewer bytes are there to be taken, more are waited for, for 0.1 s at most"
    )
    deadlines: Deadlines = Deadlines()
    retention: RetentionSettings = RetentionSettings()
    docs: bool = Field(True, description="serve OpenAPI and AsyncAPI pages")
    limits: LimitSettings = LimitSettings()
    clamd: str | None = Field(
        None, pattern=r"^(/.+|.+:\d+)$", description="virus scanner for photos: host:port, or the path of its socket"
    )
    clamd_required: bool = Field(True, description="without its verdict a photo is not taken (503)")
    cors_origins: list[str] = Field([], description="whose pages may read the API, such as https://lapor.example")

    @model_validator(mode="after")
    def _locks_are_whole(self) -> Self:
        for server in ("kafka", "mongo"):
            given = {
                name: getattr(self, f"{server}_{name}") for name in ("username", "password", "ca_file", "cert_file")
            }
            if (given["username"] is None) != (given["password"] is None):
                raise ValueError(f"{server}_username and {server}_password belong together: set both or neither")
            if (given["ca_file"] or given["cert_file"]) and not getattr(self, f"{server}_tls"):
                raise ValueError(f"{server}_ca_file and {server}_cert_file need {server}_tls")
        return self

    @property
    def topic_prefix(self) -> str:
        return f"{self.namespace}."

    def database(self, service: str) -> str:
        """The name of a service's own database."""
        return f"{self.namespace}_{service}"

    def group(self, service: str) -> str:
        """The name of a service's consumer group; its dead letters are in ``<group>.dlq``."""
        return f"{self.namespace}-{service}"


class FollowerSettings(ServiceSettings):
    """What a service is told that no desk waits for: it takes what has happened after the desks, and more at a time."""

    consumer_breath_seconds: Breath = Field(1.0, description="how long what comes is left to come together")
    consumer_busy_per_second: int = Field(20, ge=0, description="sooner than a desk, whose turn it is first")
    consumer_fetch_bytes: int = Field(
        2**16, ge=1, description="more than comes at once, so that a single record waits until a desk has taken it"
    )
