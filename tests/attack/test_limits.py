"""Floods on two replicas of intake that share their limits: whoever floods is slowed, nobody else is."""

import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx
import pytest
from pymongo import MongoClient

from deploy.demo.people import Person
from deploy.demo.target import Target
from deploy.local.launcher import System
from deploy.local.ports import LOOPBACK, free_ports
from shared.sop import Role
from tests.attack.conftest import World

MOST = 12
RATES = {
    "file/person": f"{MOST}/3600",
    "guess/address": "20/3600",
    "read/address": "40/3600",
}
EXCHANGE = 0.2


@dataclass
class Replicas:
    """Two intake services beside the system's own, with limits on. Whoever stands before them is a trusted proxy."""

    urls: tuple[str, str]
    system: System
    names: tuple[str, str]


@pytest.fixture(scope="module")
def replicas(attacked: tuple[System, Target]) -> Iterator[Replicas]:
    system, _ = attacked
    own = {
        "LAPOR_LIMITS__ENABLED": "true",
        "LAPOR_LIMITS__RATES": json.dumps(RATES),
        "LAPOR_LIMITS__EXCHANGE_SECONDS": str(EXCHANGE),
        "LAPOR_LIMITS__TRUSTED_PROXIES": json.dumps([f"{LOOPBACK}/32"]),
    }
    ports = free_ports(2)
    names = ("intake-limited-1", "intake-limited-2")
    urls = {name: f"http://{LOOPBACK}:{port}" for name, port in zip(names, ports, strict=True)}
    for name, port in zip(names, ports, strict=True):
        environment = {**system.children["intake"].environment, **own, "LAPOR_PORT": str(port)}
        system.children.start(name, [sys.executable, "-m", "services.intake"], environment, stage=1)
    system.urls = {**system.urls, **urls}
    system.wait_ready(*names)
    yield Replicas((urls[names[0]], urls[names[1]]), system, names)
    system.stop(*names)
    system.urls = {name: url for name, url in system.urls.items() if name not in names}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30) as made:
        yield made


def headers(person: Person, address: str) -> dict[str, str]:
    """Of a request by somebody from an address."""
    return {"Authorization": person._client.headers["Authorization"], "X-Forwarded-For": address}


async def filed(client: httpx.AsyncClient, url: str, person: Person, address: str) -> httpx.Response:
    """A try to file: refused for its content if not for its number, so that a flood costs the tests nothing."""
    return await client.post(f"{url}/v1/complaints", json={"title": "?"}, headers=headers(person, address))


async def test_a_flood_is_slowed_on_both_replicas_and_nobody_else_is(
    replicas: Replicas, world: World, stranger: Person, client: httpx.AsyncClient
) -> None:
    flooder = world.people[Role.CITIZEN]
    first = await filed(client, replicas.urls[0], flooder, "198.51.100.1")
    assert first.headers["ratelimit-policy"] == f'"file-person";q={MOST};w=3600'
    assert re.fullmatch(rf'"file-person";r={MOST - 1};t=\d+', first.headers["ratelimit"])
    answers = [first]
    for turn in range(60):  # from ever another address, now here, now there
        answers.append(await filed(client, replicas.urls[turn % 2], flooder, f"198.51.100.{turn}"))
        if turn % 10 == 0:
            await asyncio.sleep(2 * EXCHANGE)
    let_in = sum(answer.status_code != 429 for answer in answers)
    assert MOST <= let_in <= MOST + 10, "together, but for what one replica cannot yet have heard of the other"
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.headers["content-type"] for answer in refused} == {"application/problem+json"}
    assert all(0 < int(answer.headers["retry-after"]) <= 3600 for answer in refused)
    assert "Terlalu banyak permintaan" in refused[0].json()["message"]
    assert refused[0].headers["ratelimit"].startswith('"file-person";r=0;t=')
    for url in replicas.urls:
        other = await filed(client, url, stranger, "198.51.100.1")
        assert other.status_code == 422, "another person from the same address is served"
        read = await client.get(f"{url}/v1/complaints", headers=headers(flooder, "198.51.100.1"))
        assert read.status_code == 200, "and the one who floods can do everything else"


async def test_a_flood_from_one_address_leaves_the_others_alone(
    replicas: Replicas, world: World, stranger: Person, client: httpx.AsyncClient
) -> None:
    async def categories(address: str, url: str) -> int:
        answer = await client.get(f"{url}/v1/categories", headers={"X-Forwarded-For": address})
        return answer.status_code

    flood = [
        await categories("2001:db8:7:7::1" if n % 2 else "2001:db8:7:7:ffff::2", replicas.urls[0]) for n in range(60)
    ]
    assert flood[:40] == [200] * 40
    assert set(flood[40:]) == {429}, "a /64 is one subscriber's"
    await asyncio.sleep(3 * EXCHANGE)
    await categories("2001:db8:7:7::3", replicas.urls[1])  # from here on the other replica asks for this counter, too
    await asyncio.sleep(3 * EXCHANGE)
    assert await categories("2001:db8:7:7::3", replicas.urls[1]) == 429, "at the other replica as well"
    assert await categories("2001:db8:7:8::1", replicas.urls[0]) == 200
    began = time.perf_counter()
    assert await categories("198.51.100.77", replicas.urls[0]) == 200
    assert time.perf_counter() - began < 1, "the flood is not in others' way"


async def test_an_address_that_nobody_vouches_for_is_not_believed(world: World, client: httpx.AsyncClient) -> None:
    """The system's own intake trusts no proxy; with limits on it would count loopback, whatever is claimed."""
    answer = await client.get(f"{world.urls['intake']}/v1/categories", headers={"X-Forwarded-For": "1.2.3.4"})
    assert answer.status_code == 200
    assert "ratelimit" not in answer.headers, "limits are off there"


async def test_what_is_stored_of_limits_names_nobody(
    replicas: Replicas, world: World, client: httpx.AsyncClient
) -> None:
    address = "203.0.113.200"
    await client.get(f"{replicas.urls[0]}/v1/categories", headers={"X-Forwarded-For": address})
    await asyncio.sleep(4 * EXCHANGE)
    me = (await world.people[Role.CITIZEN].get("intake", "/v1/me"))["id"]
    with MongoClient[dict[str, object]](world.target.mongo_url) as mongo:
        limits = mongo[f"{world.target.namespace}_intake"]["limits"]
        stored = [repr(document) for document in limits.find()]
        assert stored
        assert not [text for text in stored if address in text or me in text]
        assert any("expireAfterSeconds" in index for index in limits.index_information().values())


async def test_guessing_of_tracking_codes_is_bounded(
    replicas: Replicas, world: World, client: httpx.AsyncClient
) -> None:
    receipt = world.cases["submitted"]
    statuses = []
    for n in range(60):
        body = {"number": receipt["number"], "tracking_code": f"{n:08}"}
        headers = {"X-Forwarded-For": "198.51.100.9"}
        answer = await client.post(f"{replicas.urls[n % 2]}/v1/tracking", json=body, headers=headers)
        statuses.append(answer.status_code)
        if n % 10 == 0:
            await asyncio.sleep(2 * EXCHANGE)
    assert set(statuses) == {404, 429}
    assert statuses.count(404) <= 20 + 10
    right = {"number": receipt["number"], "tracking_code": receipt["tracking_code"]}
    elsewhere = {"X-Forwarded-For": "198.51.100.10"}
    answer = await client.post(f"{replicas.urls[0]}/v1/tracking", json=right, headers=elsewhere)
    assert answer.status_code == 200, "who has the code can follow the complaint"
