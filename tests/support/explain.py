"""Whether queries use an index, by the database's own record of how it ran them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from shared.storage import Database


@asynccontextmanager
async def indexed(database: Database, *collections: str) -> AsyncIterator[None]:
    """Fails if an operation made inside, on one of ``collections`` (all if none is named), reads a whole collection,
    or if none was made there at all."""
    await database.command("profile", 2)
    try:
        yield
    finally:
        await database.command("profile", 0)
    spaces = [f"{database.name}.{name}" for name in collections]
    scope: dict[str, Any] = {"$in": spaces} if spaces else {"$not": {"$regex": r"\.system\."}}
    made: Sequence[dict[str, Any]] = await database["system.profile"].find({"ns": scope}).to_list(None)
    planned = [operation for operation in made if "planSummary" in operation]
    assert planned, "no query was made"
    scans = [operation["command"] for operation in planned if "COLLSCAN" in operation["planSummary"]]
    assert scans == [], "these queries read a whole collection"
