"""The contract as it was agreed: JSON Schemas of the events and AsyncAPI documents of the services, kept as files.

``python -m tests.golden`` writes them anew after a compatible change; review what it changed before committing it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.intake import projection as intake
from services.notify import projection as notify
from services.opd import projection as opd
from services.routing import projection as routing
from services.sla import projection as sla
from shared import asyncapi
from shared.events import EVENTS

ROOT = Path(__file__).parents[1]
EVENT_SCHEMAS = ROOT / "tests" / "contract" / "golden"
ASYNCAPI = ROOT / "docs" / "asyncapi"
SERVICES = {"intake": intake, "routing": routing, "opd": opd, "notify": notify, "sla": sla}


def documents() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each file and what must stand in it now."""
    for topic, model in EVENTS.items():
        yield EVENT_SCHEMAS / f"{topic}.json", model.model_json_schema(mode="serialization")
    for name, projection in SERVICES.items():
        yield ASYNCAPI / f"{name}.json", asyncapi.document(name, projection.CONSUMES, projection.ISSUES)


def as_text(document: dict[str, Any]) -> str:
    """A document as it is kept: sorted, so that differences are those of content."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for path, document in documents():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(as_text(document), encoding="utf-8")
