"""How the clients of Kafka and MongoDB sign in, and how they check whom they talk to: the settings as the clients'
options. Without a user name nothing signs in; without TLS nothing is encrypted. And what aiokafka lacks on uvloop."""

import ssl
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError
from faststream.kafka.security import parse_security
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from shared.settings import ServiceSettings

_SASL = {"SCRAM-SHA-512": SASLScram512, "SCRAM-SHA-256": SASLScram256, "PLAIN": SASLPlaintext}


def kafka_security(settings: ServiceSettings) -> BaseSecurity:
    """Sign-in and encryption in FastStream's terms. Raises OSError or ssl.SSLError for a file that is no certificate or
    key."""
    context = _tls(settings)
    if settings.kafka_username is None or settings.kafka_password is None:
        return BaseSecurity(ssl_context=context)
    password = settings.kafka_password.get_secret_value()
    return _SASL[settings.kafka_mechanism](settings.kafka_username, password, ssl_context=context)


def kafka_options(settings: ServiceSettings) -> dict[str, Any]:
    """The same as keyword arguments of aiokafka's clients."""
    return parse_security(kafka_security(settings))


def _tls(settings: ServiceSettings) -> ssl.SSLContext | None:
    """What a client trusts (the system's authorities, or the one given), and what it shows of itself. The name in the
    broker's certificate must be the one that it was reached by."""
    if not settings.kafka_tls:
        return None
    context = ssl.create_default_context(cafile=settings.kafka_ca_file)
    if settings.kafka_cert_file:
        context.load_cert_chain(settings.kafka_cert_file, settings.kafka_key_file)
    return context


_send = AIOKafkaConnection.send


def kafka_on_uvloop() -> None:
    """Let aiokafka's clients of this process live through a connection that is reset. Repeating it does nothing.

    For a moment they take such a connection for whole and write to it, and where asyncio says nothing then, uvloop
    raises RuntimeError (aiokafka's issue 1038). It ended the task that keeps a client's metadata; from then on
    its consumer waited for ever for the group's coordinator: nothing was committed, and a shutdown had no end. This
    says KafkaConnectionError in its place, as for every other connection that is gone: they know what to do then.
    """
    AIOKafkaConnection.send = _send_if_open


def _send_if_open(connection: Any, request: Any, expect_response: bool = True) -> Any:
    if connection.connected() and connection._writer.is_closing():
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"the connection to {connection.host}:{connection.port} has just been lost")
    return _send(connection, request, expect_response)


def mongo_options(settings: ServiceSettings) -> dict[str, Any]:
    """Keyword arguments of MongoDB's clients. What the URL says besides them holds too."""
    options: dict[str, Any] = {}
    if settings.mongo_username is not None and settings.mongo_password is not None:
        options |= {
            "username": settings.mongo_username,
            "password": settings.mongo_password.get_secret_value(),
            "authSource": settings.mongo_auth_source,
            "authMechanism": "SCRAM-SHA-256",
        }
    if settings.mongo_tls:
        options["tls"] = True
        if settings.mongo_ca_file:
            options["tlsCAFile"] = str(settings.mongo_ca_file)
        if settings.mongo_cert_file:
            options["tlsCertificateKeyFile"] = str(settings.mongo_cert_file)
    return options
