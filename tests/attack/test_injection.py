"""Operators of the database's query language in every parameter: they are refused, or they are text like any other, and
never find more than such a text does."""

import base64
import json
import re
from typing import Any
from urllib.parse import quote

import pytest
from pymongo import MongoClient

from deploy.demo.people import Person
from deploy.demo.target import Target
from shared.sop import Role
from tests.attack.conftest import FULL, World
from tests.attack.operations import Operation, operations

OBJECTS: tuple[Any, ...] = (
    {"$ne": None},
    {"$gt": ""},
    {"$regex": ".*"},
    {"$where": "return true"},
    {"$in": [None, ""]},
    [{"$ne": None}],
    {"$expr": {"$eq": [1, 1]}},
)
TEXTS: tuple[str, ...] = (
    '{"$ne": null}',
    '{"$gt": ""}',
    "$where",
    "$ne",
    "'; return true; var x='",
    "\\x00",
    ".*",
    "$$ROOT",
    "a.b.$[].c",
    "\u0000",
    "' || '1'=='1",
)
if not FULL:
    OBJECTS, TEXTS = OBJECTS[:3], TEXTS[:5]
SERVICES = {
    "intake": (Role.CITIZEN, Role.REGIONAL_OPERATOR),
    "routing": (Role.CENTRAL_OPERATOR, Role.REGIONAL_OPERATOR, Role.COORDINATOR, Role.ADMIN),
    "opd": (Role.AGENCY_OPERATOR,),
    "notify": (Role.CITIZEN, Role.COORDINATOR),
    "sla": (Role.COORDINATOR, Role.AGENCY_OPERATOR),
}


def address(operation: Operation, value: str) -> str:
    """The path with a value for each of its parts that can be chosen."""
    return re.sub(r"\{.*?\}", quote(value, safe=""), operation.path)


def found(answer: Any) -> int:
    """How many rows an answer has."""
    content = answer.json() if "json" in answer.headers["content-type"] else None
    items = content.get("items") if isinstance(content, dict) else content
    return len(items) if isinstance(items, list) else 0


@pytest.mark.parametrize(("service", "role"), [(s, role) for s, roles in SERVICES.items() for role in roles])
async def test_operators_in_query_and_path_find_no_more_than_text_does(world: World, service: str, role: Role) -> None:
    wrong: list[str] = []
    tried = 0
    async with world.client(service, role) as client:
        for operation in await operations(service, world.urls[service]):
            if operation.method != "get" or "/v1/" not in operation.path:
                continue
            path = address(operation, world.cases["assigned"]["complaint_id"])
            whole = await client.get(path)
            for parameter in operation.query:
                name = parameter["name"]
                for text in TEXTS:
                    answer = await client.get(path, params={name: text})
                    tried += 1
                    if answer.status_code >= 500 or (answer.status_code == 200 and found(answer) > 0):
                        wrong.append(f"{operation.name} {name}={text!r}: {answer.status_code} {answer.text[:200]}")
                for operator in ("$ne", "$gt", "$regex", "$where"):
                    answer = await client.get(path, params={f"{name}[{operator}]": ""})
                    tried += 1
                    if answer.status_code != whole.status_code or found(answer) != found(whole):
                        wrong.append(f"{operation.name} {name}[{operator}]: {answer.status_code}")
            if "{" in operation.path:
                for text in TEXTS:
                    answer = await client.get(address(operation, text))
                    tried += 1
                    if answer.status_code not in (401, 403, 404, 422):
                        wrong.append(f"{operation.name} with {text!r}: {answer.status_code}")
    assert wrong == []
    assert tried > 20


@pytest.mark.parametrize(("service", "role"), [(s, role) for s, roles in SERVICES.items() for role in roles])
async def test_operators_in_bodies_are_refused_or_stored_as_text(world: World, service: str, role: Role) -> None:
    wrong: list[str] = []
    async with world.client(service, role) as client:
        for operation in await operations(service, world.urls[service]):
            if operation.body is None:
                continue
            path = address(operation, "DINASUJI" if "{code}" in operation.path else "0" * 32)
            for at, schema in operation.fields:
                free = schema.get("type") in ("object", "array") or not schema
                for value in (*OBJECTS, *TEXTS):
                    answer = await client.request(operation.method, path, json=operation.with_value(at, value))
                    named = f"{operation.name} {at}={value!r}: {answer.status_code} {answer.text[:200]}"
                    refused = answer.status_code in (401, 403, 404, 409, 422)
                    if (
                        answer.status_code >= 500
                        or (not isinstance(value, str) and not free and not refused)
                        or (answer.status_code == 200 and "access_token" in answer.text)
                    ):
                        wrong.append(named)
    assert wrong == []
    assert operators_in_names(world.target) == []


def operators_in_names(target: Target) -> list[str]:
    """The fields of all stored documents whose names begin with ``$`` or hold a dot."""

    def within(value: Any, where: str) -> list[str]:
        if isinstance(value, dict):
            own = [f"{where}.{key}" for key in value if str(key).startswith("$") or "." in str(key)]
            return own + [name for key, inner in value.items() for name in within(inner, f"{where}.{key}")]
        if isinstance(value, list):
            return [name for inner in value for name in within(inner, where)]
        return []

    with MongoClient[dict[str, Any]](target.mongo_url) as client:
        return [
            name
            for service in target.urls
            for collection in client[f"{target.namespace}_{service}"].list_collection_names()
            if not collection.startswith("system.")
            for document in client[f"{target.namespace}_{service}"][collection].find()
            for name in within(document, f"{service}.{collection}")
        ]


async def test_operators_do_not_sign_in_or_follow_a_complaint(world: World) -> None:
    receipt = world.cases["submitted"]
    async with world.client("intake") as client:
        for value in (*OBJECTS, *TEXTS):
            login = await client.post("/v1/tokens", json={"login": value, "password": value})
            assert login.status_code in (401, 422), login.text
            for body in (
                {"number": value, "tracking_code": receipt["tracking_code"]},
                {"number": receipt["number"], "tracking_code": value},
            ):
                answer = await client.post("/v1/tracking", json=body)
                assert answer.status_code in (404, 422), answer.text
        right = {"number": receipt["number"], "tracking_code": receipt["tracking_code"]}
        assert (await client.post("/v1/tracking", json=right)).status_code == 200


async def test_a_forged_cursor_holds_no_operator_and_opens_no_other_list(world: World, stranger: Person) -> None:
    def cursor(**content: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    forged = [cursor(value=value, id="0") for value in (*OBJECTS, None, {"$date": 0}, [1])]
    forged += [cursor(value="x", id=value) for value in (*OBJECTS, None, 5)]
    forged += [cursor(at="$ne", id="0"), cursor(at={"$gt": 0}, id="0"), cursor(value=10**40, id="0"), "%00", "e30"]
    lists = {
        ("intake", Role.CITIZEN): ("/v1/complaints", "/v1/me/accesses"),
        ("routing", Role.COORDINATOR): ("/v1/cases", "/v1/informed"),
        ("opd", Role.AGENCY_OPERATOR): ("/v1/work",),
        ("notify", Role.COORDINATOR): ("/v1/inbox", "/v1/deliveries"),
        ("sla", Role.COORDINATOR): ("/v1/overdue",),
    }
    for (service, role), paths in lists.items():
        async with world.client(service, role) as client:
            for path in paths:
                for text in forged:
                    answer = await client.get(path, params={"cursor": text})
                    assert answer.status_code == 422, f"{service} {path} {text}: {answer.text}"
    well_formed = cursor(at="9999-01-01T00:00:00+00:00", id="")
    page = await stranger.get("intake", "/v1/complaints", cursor=well_formed)
    assert page["items"] == [], "a cursor says where to go on, never in whose list"
