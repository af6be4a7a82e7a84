"""What the OpenAPI documents offer to send: every operation with every parameter and every field of its body."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import httpx

Json = dict[str, Any]
FieldPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """One route as its document shows it. ``body`` is a body that fits, made of the document's examples; None without
    a JSON body. ``fields`` are the places in it where a value stands, with their schemas."""

    service: str
    method: str
    path: str
    query: tuple[Json, ...]
    headers: tuple[str, ...]
    body: Any
    fields: tuple[tuple[FieldPath, Json], ...] = field(repr=False)
    answers: Json = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.service} {self.method.upper()} {self.path}"

    def with_value(self, at: FieldPath, value: Any) -> Any:
        """The body with another value at a place."""
        body: Any = deepcopy(self.body)
        inner = body
        for step in at[:-1]:
            inner = inner[step]
        inner[at[-1]] = value
        return body


async def operations(service: str, url: str) -> list[Operation]:
    """All operations of a running service."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        document: Json = (await client.get("/openapi.json")).json()
    return [
        _operation(service, document, method, path, said)
        for path, methods in document["paths"].items()
        for method, said in methods.items()
    ]


def _operation(service: str, document: Json, method: str, path: str, said: Json) -> Operation:
    parameters: list[Json] = said.get("parameters", [])
    content: Json = said.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema")
    body = _sample(document, schema) if schema else None
    return Operation(
        service,
        method,
        path,
        tuple(parameter for parameter in parameters if parameter["in"] == "query"),
        tuple(parameter["name"] for parameter in parameters if parameter["in"] == "header"),
        body,
        tuple(_fields(document, schema, body)) if schema else (),
        said["responses"],
    )


def _resolved(document: Json, schema: Json) -> Json:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    for kind in schema.get("anyOf", ()):
        if kind.get("type") != "null":
            return {**_resolved(document, kind), **{k: v for k, v in schema.items() if k != "anyOf"}}
    return schema


def _sample(document: Json, schema: Json) -> Any:
    schema = _resolved(document, schema)
    if schema.get("examples"):
        return deepcopy(schema["examples"][0])
    if "properties" in schema:
        return {name: _sample(document, part) for name, part in schema["properties"].items()}
    if "enum" in schema or "const" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    kind = schema.get("type")
    if kind == "array":
        return [_sample(document, schema["items"])]
    if kind == "string":
        return "0" * 64 if "{64}" in schema.get("pattern", "") else "x" * max(schema.get("minLength", 0), 10)
    return {"integer": 1, "number": 1.0, "boolean": True, "object": {}}.get(str(kind))


def _fields(document: Json, schema: Json, body: Any, at: FieldPath = ()) -> Iterator[tuple[FieldPath, Json]]:
    schema = _resolved(document, schema)
    if at:
        yield at, schema
    if isinstance(body, dict):
        for name, value in body.items():
            yield from _fields(document, schema.get("properties", {}).get(name, {}), value, (*at, name))
    elif isinstance(body, list) and body:
        yield from _fields(document, schema.get("items", {}), body[0], (*at, 0))
