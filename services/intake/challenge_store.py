"""The challenges: what waits for a one-time code, what has to be sent, and how often an address was written to.

A challenge is its own outbox: ``message`` is what notify is to send, until the brokers have it. MongoDB removes both
kinds of documents when their time is over, so an address that nobody has confirmed is kept for minutes only.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

from pymongo import ReturnDocument

from shared.events import now
from shared.journal import Idempotency, KeyReused
from shared.projection import Document
from shared.storage import ASCENDING, Database, DuplicateKeyError, IndexModel

LIVES = timedelta(minutes=10)
TRIES = 5
PAUSE = timedelta(seconds=30)
"""Between two messages to one address."""
PER_HOUR = 6
"""Messages to one address."""
_HOUR = timedelta(hours=1)


class ChallengeStore:
    """The collections ``challenges`` and ``code_counts``."""

    def __init__(self, database: Database) -> None:
        self._challenges = database["challenges"]
        self._counts = database["code_counts"]

    async def ensure_indexes(self) -> None:
        """A request's Idempotency-Key once, an account's, what is to be sent, and what goes."""
        await self._challenges.create_indexes(
            [
                IndexModel([("expires_at", ASCENDING)], name="expires", expireAfterSeconds=0),
                IndexModel(
                    [("once.key", ASCENDING)],
                    name="once",
                    unique=True,
                    partialFilterExpression={"once.key": {"$exists": True}},
                ),
                IndexModel(
                    [("account_id", ASCENDING)],
                    name="account",
                    partialFilterExpression={"account_id": {"$type": "string"}},
                ),
                IndexModel(
                    [("message.expires_at", ASCENDING)],
                    name="unsent",
                    partialFilterExpression={"message.expires_at": {"$type": "date"}},
                ),
            ]
        )
        await self._counts.create_indexes([IndexModel([("ends", ASCENDING)], name="ends", expireAfterSeconds=0)])

    async def count(self, fingerprint: str, asker: str) -> timedelta | None:
        """Count a message to an address, unless it was written to too lately or too often: then how long to wait.

        ``asker`` is the request: the same one again is not counted again."""
        at = now()
        fresh = {"$lte": [{"$ifNull": ["$ends", at]}, at]}
        n, ends = {"$cond": [fresh, 0, "$n"]}, {"$cond": [fresh, at + _HOUR, "$ends"]}
        rested = {"$lte": [{"$ifNull": ["$at", at - PAUSE]}, at - PAUSE]}
        again = {"$eq": ["$by", {"$literal": asker}]}
        counted = {"$and": [rested, {"$lt": ["$n", PER_HOUR]}, {"$not": [again]}]}
        document: Document = await self._counts.find_one_and_update(
            {"_id": fingerprint},
            [
                {"$set": {"n": n, "ends": ends}},
                {"$set": {"counted": counted, "let_in": {"$or": [counted, again]}}},
                {
                    "$set": {
                        "n": {"$cond": ["$counted", {"$add": ["$n", 1]}, "$n"]},
                        "at": {"$cond": ["$counted", at, "$at"]},
                        "by": {"$cond": ["$counted", {"$literal": asker}, "$by"]},
                    }
                },
            ],
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        if document["let_in"]:
            return None
        until: datetime = document["ends"] if document["n"] >= PER_HOUR else document["at"] + PAUSE
        return max(until - at, timedelta(seconds=1))

    async def add(self, challenge: Document, once: Idempotency | None = None) -> Document:
        """Keep a challenge; or give the one that the same request made before. Raises KeyReused if its key was used
        for another request."""
        if once:
            challenge = {**challenge, "once": {"key": once.key, "request": once.request}}
        try:
            await self._challenges.insert_one(challenge)
        except DuplicateKeyError:
            earlier = await self.made_by(once)
            if earlier is None:
                raise
            return earlier
        return challenge

    async def made_by(self, once: Idempotency | None) -> Document | None:
        """The challenge that this request made before. Raises KeyReused if its key was used for another request."""
        earlier = await self._challenges.find_one({"once.key": once.key}) if once else None
        if once and earlier and earlier["once"]["request"] != once.request:
            raise KeyReused
        return earlier

    async def attempt(self, challenge_id: str, purpose: str) -> Document | None:
        """Count a try at a challenge; None if there is none such, or it has expired or been tried too often."""
        open_to_tries = {"_id": challenge_id, "purpose": purpose, "expires_at": {"$gt": now()}, "tries": {"$lt": TRIES}}
        return await self._challenges.find_one_and_update(open_to_tries, {"$inc": {"tries": 1}})

    async def use_up(self, challenge_id: str) -> bool:
        """End a challenge; of several who do so, one is told True."""
        result = await self._challenges.delete_one({"_id": challenge_id})
        return result.deleted_count == 1

    async def forget(self, account_id: str) -> None:
        """Remove what an account has asked for."""
        await self._challenges.delete_many({"account_id": {"$eq": account_id, "$type": "string"}})

    async def unsent(self, limit: int = 200) -> list[Document]:
        """Challenges whose message may not have reached the brokers."""
        still = {"message.expires_at": {"$gt": now(), "$type": "date"}}
        return await self._challenges.find(still, hint="unsent").limit(limit).to_list(limit)

    async def sent(self, ids: Collection[str]) -> None:
        """The brokers have these messages: forget them."""
        await self._challenges.update_many({"_id": {"$in": list(ids)}}, {"$unset": {"message": ""}})
