"""Second factors as they are stored. What may happen once only is one conditional write."""

from shared.events import now
from shared.projection import Document
from shared.storage import Database, DuplicateKeyError


class SecondFactorStore:
    """The collection ``second_factors``: ``{_id: account, secret, active, last_step, recovery, made_at}``.

    The secret is enciphered; of the recovery codes that are left there is the SHA-256; ``last_step`` is the latest time
    step of which a code was accepted."""

    def __init__(self, database: Database) -> None:
        self._factors = database["second_factors"]

    async def find(self, account_id: str) -> Document | None:
        """An account's, be it active or not confirmed yet."""
        return await self._factors.find_one({"_id": account_id})

    async def begin(self, account_id: str, secret: bytes) -> bool:
        """Keep a secret that is to be confirmed, in place of an earlier such one; False if one is active already."""
        begun = {"secret": secret, "last_step": 0, "recovery": [], "made_at": now()}
        try:
            await self._factors.update_one({"_id": account_id, "active": False}, {"$set": begun}, upsert=True)
        except DuplicateKeyError:
            return False
        return True

    async def activate(self, factor: Document, step: int, recovery: list[str]) -> bool:
        """It was confirmed by a code of this time step; False if it has changed since it was read."""
        unconfirmed = {"_id": factor["_id"], "secret": factor["secret"], "active": False}
        changes = {"active": True, "last_step": step, "recovery": recovery}
        return (await self._factors.update_one(unconfirmed, {"$set": changes})).modified_count == 1

    async def use_step(self, factor: Document, step: int) -> bool:
        """A code of this time step was given; False if one of it, or of a later one, was accepted before."""
        unused = {"_id": factor["_id"], "secret": factor["secret"], "active": True, "last_step": {"$lt": step}}
        return (await self._factors.update_one(unused, {"$set": {"last_step": step}})).modified_count == 1

    async def use_recovery(self, factor: Document, hashed: str) -> bool:
        """A recovery code was given; False if there is none of this hash any more."""
        left = {"_id": factor["_id"], "active": True, "recovery": hashed}
        return (await self._factors.update_one(left, {"$pull": {"recovery": hashed}})).modified_count == 1

    async def remove(self, account_id: str) -> bool:
        """Forget an account's; False if it has none."""
        return (await self._factors.delete_one({"_id": account_id})).deleted_count == 1
