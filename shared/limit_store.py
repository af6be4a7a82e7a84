"""The counters of `shared.limits` in a service's own database, which its replicas share.

A document counts one window of one counter: ``{_id, n, ends}``; MongoDB removes it once the window has ended. Nothing
of it is worth waiting for a disk: what a crash takes back is let in twice.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from pymongo import UpdateOne
from pymongo.write_concern import WriteConcern

from shared.storage import ASCENDING, Database, IndexModel, load


class LimitStore:
    """`shared.limits.Exchange` on the collection ``limits``."""

    def __init__(self, database: Database) -> None:
        self._collection = database.get_collection("limits", write_concern=WriteConcern(w=1, j=False))

    async def ensure_indexes(self) -> None:
        """Create the index by which windows that have ended are removed; repeating it does nothing."""
        ends = IndexModel([("ends", ASCENDING)], name="ends", expireAfterSeconds=60)
        await self._collection.create_indexes([ends])

    async def add(self, counted: Mapping[str, tuple[int, float]]) -> dict[str, int]:
        """Add to the counters, each with the Unix time at which its window ends, and read them: what all replicas have
        counted together. Adding 0 reads only."""
        writes = [
            UpdateOne(
                {"_id": key},
                {"$inc": {"n": n}, "$setOnInsert": {"ends": datetime.fromtimestamp(ends, UTC)}},
                upsert=True,
            )
            for key, (n, ends) in counted.items()
            if n
        ]
        if writes:
            await self._collection.bulk_write(writes, ordered=False)
        found = await load(self._collection, counted, {"n": 1})
        return {key: document["n"] for key, document in found.items()}
