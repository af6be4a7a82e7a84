"""Three of each server: any one may die and nothing acknowledged is lost; with one left, nothing is acknowledged."""

import asyncio
import contextlib
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pymongo import AsyncMongoClient
from pymongo.read_concern import ReadConcern

from deploy.local.errors import CannotRun
from deploy.local.folder import data_folder
from deploy.local.processes import Children
from deploy.local.replicas import Revival, leaders, primary
from deploy.local.servers import Servers, brokers, embedded_servers, members, refuse_other_number, start_servers
from deploy.local.settings import LocalSettings
from shared import topics
from shared.events import Event
from shared.journal import Entry
from shared.publisher import Publisher
from shared.settings import ServiceSettings
from shared.storage import TRANSIENT, MongoJournal, connect
from tests.support.events import Chain
from tests.support.running import read_topics, until

TOPIC = "complaint.submitted"


@dataclass(frozen=True)
class Three:
    """Three brokers and three mongods, to be killed by name."""

    children: Children
    servers: Servers

    def kill(self, *names: str) -> None:
        for name in names:
            self.children[name].kill()

    async def start(self, *names: str) -> None:
        for name in names:
            self.children[name].start()
        for name in names:
            await asyncio.to_thread(self.servers.waits[name], self.children[name])


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    chosen = LocalSettings(replicas=3).on_free_ports()
    with (
        data_folder(tmp_path_factory.mktemp("three") / "data") as folder,
        Children(folder / "logs") as children,
    ):
        yield Three(children, start_servers(children, folder, chosen))


@pytest.fixture
async def settings(three: Three) -> ServiceSettings:
    made = ServiceSettings(
        namespace=f"t{secrets.token_hex(6)}",
        kafka_bootstrap=three.servers.kafka_bootstrap,
        mongo_url=three.servers.mongo_url,
        topic_replication=3,
    )
    await topics.create(made)
    return made


@dataclass
class Writing:
    """Events written as a desk writes them, and which of them were acknowledged."""

    store: MongoJournal
    publisher: Publisher
    stored: list[str] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    refused: int = 0

    async def one(self) -> Event:
        event = Chain().last
        try:
            assert await self.store.insert([Entry(event)]) == [None]
            self.stored.append(event.id)
        except TRANSIENT:
            self.refused += 1
        self.published += await self.publisher.publish([event])
        return event

    async def ever(self) -> None:
        while True:
            await self.one()
            await asyncio.sleep(0.05)

    async def goes_on(self) -> None:
        """Both databases and brokers have taken ten more."""
        stored, published = len(self.stored) + 10, len(self.published) + 10

        async def further() -> bool:
            return len(self.stored) >= stored and len(self.published) >= published

        await until(further, within=40)


@contextlib.asynccontextmanager
async def writing(settings: ServiceSettings) -> AsyncIterator[Writing]:
    client = connect(settings.mongo_url)
    publisher = Publisher(settings.kafka_bootstrap, settings.topic_prefix, "intake")
    try:
        yield Writing(MongoJournal(client[settings.database("intake")]), publisher)
    finally:
        await publisher.stop()
        client.close()


async def kept(settings: ServiceSettings) -> set[str]:
    """The ids that a majority of the mongods has."""
    async with AsyncMongoClient[dict[str, object]](settings.mongo_url) as client:
        journal = client[settings.database("intake")].get_collection("journal", read_concern=ReadConcern("majority"))
        return {str(entry["_id"]) async for entry in journal.find({}, {"_id": 1})}


@pytest.mark.timeout(180)
async def test_a_primary_and_a_leader_die_under_load_and_nothing_acknowledged_is_lost(
    three: Three, settings: ServiceSettings
) -> None:
    async with writing(settings) as load, asyncio.TaskGroup() as group:
        tasks = [group.create_task(load.ever()) for _ in range(4)]
        await load.goes_on()
        first = await primary(three.servers)
        three.kill(first)
        await load.goes_on()
        assert await primary(three.servers) != first
        leader = (await leaders(three.servers, settings.topic_prefix + TOPIC))[0]
        assert leader
        three.kill(leader)
        await load.goes_on()
        assert leader not in await leaders(three.servers, settings.topic_prefix + TOPIC)
        await three.start(first, leader)
        await load.goes_on()
        for task in tasks:
            task.cancel()
    assert set(load.stored) <= await kept(settings)
    assert set(load.published) <= {event.id for event in await read_topics(settings, TOPIC)}


@pytest.mark.timeout(180)
async def test_with_one_of_three_left_nothing_is_acknowledged_until_another_is_back(
    three: Three, settings: ServiceSettings
) -> None:
    async with writing(settings) as load:
        await load.one()
        assert (len(load.stored), len(load.published)) == (1, 1)
        last_mongod = await primary(three.servers)
        last_broker = (await leaders(three.servers, settings.topic_prefix + TOPIC))[0]
        others = [name for name in three.servers.names.values() if name not in (last_mongod, last_broker)]
        three.kill(*others)
        await asyncio.gather(*(load.one() for _ in range(20)))  # some of them for partitions that the last one leads
        assert (len(load.stored), len(load.published), load.refused) == (1, 1, 20)
        await three.start(*others)
        await load.one()
        assert (len(load.stored), len(load.published)) == (2, 2)
    assert set(load.stored) <= await kept(settings)
    assert set(load.published) <= {event.id for event in await read_topics(settings, TOPIC)}


async def looked(revival: Revival, until_then: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not until_then():
        assert time.monotonic() < deadline
        revival.look()
        await asyncio.sleep(0.01)


async def test_a_dead_server_is_said_and_started_again_after_longer_and_longer_pauses(tmp_path: Path) -> None:
    said: list[str] = []
    with Children(tmp_path / "logs") as children:
        child = children.start("kafka-2", ["sleep", "600"])
        left_alone = children.start("kafka-3", ["sleep", "600"])
        revival = Revival([child, left_alone], said.append, first_pause=0.1)
        for _ in range(2):
            before = child.pid
            assert before
            os.kill(before, signal.SIGKILL)
            await looked(revival, lambda before=before: child.running and child.pid != before)  # type: ignore[misc]
        left_alone.kill()
        revival.look()
        children.check()
        assert not left_alone.running, "what was ended on purpose stays ended"
        assert ["kafka-2 has ended (SIGKILL)" in text for text in said] == [True, False, True, False]
        assert revival.pauses == {"kafka-2": 0.2}


@pytest.mark.parametrize("number", [0, 2, 5])
def test_another_number_is_refused_before_anything_is_touched(tmp_path: Path, number: int) -> None:
    with (
        pytest.raises(CannotRun, match=f"1 or 3 replicas of Kafka and MongoDB, not {number}"),
        embedded_servers(tmp_path / "data", LocalSettings(replicas=number)),
    ):
        pass
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("made_by", "folder", "asked"), [(1, "kafka", 3), (1, "mongod", 3), (3, "mongod-2", 1)])
def test_data_of_another_number_of_servers_is_not_started(
    tmp_path: Path, made_by: int, folder: str, asked: int
) -> None:
    refuse_other_number(tmp_path, asked)
    (tmp_path / folder).mkdir()
    refuse_other_number(tmp_path, made_by)
    with pytest.raises(CannotRun, match=rf"{folder}(?s:.*)--replicas {made_by} (?s:.*)--fresh"):
        refuse_other_number(tmp_path, asked)


def test_three_of_each_have_names_ports_and_advertised_addresses_of_their_own(tmp_path: Path) -> None:
    made = LocalSettings(replicas=3, kafka_advertised="a:1,b:2,c:3").on_free_ports()
    assert len(set(made.own_ports())) == 15
    three = brokers(tmp_path, made)
    assert [(one.name, one.node_id, one.bootstrap) for one in three] == [
        ("kafka-1", 1, "a:1"),
        ("kafka-2", 2, "b:2"),
        ("kafka-3", 3, "c:3"),
    ]
    assert f"listeners=CLIENT://127.0.0.1:{made.kafka_2_port}," in three[1].properties(three)
    assert [one.host for one in members(tmp_path, made)][2] == f"127.0.0.1:{made.mongo_3_port}"
    with pytest.raises(CannotRun, match="LAPOR_MONGO_ADVERTISED has 2 addresses"):
        members(tmp_path, LocalSettings(replicas=3, mongo_advertised="a:1,b:2"))
