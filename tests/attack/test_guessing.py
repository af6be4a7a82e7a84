"""Whether somebody or something exists is told neither by the answer nor by how long it takes."""

import asyncio
import random
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from pymongo import AsyncMongoClient

from deploy.demo.people import Person
from services.intake.number import new_number
from shared.events import new_id
from shared.sop import Role
from tests.attack.conftest import FULL, SEED, World

ROUNDS = 300 if FULL else 60

Ask = Callable[[], Awaitable[httpx.Response]]


async def nothing() -> None:
    """What comes before a question by itself."""


async def medians(
    one: Ask, other: Ask, rounds: int, before: Callable[[], Awaitable[None]] = nothing
) -> tuple[float, float, float]:
    """Milliseconds that two questions take at the median, asked in turn and in a shuffled order; and the spread of one
    of them: the difference between the medians of its own two halves."""
    draw = random.Random(SEED)
    took: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(rounds):
        for which in draw.sample((0, 1), 2):
            await before()
            began = time.perf_counter()
            await (one, other)[which]()
            took[which].append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(0.002)
    halves = took[0][::2], took[0][1::2]
    noise = abs(statistics.median(halves[0]) - statistics.median(halves[1]))
    return statistics.median(took[0]), statistics.median(took[1]), noise


def same(one: httpx.Response, other: httpx.Response) -> None:
    """Fails if the answers differ in anything but their moment."""
    assert one.status_code == other.status_code
    assert one.content == other.content
    ignored = ("date", "x-trace-id")
    assert [h for h in one.headers.items() if h[0] not in ignored] == [
        h for h in other.headers.items() if h[0] not in ignored
    ]


@pytest.mark.timeout(600)
async def test_looking_for_what_exists_is_like_looking_for_what_does_not(world: World, stranger: Person) -> None:
    there = world.cases["submitted"]
    async with world.client("intake") as client:
        client.headers["Authorization"] = stranger._client.headers["Authorization"]

        def track(number: str) -> Ask:
            body = {"number": number, "tracking_code": "0" * 16}
            return lambda: client.post("/v1/tracking", json=body)

        def read(complaint_id: str) -> Ask:
            return lambda: client.get(f"/v1/complaints/{complaint_id}")

        def sign_in(login: str) -> Ask:
            body = {"login": login, "password": "bukan kata sandinya"}
            return lambda: client.post("/v1/tokens", json=body)

        known = world.people[Role.CITIZEN].identity.login
        pairs: dict[str, tuple[Ask, Ask, float, int]] = {
            "tracking": (track(there["number"]), track(new_number()), 1.0, ROUNDS),
            "another's complaint": (read(there["complaint_id"]), read(new_id()), 1.5, ROUNDS),
            "signing in": (
                sign_in(known),
                sign_in(f"{secrets.token_hex(5)}@warga.example"),
                8.0,
                max(ROUNDS // 4, 15),
            ),
        }
        for name, (exists, not_there, allowed, rounds) in pairs.items():
            same(await exists(), await not_there())
            one, other, noise = await medians(exists, not_there, rounds)
            print(f"{name}: {one:.2f} ms where it exists, {other:.2f} ms where it does not (noise {noise:.2f} ms)")
            assert abs(one - other) < allowed + 3 * noise, f"{name}: {one:.2f} and {other:.2f} ms"


@pytest.mark.timeout(600)
async def test_whether_an_address_is_registered_is_not_told(world: World) -> None:
    """By asking for a code, by registering, and by a code that cannot be right."""
    known = world.people[Role.CITIZEN].identity.login
    async with world.client("intake") as client, AsyncMongoClient[dict[str, Any]](world.target.mongo_url) as mongo:
        counts = mongo[f"{world.target.namespace}_intake"]["code_counts"]

        async def rested() -> None:  # of both, so that neither has a shorter way
            await counts.delete_many({})
            await asyncio.sleep(0.02)

        def stranger() -> str:
            return f"{secrets.token_hex(4)}@{known.partition('@')[2]}"

        def code(login: Callable[[], str]) -> Ask:
            return lambda: client.post("/v1/codes", json={"login": login()})

        def register(login: Callable[[], str]) -> Ask:
            body = {"name": "Budi Santoso", "password": "kuda parit lampu senja"}
            return lambda: client.post("/v1/citizens", json=body | {"email": login()})

        async def entered(login: str) -> Ask:
            await rested()
            challenge = (await client.post("/v1/codes", json={"login": login})).json()["challenge_id"]
            return lambda: client.post("/v1/tokens", json={"challenge_id": challenge, "code": "0000000"})

        pairs: dict[str, tuple[Ask, Ask, float, int]] = {
            "a code": (code(lambda: known), code(stranger), 1.5, ROUNDS),
            "a wrong code": (await entered(known), await entered(stranger()), 1.5, ROUNDS),
            "registering": (register(lambda: known), register(stranger), 8.0, max(ROUNDS // 4, 15)),
        }
        for name, (exists, not_there, allowed, rounds) in pairs.items():
            await rested()
            yes, no = await exists(), await not_there()
            assert (yes.status_code, len(yes.content)) == (no.status_code, len(no.content)), name
            one, other, noise = await medians(exists, not_there, rounds, rested)
            print(f"{name}: {one:.2f} ms where it exists, {other:.2f} ms where it does not (noise {noise:.2f} ms)")
            assert abs(one - other) < allowed + 3 * noise, f"{name}: {one:.2f} and {other:.2f} ms"


async def test_numbers_and_ids_cannot_be_counted_up(world: World) -> None:
    receipts = [await world.files() for _ in range(4)]
    numbers = {receipt["number"] for receipt in receipts}
    assert len(numbers) == 4
    assert all(len(number.replace("-", "")) >= 11 for number in numbers)
    assert len({number[:7] for number in numbers}) > 1, "they do not follow one another"
    codes = {receipt["tracking_code"] for receipt in receipts}
    assert len(codes) == 4
    assert min(len(code.replace("-", "")) for code in codes) >= 12, "at least 60 bits in base 32"
