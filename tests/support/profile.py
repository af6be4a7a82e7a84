"""A service's database with MongoDB's profiler on, so that a test sees every plan that the service's queries got."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.settings import ServiceSettings
from shared.storage import Database, connect
from tests.support.intake import collection_scans


@asynccontextmanager
async def profiled(settings: ServiceSettings, service: str) -> AsyncIterator[Database]:
    """The database of a service while its queries are recorded; at the end none of them has read a whole
    collection."""
    client = connect(settings.mongo_url)
    database: Database = client[settings.database(service)]
    await database.create_collection("system.profile", capped=True, size=64 * 2**20)
    await database.command("profile", 2)
    try:
        yield database
        assert await collection_scans(database) == []
    finally:
        await database.command("profile", 0)
        client.close()
