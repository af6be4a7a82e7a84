"""The event contract does not change by accident: agency systems and five years of records depend on it."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from shared import events
from shared.events import CHAIN, EVENTS
from shared.records import event_type
from shared.sop import Transition
from shared.topics import SERVICES
from tests import golden
from tests.support.compatibility import Schema, incompatibilities
from tests.support.events import STRAIGHT, Chain

RECORD = f"a compatible change: record it with `{golden.COMMAND}`, and commit the files"


@pytest.mark.parametrize("topic", EVENTS)
def test_the_event_is_what_was_recorded(topic: str) -> None:
    recorded, present = golden.read(golden.SCHEMAS / f"{topic}.json"), golden.schema_of(EVENTS[topic])
    assert recorded is not None, f"a new event: record it with `{golden.COMMAND}`"
    assert incompatibilities(recorded, present) == [], "this breaks readers of the topic: it needs a new major version"
    assert present == recorded, RECORD


def test_no_recorded_event_has_gone() -> None:
    assert {path.stem for path in golden.SCHEMAS.glob("*.json")} == set(EVENTS)
    assert {event_type(model) for model in EVENTS.values()} == {f"lapor.{topic}.v1" for topic in EVENTS}


@pytest.mark.parametrize("service", SERVICES)
def test_the_asyncapi_document_is_what_was_recorded(service: str) -> None:
    recorded = golden.read(golden.DOCUMENTS / f"{service}.json")
    assert recorded is not None, f"record it with `{golden.COMMAND}`"
    assert json.loads(json.dumps(golden.document_of(service))) == recorded, f"record it with `{golden.COMMAND}`"
    assert recorded["asyncapi"] == "3.0.0"


def test_the_documents_name_every_topic_with_one_issuer() -> None:
    issued: list[str] = []
    for service in SERVICES:
        document = golden.read(golden.DOCUMENTS / f"{service}.json") or {}
        addresses = {name: channel["address"] for name, channel in document["channels"].items()}
        issued += [
            addresses[operation["channel"]["$ref"].rpartition("/")[2]]
            for operation in document["operations"].values()
            if operation["action"] == "send"
        ]
    anchors = [f"lapor.{events.AuditAnchored.topic}"] * (len(SERVICES) - 1)  # every service has an audit log
    assert sorted(issued) == sorted([*(f"lapor.{topic}" for topic in EVENTS), "lapor.agency.{code}.assigned", *anchors])


@pytest.mark.parametrize("transition", Transition)
def test_events_as_they_are_sent_fit_their_schema(transition: Transition) -> None:
    """What a subscriber in another language checks by."""
    model = CHAIN[transition]
    chain = Chain().through(*STRAIGHT[1:])
    event = chain.then(transition).last if transition not in STRAIGHT else chain.events[STRAIGHT.index(transition)]
    Draft202012Validator(golden.schema_of(model)).validate(json.loads(event.model_dump_json()))


def test_no_event_on_the_shared_topics_has_room_for_a_person() -> None:
    """No identity but opaque ids (UU PDP 27/2022); contacts and codes have restricted topics of their own."""
    personal = {"email", "phone", "nik", "address_of_reporter", "reporter_name", "full_name", "birth_date"}
    for topic, model in EVENTS.items():
        if model.topic not in events.RESTRICTED:
            assert not personal & set(_field_names(golden.schema_of(model))), topic


def _field_names(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [name for item in schema for name in _field_names(item)]
    if not isinstance(schema, dict):
        return []
    return [*schema.get("properties", {}), *(name for item in schema.values() for name in _field_names(item))]


def _rename(schema: Schema) -> None:
    schema["properties"]["remark"] = schema["properties"].pop("note")
    schema["required"] = ["remark" if name == "note" else name for name in schema["required"]]


INCOMPATIBLE: dict[str, Callable[[Schema], object]] = {
    "note is gone": lambda s: (s["properties"].pop("note"), s["required"].remove("note")),
    "remark is demanded": _rename,
    "weather is demanded": lambda s: (
        s["properties"].update(weather={"type": "string"}),
        s["required"].append("weather"),
    ),
    "note is no longer promised": lambda s: s["required"].remove("note"),
    "note can now be null": lambda s: s["properties"].update(note={"anyOf": [{"type": "string"}, {"type": "null"}]}),
    "seq can no longer be integer": lambda s: s["properties"].update(seq={"type": "string"}),
    "note has a narrower maxLength": lambda s: s["properties"]["note"].update(maxLength=10),
    "seq has a narrower minimum": lambda s: s["properties"]["seq"].update(minimum=2),
    "id has another pattern": lambda s: s["$defs"]["Photo"]["properties"]["id"].update(pattern="^x$"),
    "occurred_at has another format": lambda s: s["properties"]["occurred_at"].update(format="date"),
    "held_by no longer takes opd": lambda s: s["$defs"]["Photo"]["properties"]["held_by"].update(enum=["intake"]),
    "role no longer takes citizen": lambda s: s["$defs"]["Role"]["enum"].remove("citizen"),
    "role can now be auditor": lambda s: s["$defs"]["Role"]["enum"].append("auditor"),
    "note no longer takes any other value": lambda s: s["properties"]["note"].update(enum=["ok"]),
    "evidence[].width is gone": lambda s: s["$defs"]["Photo"]["properties"].pop("width"),
}

COMPATIBLE: dict[str, Callable[[Schema], object]] = {
    "a new optional field": lambda s: s["properties"].update(weather={"type": "string", "default": ""}),
    "a wider limit": lambda s: s["properties"]["seq"].update(minimum=0),
    "no pattern": lambda s: s["$defs"]["Photo"]["properties"]["id"].pop("pattern"),
    "another order": lambda s: s["required"].reverse(),
}


@pytest.mark.parametrize("fault", INCOMPATIBLE)
def test_changes_that_break_readers_are_found(fault: str) -> None:
    old = golden.schema_of(events.Documented)
    new = copy.deepcopy(old)
    INCOMPATIBLE[fault](new)
    assert any(fault in found for found in incompatibilities(old, new)), incompatibilities(old, new)


@pytest.mark.parametrize("change", COMPATIBLE)
def test_changes_that_break_nobody_pass_but_must_be_recorded(change: str) -> None:
    old = golden.schema_of(events.Documented)
    new = copy.deepcopy(old)
    COMPATIBLE[change](new)
    assert new != old
    assert incompatibilities(old, new) == []


def test_recording_refuses_what_breaks_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(golden, "SCHEMAS", tmp_path / "golden")
    monkeypatch.setattr(golden, "DOCUMENTS", tmp_path / "asyncapi")
    assert golden.main([]) == 0
    path = tmp_path / "golden" / "complaint.closed.json"
    schema = json.loads(path.read_text())
    schema["properties"]["thanks"] = {"type": "string"}
    path.write_text(json.dumps(schema))
    assert golden.main([]) == 1
    assert "complaint.closed: event.thanks is gone" in capsys.readouterr().err
    assert json.loads(path.read_text()) == schema, "nothing was recorded over it"
    assert golden.main(["--incompatible"]) == 0
    assert golden.read(path) == golden.schema_of(events.Closed)
