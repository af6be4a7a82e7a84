"""Principals on Kafka: their SCRAM credentials and access control lists, made to be exactly what the table says."""

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from deploy.access.rights import Principal, Right
from deploy.access.secrets_folder import Secret
from shared.settings import ServiceSettings

WAIT_SECONDS = 30.0
ITERATIONS = 8192
MECHANISM = "SCRAM-SHA-512"
_RESOURCES = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP}
_OPERATIONS = {"read": AclOperation.READ, "write": AclOperation.WRITE, "create": AclOperation.CREATE}


class KafkaRefused(Exception):
    """The brokers did not do it; the text has their reason."""


class KafkaAccess:
    """Changes users and rights, signed in as the administrator in the settings. Blocks; raises `KafkaRefused`."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._client = AdminClient(client_options(settings))

    def put(self, principals: Mapping[Principal, Secret]) -> None:
        """Make the principals with these secrets, and give them their rights; rights that they had besides are taken
        away."""
        credentials = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
        _done(
            self._client.alter_user_scram_credentials(
                [
                    UserScramCredentialUpsertion(secret.username, credentials, secret.password.encode())
                    for secret in principals.values()
                ]
            )
        )
        for principal in principals:
            wanted = {_binding(principal.name, right) for right in principal.kafka}
            present = set(self._bindings(principal.name))
            if missing := sorted(wanted - present):
                _done(self._client.create_acls(missing, request_timeout=WAIT_SECONDS))
            if surplus := present - wanted:
                filters = [_exactly(binding) for binding in surplus]
                _done(self._client.delete_acls(filters, request_timeout=WAIT_SECONDS))

    def remove(self, principal: Principal) -> None:
        """Take away a principal and all its rights. Connections that it has open may do nothing more."""
        _done(self._client.delete_acls([_all_of(principal.name)], request_timeout=WAIT_SECONDS))
        deletion = UserScramCredentialDeletion(principal.name, ScramMechanism.SCRAM_SHA_512)
        _done(self._client.alter_user_scram_credentials([deletion]))

    def _bindings(self, name: str) -> list[AclBinding]:
        try:
            found: list[AclBinding] = self._client.describe_acls(_all_of(name), request_timeout=WAIT_SECONDS).result()
        except KafkaException as error:
            raise KafkaRefused(str(error)) from error
        return found


def client_options(settings: ServiceSettings) -> dict[str, Any]:
    """The settings in librdkafka's terms."""
    options: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap,
        "socket.timeout.ms": int(WAIT_SECONDS * 1000),
        "security.protocol": "PLAINTEXT",
    }
    if settings.kafka_tls:
        options["security.protocol"] = "SSL"
        files = {"ca": settings.kafka_ca_file, "certificate": settings.kafka_cert_file}
        files["key"] = settings.kafka_key_file or settings.kafka_cert_file
        options |= {f"ssl.{name}.location": str(path) for name, path in files.items() if path}
    if settings.kafka_username is not None and settings.kafka_password is not None:
        options |= {
            "security.protocol": "SASL_SSL" if settings.kafka_tls else "SASL_PLAINTEXT",
            "sasl.mechanism": settings.kafka_mechanism,
            "sasl.username": settings.kafka_username,
            "sasl.password": settings.kafka_password.get_secret_value(),
        }
    return options


def _binding(name: str, right: Right) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED if right.prefixed else ResourcePatternType.LITERAL
    return AclBinding(
        _RESOURCES[right.resource],
        right.name,
        pattern,
        f"User:{name}",
        "*",
        _OPERATIONS[right.operation],
        AclPermissionType.ALLOW,
    )


def _all_of(name: str) -> AclBindingFilter:
    return AclBindingFilter(
        ResourceType.ANY,
        None,
        ResourcePatternType.ANY,
        f"User:{name}",
        None,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )


def _exactly(binding: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        binding.restype,
        binding.name,
        binding.resource_pattern_type,
        binding.principal,
        binding.host,
        binding.operation,
        binding.permission_type,
    )


def _done(futures: Mapping[Any, Any]) -> None:
    for future in futures.values():
        try:
            future.result(WAIT_SECONDS)
        except KafkaException as error:
            raise KafkaRefused(str(error)) from error
