"""Whether queries use an index and stop in time, by the database's own record of how it ran them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from shared.queries import DOCUMENTS, KEYS
from shared.storage import Database

MOST_KEYS = KEYS[-1] + 200
MOST_DOCUMENTS = DOCUMENTS[-1] + 100
"""What one operation may look at beside twice what it gives back or changes: the bound of a page, and some more."""


@asynccontextmanager
async def indexed(database: Database, *collections: str) -> AsyncIterator[None]:
    """Fails if an operation made inside, on one of ``collections`` (all if none is named), reads a whole collection or
    more than a page may, or if none was made there at all."""
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
    faults = [found for operation in planned if (found := fault(operation))]
    assert not faults, "\n".join(faults)


def fault(operation: dict[str, Any]) -> str:
    """What is wrong with a recorded operation; empty if nothing is."""
    said = f"{operation['ns']}, {operation['planSummary']}: {operation.get('command')}"
    if "COLLSCAN" in operation["planSummary"]:
        return f"reads a whole collection: {said}"
    of_use = max(operation.get(count, 0) for count in ("nreturned", "nMatched", "nModified", "ndeleted"))
    for read, most in (("keysExamined", MOST_KEYS), ("docsExamined", MOST_DOCUMENTS)):
        if operation.get(read, 0) > 2 * of_use + most:
            return f"{read} is {operation[read]}, for {of_use} that are of use: {said}"
    return ""
