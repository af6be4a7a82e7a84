"""Guessing is slowed where it happens, and locks nobody else out: two intake services on real servers that share a
database, asked from different addresses."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from deploy.local.servers import Servers
from services.intake.app import build
from services.intake.settings import Settings
from shared import topics
from shared.events import now
from shared.storage import Database, connect
from tests.conftest import fresh_namespace
from tests.support.intake import PASSWORD, intake_settings, register
from tests.support.running import running

FREE = 3
WRONG = "bukan kata sandinya"


@dataclass
class Door:
    """Two replicas, their settings, database and clock, which stands still unless it is told that time passes."""

    settings: Settings
    replicas: tuple[FastAPI, FastAPI]
    database: Database
    moment: datetime = field(default_factory=now)

    async def tries(self, login: str, password: str, address: str, replica: int = 0) -> httpx.Response:
        """To sign in from an address."""
        transport = httpx.ASGITransport(self.replicas[replica], client=(address, 40_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.post("/v1/tokens", json={"login": login, "password": password})

    async def citizen(self) -> str:
        """The login of somebody who has registered."""
        login = f"warga.{secrets.token_hex(6)}@warga.example"
        transport = httpx.ASGITransport(self.replicas[0])
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            await register(client, self.settings, {"name": "Siti Aminah", "email": login, "password": PASSWORD})
        return login

    async def guess(self, login: str, address: str, times: int = FREE) -> None:
        for turn in range(times):
            assert (await self.tries(login, WRONG, address, turn % 2)).status_code == 401

    async def time_passes(self, by: timedelta) -> None:
        """On the clock of both."""
        self.moment += by
        await self.database["sign_in_attempts"].delete_many({"ends": {"$lt": self.moment}})  # as MongoDB does


@pytest.fixture(scope="module")
async def door(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    async with fresh_namespace(servers) as namespace, AsyncExitStack() as stack:
        settings = intake_settings(servers, namespace, tmp_path_factory.mktemp("intake"))
        settings = settings.model_copy(update={"sign_in_free_tries": FREE})
        await topics.create(settings)
        one, other = build(settings), build(settings)
        for replica in (one, other):
            await stack.enter_async_context(running(replica))
        client = connect(settings)
        stack.callback(client.close)
        made = Door(settings, (one, other), client[settings.database("intake")])
        clock = stack.enter_context(pytest.MonkeyPatch.context())
        clock.setattr("services.intake.attempts.now", lambda: made.moment)
        yield made


def addresses(count: int) -> list[str]:
    """Addresses that no other test uses."""
    return [f"198.51.{secrets.randbelow(256)}.{secrets.randbelow(256)}" for _ in range(count)]


async def test_who_guesses_waits_longer_and_longer_and_the_owner_comes_in_from_elsewhere(door: Door) -> None:
    login, (guesser, owner) = await door.citizen(), addresses(2)
    await door.guess(login, guesser)
    waits = []
    for turn in range(5):
        refused = await door.tries(login, WRONG, guesser, turn % 2)
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        waits.append(int(refused.headers["retry-after"]))
        right = await door.tries(login, PASSWORD, guesser, turn % 2)
        assert right.status_code == 429, "also with the right password: it tells nothing"
        assert (await door.tries(login, PASSWORD, owner, turn % 2)).status_code == 200
        await door.time_passes(timedelta(seconds=waits[-1]))
        assert (await door.tries(login, WRONG, guesser, (turn + 1) % 2)).status_code == 401
    assert waits == [1, 2, 4, 8, 16]


async def test_the_longest_wait_is_a_quarter_of_an_hour_and_no_account_is_closed(door: Door) -> None:
    login, (guesser,) = await door.citizen(), addresses(1)
    await door.guess(login, guesser)
    await door.database["sign_in_attempts"].update_many({"_id": {"$regex": "^pair:"}}, {"$set": {"n": 5000}})
    await door.time_passes(timedelta(seconds=1))
    assert (await door.tries(login, WRONG, guesser)).status_code == 401
    refused = await door.tries(login, WRONG, guesser)
    assert refused.headers["retry-after"] == "900"
    await door.time_passes(timedelta(minutes=15))
    assert (await door.tries(login, PASSWORD, guesser)).status_code == 200


async def test_a_login_that_nobody_has_is_answered_just_alike(door: Door) -> None:
    known, unknown = await door.citizen(), f"warga.{secrets.token_hex(6)}@warga.example"
    said: dict[str, list[Any]] = {}
    for login in (known, unknown):
        (guesser,) = addresses(1)
        answers = [await door.tries(login, WRONG, guesser, turn % 2) for turn in range(FREE + 3)]
        ignored = ("x-trace-id",)
        said[login] = [
            (a.status_code, a.text, sorted(h for h in a.headers.items() if h[0] not in ignored and h[0] != "ratelimit"))
            for a in answers
        ]
    assert said[known] == said[unknown]
    assert [answer[0] for answer in said[known]] == [401] * FREE + [429] * 3


async def test_of_forty_tries_at_once_on_two_replicas_no_more_are_let_in(door: Door) -> None:
    login, (guesser,) = await door.citizen(), addresses(1)
    answers = await asyncio.gather(*(door.tries(login, WRONG, guesser, turn % 2) for turn in range(40)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [401] * FREE + [429] * (40 - FREE)


async def test_a_right_password_begins_anew(door: Door) -> None:
    login, (owner,) = await door.citizen(), addresses(1)
    for _ in range(3):
        await door.guess(login, owner, FREE - 1)
        assert (await door.tries(login, PASSWORD, owner)).status_code == 200
    await door.guess(login, owner)
    assert (await door.tries(login, PASSWORD, owner)).status_code == 429


async def test_many_addresses_at_once_slow_strangers_and_not_where_the_owner_has_been(door: Door) -> None:
    login, (owner, *guessers, stranger) = await door.citizen(), addresses(6)
    assert (await door.tries(login, PASSWORD, owner)).status_code == 200
    for guesser in guessers[:3]:
        await door.guess(login, guesser)
    refused = await door.tries(login, WRONG, guessers[3], 1)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert (await door.tries(login, PASSWORD, owner, 1)).status_code == 200
    await door.time_passes(timedelta(seconds=1))
    assert (await door.tries(login, WRONG, guessers[3], 1)).status_code == 401
    slowed = await door.tries(login, PASSWORD, stranger)
    assert (slowed.status_code, slowed.headers["retry-after"]) == (429, "2")
    assert (await door.tries(login, PASSWORD, owner)).status_code == 200
    await door.time_passes(timedelta(seconds=2))
    assert (await door.tries(login, PASSWORD, stranger)).status_code == 200, "it is a wait and no end"
    assert (await door.tries(await door.citizen(), PASSWORD, guessers[0])).status_code == 200, "others' logins are free"


async def test_strangers_are_let_in_one_at_a_time_also_if_they_all_try_at_once(door: Door) -> None:
    login, guessers = await door.citizen(), addresses(33)
    for guesser in guessers[:3]:
        await door.guess(login, guesser)
    for _ in range(2):
        await door.time_passes(timedelta(minutes=5))
        answers = await asyncio.gather(*(door.tries(login, WRONG, a, i % 2) for i, a in enumerate(guessers[3:])))
        assert sorted(answer.status_code for answer in answers) == [401] + [429] * 29


async def test_one_address_alone_never_slows_strangers_however_long_it_guesses(door: Door) -> None:
    login, (guesser, stranger) = await door.citizen(), addresses(2)
    for turn in range(5 * FREE):  # more than all addresses together may, before strangers have to wait
        await door.time_passes(timedelta(minutes=15))
        assert (await door.tries(login, WRONG, guesser, turn % 2)).status_code == 401
    assert (await door.tries(login, PASSWORD, stranger)).status_code == 200
    await door.time_passes(timedelta(hours=2))
    for turn in range(5 * (FREE - 1)):  # nor with patience, a few tries after each hour
        await door.time_passes(timedelta(minutes=62 if turn % (FREE - 1) == 0 else 0))
        assert (await door.tries(login, WRONG, guesser, turn % 2)).status_code == 401
    assert (await door.tries(login, PASSWORD, addresses(1)[0])).status_code == 200


async def test_neighbours_of_ipv6_are_one_and_other_networks_are_not(door: Door) -> None:
    login = await door.citizen()
    for host in range(FREE):
        assert (await door.tries(login, WRONG, f"2001:db8:7:1::{host + 1:x}")).status_code == 401
    assert (await door.tries(login, PASSWORD, "2001:db8:7:1:ffff::9")).status_code == 429
    assert (await door.tries(login, PASSWORD, "2001:db8:7:2::1")).status_code == 200


async def test_what_is_stored_tells_neither_login_nor_address_and_ends(door: Door) -> None:
    login, (guesser,) = await door.citizen(), addresses(1)
    await door.guess(login, guesser)
    await door.tries(login, PASSWORD, "198.18.0.1")
    stored = await door.database["sign_in_attempts"].find().to_list(None)
    assert all(document["ends"] <= door.moment + timedelta(days=90) for document in stored)
    assert not any(secret in str(stored) for secret in (login, guesser, "198.18.0.1"))
    indexes = await door.database["sign_in_attempts"].index_information()
    assert indexes["ends"]["expireAfterSeconds"] == 0
