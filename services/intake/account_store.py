"""The accounts: the only place in the system that holds names, addresses and passwords' hashes."""

from collections.abc import Mapping
from typing import Any

from shared.journal import Idempotency, KeyReused
from shared.projection import Document
from shared.sop import Role
from shared.storage import ASCENDING, Database, DuplicateKeyError, IndexModel


class LoginTaken(Exception):
    """Another account has this e-mail address, phone number or username."""


class AccountStore:
    """Citizens and staff, told apart by their role."""

    def __init__(self, database: Database) -> None:
        self._accounts = database["accounts"]

    async def ensure_indexes(self) -> None:
        """No login twice; a registration's Idempotency-Key once; contacts that notify has not been told."""
        await self._accounts.create_indexes(
            [
                IndexModel([("logins", ASCENDING)], unique=True),
                IndexModel(
                    [("registration.key", ASCENDING)],
                    unique=True,
                    partialFilterExpression={"registration.key": {"$exists": True}},
                ),
                IndexModel([("contact_due", ASCENDING)], partialFilterExpression={"contact_due": True}),
                IndexModel([("role", ASCENDING), ("name", ASCENDING)]),
            ]
        )

    async def add(self, account: Document, once: Idempotency | None = None) -> Document:
        """Store a new account; or give the one that the same request made before.

        Raises LoginTaken, and KeyReused if the key was used for another registration."""
        if once:
            account = {**account, "registration": {"key": once.key, "request": once.request}}
        try:
            await self._accounts.insert_one(account)
        except DuplicateKeyError:
            earlier = await self._accounts.find_one({"registration.key": once.key}) if once else None
            if earlier is None:
                raise LoginTaken from None
            if once and earlier["registration"]["request"] != once.request:
                raise KeyReused from None
            return earlier
        return account

    async def find(self, account_id: str) -> Document | None:
        """One account."""
        return await self._accounts.find_one({"_id": account_id})

    async def by_login(self, login: str) -> Document | None:
        """The account that signs in by ``login`` (normal form)."""
        return await self._accounts.find_one({"logins": login})

    async def change(self, account_id: str, version: int, changes: Mapping[str, Any]) -> bool:
        """Change an account if it is still at ``version``; its version grows by one. Raises LoginTaken."""
        try:
            result = await self._accounts.update_one(
                {"_id": account_id, "version": version}, {"$set": dict(changes), "$inc": {"version": 1}}
            )
        except DuplicateKeyError:
            raise LoginTaken from None
        return result.modified_count == 1

    async def rehashed(self, account_id: str, password_hash: str) -> None:
        """Keep a password's hash that was made anew with today's parameters."""
        await self._accounts.update_one({"_id": account_id}, {"$set": {"password_hash": password_hash}})

    async def contacts_due(self, limit: int = 200) -> list[Document]:
        """Citizens whose contact has changed and may not have been told to notify."""
        return [account async for account in self._accounts.find({"contact_due": True}).limit(limit)]

    async def contact_told(self, account_id: str, version: int) -> None:
        """The contact of this version is in the journal."""
        await self._accounts.update_one({"_id": account_id, "version": version}, {"$set": {"contact_due": False}})

    async def staff(self) -> list[Document]:
        """All accounts that are not citizens', by role and name."""
        roles = [role.value for role in Role if role is not Role.CITIZEN]
        cursor = self._accounts.find({"role": {"$in": roles}}).sort([("role", ASCENDING), ("name", ASCENDING)])
        return [account async for account in cursor]
