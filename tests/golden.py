"""Records the event contract and the services' AsyncAPI documents, which tests compare: ``python -m tests.golden``."""

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared import asyncapi
from shared.contract import Contract
from shared.events import EVENTS, Event
from shared.topics import SERVICES
from tests.support.compatibility import Schema, incompatibilities

ROOT = Path(__file__).parents[1]
SCHEMAS = ROOT / "tests" / "contract" / "golden"
DOCUMENTS = ROOT / "docs" / "asyncapi"
COMMAND = "python -m tests.golden"


def schema_of(model: type[Event]) -> Schema:
    """An event's JSON Schema, without the words that bind nobody (titles, descriptions)."""
    bare: Schema = _bare(model.model_json_schema())
    return bare


def _bare(part: Any) -> Any:
    if isinstance(part, list):
        return [_bare(item) for item in part]
    if not isinstance(part, dict):
        return part
    return {
        name: {field: _bare(value) for field, value in item.items()} if name in ("properties", "$defs") else _bare(item)
        for name, item in part.items()
        if name not in ("title", "description")
    }


def document_of(service: str) -> dict[str, Any]:
    """A service's AsyncAPI document, in the default namespace."""
    own = importlib.import_module(f"services.{service}.projection")
    return asyncapi.document(service, own.CONSUMES, Contract(own.CONSUMES, own.ISSUES).publishes)


def read(path: Path) -> dict[str, Any] | None:
    """What was recorded; None if nothing was."""
    recorded: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    return recorded


def main(arguments: Sequence[str] | None = None) -> int:
    """Record what is now. An incompatible change needs ``--incompatible``, and a new major version of its ce_type."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--incompatible", action="store_true", help="record changes that break readers, too")
    allowed: bool = parser.parse_args(arguments).incompatible
    faults: list[str] = []
    for topic, model in EVENTS.items():
        path, schema = SCHEMAS / f"{topic}.json", schema_of(model)
        broken = incompatibilities(read(path) or schema, schema)
        faults += [f"{topic}: {fault}" for fault in broken]
        if not broken or allowed:
            _write(path, schema)
    for path in SCHEMAS.glob("*.json"):
        if path.stem not in EVENTS:
            faults.append(f"{path.stem}: the topic is gone")
            if allowed:
                path.unlink()
    for service in SERVICES:
        _write(DOCUMENTS / f"{service}.json", document_of(service))
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults and not allowed else 0


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n")


if __name__ == "__main__":
    sys.exit(main())
