"""Events as Kafka records: the only place where the one becomes the other.

CloudEvents 1.0 in Kafka binary mode (CloudEvents Kafka binding, section 3.2): attributes in ``ce_*`` headers, plain
JSON as the value, the complaint's id as the key. Where a request led to the event, W3C's ``traceparent`` names it: its
trace id is in that service's log lines and was the answer's ``x-trace-id``.
"""

from collections.abc import Iterable, Mapping, Sequence

from pydantic import ValidationError

from shared.events import EVENTS, ChainEvent, ContactErased, Event
from shared.telemetry import trace_id

Headers = Sequence[tuple[str, bytes]]


class Malformed(Exception):
    """A record that is not a valid event; the text says why. It goes to the dead letters."""


def event_type(model: type[Event]) -> str:
    """The CloudEvents type: the topic and the contract's major version."""
    return f"lapor.{model.topic}.v1"


def headers_of(event: Event, source: str, traceparent: str | None = None) -> list[tuple[str, bytes]]:
    """The CloudEvents attributes of a record, and the W3C trace context if there is one."""
    attributes = {
        "ce_specversion": "1.0",
        "ce_id": event.id,
        "ce_type": event_type(type(event)),
        "ce_source": f"/lapor/{source}",
        "ce_subject": event.key,
        "ce_time": event.occurred_at.isoformat(),
        "content-type": "application/json",
    }
    if traceparent:
        attributes["traceparent"] = traceparent
    return [(name, value.encode()) for name, value in attributes.items()]


def trace_of(headers: Iterable[tuple[str, bytes]]) -> str | None:
    """The id of the trace that a record belongs to, whoever sent it; None if it names none."""
    return trace_id(next((value for name, value in headers if name == "traceparent"), None))


def value_of(event: Event) -> bytes | None:
    """The value of an event's record; None for the one that takes a citizen's contacts away."""
    return None if isinstance(event, ContactErased) else event.model_dump_json().encode()


def from_record(topic: str, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]]) -> Event:
    """The event in a Kafka record; ``topic`` without the namespace. Raises `Malformed` with the reason."""
    model = EVENTS.get(topic)
    if model is None:
        raise Malformed(f"no event is published to topic {topic!r}")
    attributes: Mapping[str, bytes] = dict(headers)
    if attributes.get("ce_type") != event_type(model).encode():
        raise Malformed(f"header ce_type is {attributes.get('ce_type')!r}, expected {event_type(model)!r}")
    try:
        if value is None and topic == ContactErased.topic:
            event: Event = _erased(key, attributes)
        else:
            event = model.model_validate_json(value or b"")
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'value'}: {e['msg']}" for e in error.errors()[:5])
        raise Malformed(faults) from None
    if attributes.get("ce_id") != event.id.encode():
        raise Malformed(f"header ce_id is {attributes.get('ce_id')!r}, the event's id is {event.id!r}")
    if key != event.key.encode():
        raise Malformed(f"the record's key is {key!r}, expected {event.key!r}")
    if isinstance(event, ChainEvent) and event.id != ChainEvent.chain_id(event.complaint_id, event.seq):
        raise Malformed(f"id {event.id!r} is not complaint_id:seq")
    return event


def _erased(key: bytes | None, attributes: Mapping[str, bytes]) -> ContactErased:
    """What a record without a value says, which is in its key and headers. Raises ValidationError."""
    told = {"id": attributes.get("ce_id"), "occurred_at": attributes.get("ce_time"), "citizen_id": key}
    return ContactErased.model_validate({name: text.decode() if text else None for name, text in told.items()})
