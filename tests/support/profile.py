"""A service's database, every query of which is seen to use an index while a test module runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.settings import ServiceSettings
from shared.storage import Database, connect
from tests.support.explain import indexed


@asynccontextmanager
async def profiled(settings: ServiceSettings, service: str) -> AsyncIterator[Database]:
    """The new database of a service. Its record of queries is large enough for all that a module's tests make."""
    client = connect(settings.mongo_url)
    database: Database = client[settings.database(service)]
    await database.create_collection("system.profile", capped=True, size=64 * 2**20)
    try:
        async with indexed(database):
            yield database
    finally:
        client.close()
