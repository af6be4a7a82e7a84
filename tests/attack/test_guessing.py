"""Whether somebody or something exists is told neither by the answer nor by how long it takes."""

import asyncio
import math
import random
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
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


def interval_of_median(ordered: Sequence[float]) -> tuple[float, float]:
    """Where the median lies of what ``ordered`` is a sample of, but for one time in a thousand, whatever the
    distribution: the k-th value from either end, k by the binomial distribution (the sign test turned round)."""
    n = len(ordered)
    beyond, k = 0.5**n, 0
    while beyond <= 0.0005:
        k += 1
        beyond += math.comb(n, k) * 0.5**n
    assert k > 0, f"{n} pairs are too few to tell anything"
    return ordered[k - 1], ordered[n - k]


class Comparison:
    """What pairs of questions took, in milliseconds. The two of a pair follow each other at once, so that a machine
    whose speed changes in between pairs, as a shared one's does, changes neither's part in the difference."""

    def __init__(self, pairs: Sequence[tuple[float, float]]) -> None:
        self._medians = tuple(statistics.median(took) for took in zip(*pairs, strict=True))
        differences = sorted(one - other for one, other in pairs)
        self.low, self.high = interval_of_median(differences)

    def tells_apart(self, allowed: float) -> bool:
        """Whether the median difference is surely larger than ``allowed``: the whole interval lies beyond it."""
        return self.low > allowed or self.high < -allowed

    def __str__(self) -> str:
        one, other = self._medians
        return f"{one:.2f} and {other:.2f} ms, the difference {self.low:.2f} to {self.high:.2f}"


async def compared(one: Ask, other: Ask, rounds: int, before: Callable[[], Awaitable[None]] = nothing) -> Comparison:
    """Two questions asked in pairs, each pair in an order of its own."""
    draw = random.Random(SEED)
    pairs: list[tuple[float, float]] = []
    for _ in range(rounds):
        took = [0.0, 0.0]
        for which in draw.sample((0, 1), 2):
            await before()
            began = time.perf_counter()
            await (one, other)[which]()
            took[which] = (time.perf_counter() - began) * 1000
            await asyncio.sleep(0.002)
        pairs.append((took[0], took[1]))
    return Comparison(pairs)


def test_a_difference_is_told_from_a_machine_that_changes_its_speed() -> None:
    draw = random.Random(SEED)
    paces = [draw.choice((1.0, 1.1, 1.5)) for _ in range(15)]
    took = [(210 * pace + draw.gauss(0, 2), 210 * pace + draw.gauss(0, 2)) for pace in paces]
    assert not Comparison(took).tells_apart(8.0)
    assert Comparison([(one + 20, other) for one, other in took]).tells_apart(8.0)
    assert Comparison([(one, other + 20) for one, other in took]).tells_apart(8.0)


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
            seen = await compared(exists, not_there, rounds)
            print(f"{name}, where it exists and where it does not: {seen}")
            assert not seen.tells_apart(allowed), f"{name}: {seen}"


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
            seen = await compared(exists, not_there, rounds, rested)
            print(f"{name}, where it exists and where it does not: {seen}")
            assert not seen.tells_apart(allowed), f"{name}: {seen}"


async def test_numbers_and_ids_cannot_be_counted_up(world: World) -> None:
    receipts = [await world.files() for _ in range(4)]
    numbers = {receipt["number"] for receipt in receipts}
    assert len(numbers) == 4
    assert all(len(number.replace("-", "")) >= 11 for number in numbers)
    assert len({number[:7] for number in numbers}) > 1, "they do not follow one another"
    codes = {receipt["tracking_code"] for receipt in receipts}
    assert len(codes) == 4
    assert min(len(code.replace("-", "")) for code in codes) >= 12, "at least 60 bits in base 32"
