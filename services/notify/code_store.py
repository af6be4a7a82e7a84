"""The codes that are to be sent, one document per challenge. The address goes when the message is out; MongoDB removes
the rest when the code has expired."""

from collections.abc import Iterable
from datetime import datetime

from pymongo import ReturnDocument

from shared.events import CitizenCode
from shared.projection import Document
from shared.storage import ASCENDING, Database, IndexModel, insert_missing


class CodeStore:
    """The collection ``codes``. Restricted: addresses (UU PDP 27/2022)."""

    def __init__(self, database: Database) -> None:
        self._codes = database["codes"]

    async def ensure_indexes(self) -> None:
        """What is to be sent next, and what goes."""
        await self._codes.create_indexes(
            [
                IndexModel([("expires_at", ASCENDING)], name="expires", expireAfterSeconds=0),
                IndexModel([("due_at", ASCENDING)], name="due", partialFilterExpression={"open": True}),
            ]
        )

    async def keep(self, codes: Iterable[CitizenCode], at: datetime) -> int:
        """Keep what is still worth sending, each challenge once; returns how many are new."""
        documents = [
            {
                "_id": code.challenge_id,
                **code.model_dump(include={"purpose", "channel", "address", "language", "expires_at"}),
                "open": True,
                "due_at": at,
                "attempts": 0,
            }
            for code in codes
            if code.expires_at > at
        ]
        return len(await insert_missing(self._codes, documents))

    async def lease(self, at: datetime, until: datetime) -> Document | None:
        """The next one to send, which nobody else gets before ``until``; None if none is due."""
        return await self._codes.find_one_and_update(
            {"open": True, "due_at": {"$lte": at}, "expires_at": {"$gt": at}},
            {"$set": {"due_at": until}, "$inc": {"attempts": 1}},
            sort=[("due_at", ASCENDING)],
            hint="due",
            return_document=ReturnDocument.AFTER,
        )

    async def later(self, challenge_id: str, due_at: datetime) -> None:
        """It is tried again then."""
        await self._codes.update_one({"_id": challenge_id}, {"$set": {"due_at": due_at}})

    async def done(self, challenge_id: str) -> None:
        """Nothing more is done for it, and its address is forgotten."""
        await self._codes.update_one({"_id": challenge_id}, {"$set": {"open": False}, "$unset": {"address": ""}})
