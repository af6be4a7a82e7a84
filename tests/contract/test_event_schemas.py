"""What agency systems build on does not change under them: the events' schemas against the files that were agreed."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from shared.events import EVENTS
from tests import golden

Schema = dict[str, Any]


def breaks(old: Schema, new: Schema) -> list[str]:
    """Why a reader of the old schema could fail on what the new one describes; empty if it cannot."""
    return list(_breaks(old, new, old.get("$defs", {}), new.get("$defs", {}), "event"))


def _breaks(old: Schema, new: Schema, old_defs: Schema, new_defs: Schema, at: str) -> list[str]:
    if "$ref" in old and "$ref" in new:
        old, new = old_defs[old["$ref"].split("/")[-1]], new_defs[new["$ref"].split("/")[-1]]
    found = [
        f"{at}: {key} was {old[key]!r}, is {new.get(key)!r}"
        for key in ("type", "format", "pattern", "const")
        if old.get(key) != new.get(key)
    ]
    if set(new.get("enum", ())) - set(old.get("enum", ())) or ("enum" in old) != ("enum" in new):
        found.append(f"{at}: new values {sorted(set(new.get('enum', ())) ^ set(old.get('enum', ())))}")
    if len(old.get("anyOf", ())) != len(new.get("anyOf", ())):
        found.append(f"{at}: other alternatives")
    for i, (before, after) in enumerate(zip(old.get("anyOf", ()), new.get("anyOf", ()), strict=False)):
        found += _breaks(before, after, old_defs, new_defs, f"{at}|{i}")
    if "items" in old:
        found += _breaks(old["items"], new.get("items", {}), old_defs, new_defs, f"{at}[]")
    for name, before in old.get("properties", {}).items():
        if name not in new.get("properties", {}):
            found.append(f"{at}.{name}: removed")
        else:
            found += _breaks(before, new["properties"][name], old_defs, new_defs, f"{at}.{name}")
    found += [
        f"{at}.{name}: no longer always there" for name in set(old.get("required", ())) - set(new.get("required", ()))
    ]
    return found


def kept(path: Path) -> Schema:
    content: Schema = json.loads(path.read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("topic", EVENTS)
def test_an_event_stays_readable(topic: str) -> None:
    agreed = kept(golden.EVENT_SCHEMAS / f"{topic}.json")
    assert breaks(agreed, EVENTS[topic].model_json_schema(mode="serialization")) == []


@pytest.mark.parametrize(("path", "document"), list(golden.documents()), ids=lambda value: getattr(value, "name", ""))
def test_every_change_is_recorded(path: Path, document: Schema) -> None:
    assert path.exists(), f"new in the contract: write it down with `python -m tests.golden` ({path.name})"
    assert path.read_text(encoding="utf-8") == golden.as_text(document), "record it with `python -m tests.golden`"


def test_no_event_is_forgotten() -> None:
    assert {path.stem for path in golden.EVENT_SCHEMAS.glob("*.json")} == set(EVENTS)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: s["properties"].pop("agency"), "event.agency: removed"),
        (lambda s: s["properties"]["seq"].update(type="string"), "event.seq: type was 'integer', is 'string'"),
        (lambda s: s["required"].remove("number"), "event.number: no longer always there"),
        (lambda s: s["$defs"]["Report"]["properties"].pop("title"), "event.report.title: removed"),
        (lambda s: s["$defs"]["Role"]["enum"].append("mayor"), "event.actor.role: new values ['mayor']"),
    ],
)
def test_the_check_sees_what_would_break_a_reader(change: Any, expected: str) -> None:
    agreed = kept(golden.EVENT_SCHEMAS / "complaint.assigned.json")
    changed = copy.deepcopy(agreed)
    change(changed)
    assert expected in breaks(agreed, changed)


def test_a_new_field_breaks_nobody() -> None:
    agreed = kept(golden.EVENT_SCHEMAS / "complaint.assigned.json")
    wider = copy.deepcopy(agreed)
    wider["properties"]["hint"] = {"type": "string"}
    assert breaks(agreed, wider) == []
