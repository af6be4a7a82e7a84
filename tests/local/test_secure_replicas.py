"""Three of each server, locked and encrypted: they know one another, and any one may die and come back."""

import asyncio
import shutil
from pathlib import Path

import pytest

from deploy.local.folder import data_folder
from deploy.local.processes import Children
from deploy.local.servers import start_servers
from deploy.local.settings import LocalSettings
from shared import topics
from shared.connections import kafka_options
from shared.journal import Entry
from shared.publisher import Publisher
from shared.settings import ServiceSettings
from shared.storage import TRANSIENT, MongoJournal, connect
from tests.support.events import Chain
from tests.support.locked import authority
from tests.support.running import until


@pytest.mark.timeout(240)
async def test_locked_servers_outlive_the_death_of_one_and_take_it_back(tmp_path: Path) -> None:
    files = authority(tmp_path, "ours")
    chosen = LocalSettings(
        secure=True, replicas=3, tls_cert_file=files.cert_file, tls_ca_file=files.ca_file, tls_ask_clients=True
    ).on_free_ports()
    with data_folder(tmp_path / "data") as folder, Children(folder / "logs") as children:
        servers = await asyncio.to_thread(start_servers, children, folder, chosen)
        assert servers.locks
        assert servers.locks.tls
        where = {"kafka_bootstrap": servers.kafka_bootstrap, "mongo_url": servers.mongo_url, "topic_replication": 3}
        admin = ServiceSettings.model_validate(
            {**where, **servers.locks.tls.settings(), **servers.locks.admin.settings()}
        )
        await topics.create(admin)
        client = connect(admin)
        journal = MongoJournal(client["lapor_x"])
        publisher = Publisher(
            admin.kafka_bootstrap, admin.topic_prefix, "tests", wait_seconds=5, security=kafka_options(admin)
        )

        async def both_take_one() -> bool:
            event = Chain().last
            try:
                stored = await journal.insert([Entry(event)]) == [None]
            except TRANSIENT:
                return False
            return stored and await publisher.publish([event]) == [event.id]

        try:
            await until(both_take_one, within=30)
            for number in (1, 2, 3):
                dead = (f"kafka-{number}", f"mongod-{number}")
                for name in dead:
                    children[name].kill()
                if number == 2:  # a member that has lost its folder is taught by the others
                    shutil.rmtree(folder / "mongod-2" / "db")
                    (folder / "mongod-2" / "db").mkdir()
                await until(both_take_one, within=40)
                for name in dead:
                    children[name].start()
                for name in dead:
                    await asyncio.to_thread(servers.waits[name], children[name])
                await until(both_take_one, within=40)
        finally:
            await publisher.stop()
            client.close()
