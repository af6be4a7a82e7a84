"""What the OpenAPI documents say beyond what the framework writes: just what can be sent, and all that can come back.

The framework describes an optional header or query parameter as "text or null"; there is no null in either, so a client
that is made from the document would send the word. The alternative is taken out.
"""

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

Json = dict[str, Any]

PHOTO_BODY: Json = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"type": "string", "format": "binary", "minLength": 1}}
            for kind in ("image/jpeg", "image/png", "image/webp")
        },
    }
}
"""``openapi_extra`` of a route whose body is a photo."""

PHOTO_ANSWER: Json = {
    "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
    "description": "the picture",
}
"""The 200 of a route that serves one."""

ZIP_ANSWER: Json = {
    "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    "description": "the archive",
}
"""The 200 of a route that gives a zip."""

TEXT_ANSWER: Json = {
    "content": {"text/plain": {"schema": {"type": "string"}}},
    "description": "Prometheus' text format",
}


def mended(document: Json) -> Json:
    """The document, in place, without a null where none can be sent."""
    for operation in (operation for methods in document["paths"].values() for operation in methods.values()):
        for parameter in operation.get("parameters", ()):
            kinds = parameter["schema"].get("anyOf", ())
            written = [kind for kind in kinds if kind != {"type": "null"}]
            if len(written) == 1 and len(kinds) == 2:
                del parameter["schema"]["anyOf"]
                parameter["schema"] |= written[0]
    return document


def allowed(routes: Iterable[BaseRoute], scope: Scope) -> str:
    """The methods of all routes that a path has, for ``Allow``: the framework names those of the first only."""
    methods: set[str] = set()
    for route in routes:
        inner = getattr(route, "original_router", None)
        if isinstance(inner, APIRouter):
            methods.update(filter(None, allowed(inner.routes, scope).split(", ")))
        elif route.matches(scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return ", ".join(sorted(methods))
