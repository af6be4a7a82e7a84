"""The machine accounts as they are stored: of their secrets only the SHA-256."""

from collections.abc import Mapping
from typing import Any

from shared.events import now
from shared.projection import Document
from shared.storage import ASCENDING, Database


class ClientStore:
    """The collection ``clients``: ``{_id, name, role, agency, scopes, secrets: [{sha256, ends}], active, created_at}``;
    ``ends`` is null for the secret that is in force, and until when the one before it still is."""

    def __init__(self, database: Database) -> None:
        self._clients = database["clients"]

    async def put(self, client_id: str, fields: Mapping[str, Any]) -> None:
        """Store one, or bring it up to date; one that was closed stays closed."""
        made = {"active": True, "created_at": now()}
        await self._clients.update_one({"_id": client_id}, {"$set": dict(fields), "$setOnInsert": made}, upsert=True)

    async def find(self, client_id: str) -> Document | None:
        """One of them."""
        return await self._clients.find_one({"_id": client_id})

    async def all(self) -> list[Document]:
        """All, by id, without their secrets."""
        return [client async for client in self._clients.find({}, {"secrets": 0}).sort([("_id", ASCENDING)])]

    async def change(self, client: Document, changes: Mapping[str, Any]) -> bool:
        """Change one that still has the secrets it was read with."""
        result = await self._clients.update_one(
            {"_id": client["_id"], "secrets": client["secrets"]}, {"$set": dict(changes)}
        )
        return result.matched_count == 1
