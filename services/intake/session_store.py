"""The sessions: who has signed in where, and by which refresh token a session goes on.

A document holds hashes of two secrets, the refresh token in force and the one before it; MongoDB removes it when it can
be of no use any more.
"""

from datetime import datetime, timedelta

from shared.events import now
from shared.projection import Document
from shared.storage import ASCENDING, DESCENDING, Database, IndexModel

KEPT_ENDED = timedelta(hours=25)
"""A session that was ended is kept longer than any token of it can live."""
_MOST_ENDED = 10_000


class SessionStore:
    """The collection ``sessions``."""

    def __init__(self, database: Database) -> None:
        self._sessions = database["sessions"]

    async def ensure_indexes(self) -> None:
        """Somebody's own sessions, those that were ended lately, and those that go."""
        await self._sessions.create_indexes(
            [
                IndexModel([("account_id", ASCENDING), ("began_at", DESCENDING)], name="own"),
                IndexModel(
                    [("ended_at", DESCENDING)],
                    name="ended",
                    partialFilterExpression={"ended_at": {"$type": "date"}},
                ),
                IndexModel([("expires_at", ASCENDING)], name="expires", expireAfterSeconds=0),
            ]
        )

    async def add(self, session: Document) -> None:
        """Keep a new session."""
        await self._sessions.insert_one(session)

    async def find(self, session_id: str) -> Document | None:
        """A session that goes on."""
        return await self._sessions.find_one({"_id": session_id, **_going_on()})

    async def rotate(self, session_id: str, presented: str, new: str, expires_at: datetime) -> bool:
        """Put a new refresh token in the place of the one that was presented (hashes); one step, so that of several who
        present the same the last one's is in force.

        The one before the present is taken too: whoever presents it has not received its successor, which becomes
        void. False: the session goes on without such a token, or does not go on."""
        result = await self._sessions.update_one(
            {"_id": session_id, "$or": [{"current": presented}, {"previous": presented}], **_going_on()},
            {"$set": {"previous": presented, "current": new, "used_at": now(), "expires_at": expires_at}},
        )
        return result.modified_count == 1

    async def end(self, session_id: str, account_id: str | None = None) -> bool:
        """End one session (of this account, if one is given); False if there is none such that goes on."""
        of = {} if account_id is None else {"account_id": account_id}
        result = await self._sessions.update_one({"_id": session_id, "ended_at": None, **of}, _ending())
        return result.modified_count == 1

    async def end_all(self, account_id: str, but: str | None = None) -> list[str]:
        """End all sessions of an account, but for one if it is named; returns the ids of those."""
        others = {"account_id": account_id, "_id": {"$ne": but}, "ended_at": None}
        ids = [session["_id"] async for session in self._sessions.find(others, {"_id": 1}, hint="own")]
        await self._sessions.update_many({"_id": {"$in": ids}, "ended_at": None}, _ending())
        return ids

    async def of_account(self, account_id: str) -> list[Document]:
        """The sessions of an account that go on, the newest first, at most a hundred."""
        found = self._sessions.find({"account_id": account_id, **_going_on()})
        return await found.sort("began_at", DESCENDING).limit(100).to_list(100)

    async def ended_since(self, moment: datetime) -> list[str]:
        """The ids of sessions that were ended since then, the latest first."""
        found = self._sessions.find({"ended_at": {"$gte": moment, "$type": "date"}}, {"_id": 1}, hint="ended")
        return [session["_id"] async for session in found.sort("ended_at", DESCENDING).limit(_MOST_ENDED)]


def _going_on() -> Document:
    return {"ended_at": None, "expires_at": {"$gt": now()}}


def _ending() -> Document:
    return {"$set": {"ended_at": now(), "expires_at": now() + KEPT_ENDED}}
