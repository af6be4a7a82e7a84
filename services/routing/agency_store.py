"""The collection ``agencies``: some dozens of documents, read as a whole."""

from typing import Literal

from shared.audit import Action, AuditLog
from shared.events import now
from shared.projection import Document
from shared.storage import ASCENDING, Database, IndexModel, by_id


class AgencyStore:
    """The agency directory."""

    def __init__(self, database: Database) -> None:
        self._agencies = database["agencies"]
        self._by_id = by_id(self._agencies)

    async def ensure_indexes(self) -> None:
        """Which agencies serve a category."""
        await self._agencies.create_indexes([IndexModel([("categories", ASCENDING), ("active", ASCENDING)])])

    async def find(self, code: str) -> Document | None:
        """One agency."""
        return await self._by_id.get(code)

    async def all(self, *, active_only: bool = True) -> list[Document]:
        """The agencies by code."""
        cursor = self._agencies.find({"active": True} if active_only else {}).sort("_id", ASCENDING)
        return [agency async for agency in cursor]

    async def for_category(self, category: str) -> list[Document]:
        """The active agencies that serve a category of complaints."""
        cursor = self._agencies.find({"categories": category, "active": True}).sort("_id", ASCENDING)
        return [agency async for agency in cursor]

    async def put(
        self, agency: Document, audit: AuditLog, actor: str, role: str | None = None
    ) -> Literal["added", "changed", "unchanged"]:
        """Store an agency under its code and say what that did; the audit log is told before. Without ``active`` it
        stays as active as it was; a new one is."""
        before = await self._agencies.find_one({"_id": agency["_id"]})
        if before and all(before.get(name) == value for name, value in agency.items()):
            return "unchanged"
        active = before["active"] if before else True
        changed = {"active": active, **agency, "updated_at": now()}
        action = Action.AGENCY_CHANGED if before else Action.AGENCY_ADDED
        await audit.record(action, actor, agency["_id"], role=role, active=changed["active"])
        await self._agencies.replace_one({"_id": agency["_id"]}, changed, upsert=True)
        return "changed" if before else "added"
