"""What Kafka refuses a service, in words: clients of it keep that to themselves and try again for ever.

aiokafka's clients say of a wrong password only that no broker could be reached, and a consumer that may not read its
topics or use its group waits without a word. So a service asks by a connection of its own.
"""

import asyncio
import ssl
from collections.abc import Sequence

from aiokafka.conn import AIOKafkaConnection, collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.metadata import MetadataRequest

from shared.connections import kafka_options
from shared.settings import ServiceSettings

_WAIT_SECONDS = 5.0
_AGAIN_SECONDS = 1.0
_SIGN_IN = (
    AuthenticationFailedError,
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)


class Refused(Exception):
    """A server is there and does not let this service do its work; the text says what to mend."""


async def kafka_refusal(settings: ServiceSettings, topics: Sequence[str], group: str) -> str:
    """What is refused of ``topics`` (full names) and ``group``; empty where nothing is, or nobody is there to ask."""
    for _ in range(2):
        refusal, closed = await _look(settings, topics, group)
        if refusal or not closed:
            return refusal
        await asyncio.sleep(_AGAIN_SECONDS)  # a broker that ends closes its connections too, but then takes no new ones
    return "Kafka closes the connection of who does not sign in: kafka_username is not set"


async def _look(settings: ServiceSettings, topics: Sequence[str], group: str) -> tuple[str, bool]:
    """What is refused, and whether the brokers take connections that do not sign in only to close them."""
    who, closed = settings.kafka_username or "nobody", False
    for host, port, _ in collect_hosts(settings.kafka_bootstrap):
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                connection = await create_conn(host, port, **kafka_options(settings))
        except _SIGN_IN as error:
            return f"Kafka refuses this principal ({who}): {error}", False
        except ssl.SSLError as error:
            return f"Kafka's certificate is not accepted, or it does not speak TLS: {error}", False
        except (KafkaError, TimeoutError, OSError):
            continue
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                return await _asked(connection, topics, group, who), False
        except TimeoutError:
            continue
        except (KafkaError, OSError):
            closed = settings.kafka_username is None
        finally:
            connection.close()
    return "", closed


async def _asked(connection: AIOKafkaConnection, topics: Sequence[str], group: str, who: str) -> str:
    metadata = await connection.send(MetadataRequest(list(topics), allow_auto_topic_creation=False))
    refused = sorted(name for code, name, *_ in metadata.topics if code == TopicAuthorizationFailedError.errno)
    coordinator = await connection.send(FindCoordinatorRequest(group, 0))
    if coordinator.error_code == GroupAuthorizationFailedError.errno:
        refused.append(f"the group {group}")
    return f"Kafka refuses this principal ({who}): {', '.join(refused)}" if refused else ""
