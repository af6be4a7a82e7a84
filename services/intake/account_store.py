"""The accounts: the only place in the system that holds names, addresses and passwords' hashes."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.events import CitizenContact
from shared.projection import Document
from shared.sop import Role
from shared.storage import ASCENDING, Database, DuplicateKeyError, IndexModel

_MOMENT = {"$type": "date"}


def removed_login(login: str) -> str:
    """What stands in place of a login (normal form) that was removed."""
    return f"removed:{hashlib.sha256(login.encode()).hexdigest()}"


class LoginTaken(Exception):
    """Another account has this e-mail address, phone number or username."""


class AccountStore:
    """Citizens and staff, told apart by their role."""

    def __init__(self, database: Database) -> None:
        self._accounts = database["accounts"]
        self._journal = database["journal"]

    async def ensure_indexes(self) -> None:
        """No login twice; contacts that notify has not been told; what is being erased, and what is restricted."""
        await self._accounts.create_indexes(
            [
                IndexModel([("logins", ASCENDING)], unique=True),
                IndexModel([("contact_due", ASCENDING)], partialFilterExpression={"contact_due": True}),
                IndexModel([("role", ASCENDING), ("name", ASCENDING)]),
                IndexModel([("erase_at", ASCENDING)], partialFilterExpression={"erase_at": _MOMENT}),
                IndexModel([("restricted_at", ASCENDING)], partialFilterExpression={"restricted_at": _MOMENT}),
                IndexModel([("disabled_at", ASCENDING)], partialFilterExpression={"disabled_at": {"$type": "date"}}),
            ]
        )

    async def add(self, account: Document) -> Document:
        """Store a new account; returns it. Raises LoginTaken."""
        try:
            await self._accounts.insert_one(account)
        except DuplicateKeyError:
            raise LoginTaken from None
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

    async def due(self, before: datetime) -> int:
        """How many accounts were disabled before a moment and still name somebody."""
        return await self._accounts.count_documents({"disabled_at": {"$lt": before, "$type": "date"}})

    async def remove(self, before: datetime, limit: int) -> int:
        """Take the person out of up to ``limit`` of them; returns how many. In place of their logins stands what only
        who knows one finds again (`removed_login`): nobody makes the same account anew unawares."""
        found = self._accounts.find({"disabled_at": {"$lt": before, "$type": "date"}}).sort("disabled_at", ASCENDING)
        emptied = 0
        for account in await found.limit(limit).to_list(limit):
            nobody = {
                "logins": [removed_login(login) for login in account["logins"]],
                "name": "",
                "email": None,
                "phone": None,
                "password_hash": None,
                "disabled_at": None,
            }
            emptied += await self.change(account["_id"], account["version"], nobody)
        return emptied

    async def contacts_due(self, limit: int = 200) -> list[Document]:
        """Citizens whose contact has changed and may not have been told to notify."""
        return [account async for account in self._accounts.find({"contact_due": True}).limit(limit)]

    async def contact_told(self, account_id: str, version: int) -> None:
        """The contact of this version is in the journal."""
        await self._accounts.update_one({"_id": account_id, "version": version}, {"$set": {"contact_due": False}})

    async def restricted(self) -> set[str]:
        """The citizens whose data are restricted."""
        found = self._accounts.find({"restricted_at": _MOMENT}, {"_id": 1})
        return {account["_id"] async for account in found}

    async def erase(self, account: Document, at: datetime) -> bool:
        """Leave nothing of an account but its id and when it was erased, if it is still as it was read. ``erase_at`` is
        when the rest is to be erased next (`due_to_erase`)."""
        nothing = {
            "role": account["role"],
            "logins": [f"erased:{account['_id']}"],  # no address and no username: nobody signs in by it
            "name": "",
            **dict.fromkeys(("email", "phone", "agency", "restricted_at")),
            "language": account["language"],
            "password_hash": "",
            "active": False,
            "version": account["version"] + 1,
            "contact_due": False,
            "created_at": account["created_at"],
            "erased_at": at,
            "erase_at": at,
        }
        result = await self._accounts.replace_one({"_id": account["_id"], "version": account["version"]}, nothing)
        return result.modified_count == 1

    async def due_to_erase(self, at: datetime, limit: int = 100) -> list[Document]:
        """Erased accounts of which something may be left elsewhere, and whose turn it is."""
        found = self._accounts.find({"erase_at": {"$lte": at, **_MOMENT}}).sort("erase_at", ASCENDING)
        return await found.limit(limit).to_list(limit)

    async def erased_until(self, account_id: str, again_at: datetime | None) -> None:
        """It was erased elsewhere too; it is looked at again at a moment, or never."""
        await self._accounts.update_one({"_id": account_id}, {"$set": {"erase_at": again_at}})

    async def forget_contacts(self, citizen_id: str) -> None:
        """Remove the contacts that the journal has told of a citizen."""
        of_citizen = {"$gte": f"contact:{citizen_id}:", "$lt": f"contact:{citizen_id};"}
        await self._journal.delete_many({"_id": of_citizen, "topic": CitizenContact.topic})

    async def staff(self) -> list[Document]:
        """All accounts that are not citizens', by role and name."""
        roles = [role.value for role in Role if role is not Role.CITIZEN]
        cursor = self._accounts.find({"role": {"$in": roles}}).sort([("role", ASCENDING), ("name", ASCENDING)])
        return [account async for account in cursor]
