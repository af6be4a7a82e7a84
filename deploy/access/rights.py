"""The table of rights: what each principal may do on Kafka and MongoDB. Nothing else is allowed to it.

It is derived from what the services declare (``CONSUMES`` and ``ISSUES`` of each ``projection.py``, and what
`shared.contract.Contract` adds for all) and from the names in ``shared``; there is no second list. Reading
and writing include describing, as Kafka has it.
"""

from dataclasses import dataclass
from typing import Literal

from services.intake import projection as intake
from services.notify import projection as notify
from services.opd import projection as opd
from services.routing import projection as routing
from services.sla import projection as sla
from shared.agency_feed import AGENCY_TOPICS, agency_topic
from shared.contract import Contract
from shared.events import EVENTS, Assigned
from shared.settings import ServiceSettings
from shared.topics import dead_letters

WITNESS = "witness"
"""Reads every topic and every service's database, and writes nothing: the demo's, or an auditor's."""

DECLARED = {
    name: Contract(consumes=declared.CONSUMES, issues=declared.ISSUES)
    for name, declared in {"intake": intake, "routing": routing, "opd": opd, "notify": notify, "sla": sla}.items()
}


@dataclass(frozen=True, slots=True)
class Right:
    """One operation on a topic or consumer group of Kafka; ``prefixed``: on all whose names begin so."""

    resource: Literal["topic", "group"]
    name: str
    operation: Literal["read", "write", "create"]
    prefixed: bool = False


@dataclass(frozen=True, slots=True)
class Role:
    """A role of MongoDB (``read`` or ``readWrite``, which includes the making of indexes) in one database."""

    name: Literal["read", "readWrite"]
    database: str


@dataclass(frozen=True, slots=True)
class Principal:
    """``name`` is the user's name on Kafka and on MongoDB."""

    name: str
    kafka: frozenset[Right]
    mongo: tuple[Role, ...] = ()


def of_service(settings: ServiceSettings, service: str) -> Principal:
    """A service: its topics, its group, its dead letters, its database. It writes its dead letters and reads none: to
    look at them is an operator's work. Who issues assignments makes and feeds the agencies' topics."""
    declared, group, prefix = DECLARED[service], settings.group(service), settings.topic_prefix
    rights = {Right("topic", prefix + topic, "read") for topic in declared.consumes}
    rights |= {Right("topic", prefix + topic, "write") for topic in declared.publishes}
    rights |= {Right("group", group, "read"), Right("topic", dead_letters(group), "write")}
    if Assigned.topic in declared.issues:
        agencies = prefix + AGENCY_TOPICS
        rights |= {Right("topic", agencies, "write", prefixed=True), Right("topic", agencies, "create", prefixed=True)}
    return Principal(group, frozenset(rights), (Role("readWrite", settings.database(service)),))


def of_agency(settings: ServiceSettings, code: str) -> Principal:
    """An agency's own system: reads its own topic, in groups called like itself, with or without a dot and more behind
    (no code has a dot, so no agency's groups are another's). It has no database."""
    name = f"{settings.namespace}-agency-{code}"
    rights = {
        Right("topic", settings.topic_prefix + agency_topic(code), "read"),
        Right("group", name, "read"),
        Right("group", f"{name}.", "read", prefixed=True),
    }
    return Principal(name, frozenset(rights))


def of_witness(settings: ServiceSettings) -> Principal:
    """Reads all and is in no group."""
    rights = {Right("topic", settings.topic_prefix + topic, "read") for topic in EVENTS}
    databases = [Role("read", settings.database(service)) for service in DECLARED]
    return Principal(f"{settings.namespace}-{WITNESS}", frozenset(rights), tuple(databases))


def of_installation(settings: ServiceSettings) -> dict[str, Principal]:
    """The principals that every installation has, by short name: each service, and the witness."""
    return {service: of_service(settings, service) for service in DECLARED} | {WITNESS: of_witness(settings)}
