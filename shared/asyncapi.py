"""A service's AsyncAPI 3 document: what it takes from which topic and what it issues, made by FastStream from the event
models.

The broker here is a description only; it is never connected. The real subscriber takes raw batches (`shared.consumer`).
"""

from collections.abc import Sequence
from typing import Any

from faststream.kafka import KafkaBroker
from faststream.specification import AsyncAPI

from shared import agency_feed
from shared.agency_feed import agency_topic
from shared.events import EVENTS, Assigned

_BINDING = (
    "CloudEvents 1.0 in Kafka binary mode; the key is the complaint's id. "
    "A header traceparent (W3C Trace Context) names the request that led to the event, if one did."
)
_AGENCIES = "issue.agency.assigned"


def document(service: str, consumes: Sequence[str], issues: Sequence[str], prefix: str = "lapor.") -> dict[str, Any]:
    """The AsyncAPI document of one service; topics without the namespace's prefix."""
    broker = KafkaBroker("kafka:9092", description=_BINDING)
    for topic in consumes:
        model = EVENTS[topic]

        async def take(event: Any) -> None: ...

        take.__annotations__["event"] = model
        broker.subscriber(prefix + topic, title=f"take.{topic}", description=model.__doc__)(take)
    for topic in issues:
        broker.publisher(
            prefix + topic, schema=EVENTS[topic], title=f"issue.{topic}", description=EVENTS[topic].__doc__
        )
    feeding = Assigned.topic in issues
    if feeding:
        address = prefix + agency_topic("{code}")
        broker.publisher(address, schema=Assigned, title=_AGENCIES, description=agency_feed.__doc__)
    made = AsyncAPI(
        broker, title=f"LAPOR! Pontianak: {service}", version="1.0.0", schema_version="3.0.0"
    ).to_specification()
    content: dict[str, Any] = made.to_jsonable()
    if feeding:
        content["channels"][_AGENCIES]["parameters"] = {
            "code": {"description": "the agency's code, as in the directory", "examples": ["DPUPR"]}
        }
    return content
