"""Intake's part of the table of `shared.kept`."""

from datetime import datetime

from services.intake.account_store import AccountStore
from services.intake.store import AccessStore, photos_reported
from shared.kept import IDENTITY_ACCESSES, PHOTOS, STAFF
from shared.media_store import PhotoStore, UnusedPhoto
from shared.retention import BATCH, Keeping
from shared.storage import Database


def keepings(database: Database) -> tuple[Keeping, ...]:
    """What it has of it in its database."""
    return (
        Keeping(IDENTITY_ACCESSES, AccessStore(database)),
        Keeping(STAFF, AccountStore(database)),
        Keeping(PHOTOS, UnusedPhotos(database)),
    )


class UnusedPhotos:
    """Photos that are in no report of their owners'. Each is looked for once: one that is in a report stays, and a
    report that is being filed holds none so old (`shared.photos.USABLE`)."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._photos = PhotoStore(database)

    async def due(self, before: datetime) -> int:
        """How many photos of before a moment are to be removed."""
        after: datetime | None = None
        while photos := await self._photos.unused(before, BATCH, after):
            await self._unreported(photos)
            if after == photos[-1].stored_at:
                break
            after = photos[-1].stored_at
        return await self._photos.count_unused(before)

    async def remove(self, before: datetime, limit: int) -> int:
        """Remove up to ``limit`` of them, oldest first; returns how many."""
        photos = await self._unreported(await self._photos.unused(before, limit))
        return sum([await self._photos.remove_unused(photo.id, before) for photo in photos])

    async def _unreported(self, photos: list[UnusedPhoto]) -> list[UnusedPhoto]:
        """Those that are in no report; the others are kept, and not looked for again."""
        owners = {owner for photo in photos for owner in photo.owners}
        of = {owner: await photos_reported(self._database, owner) for owner in owners}
        reported = [photo.id for photo in photos if any(photo.id in of[owner] for owner in photo.owners)]
        await self._photos.keep(reported)
        return [photo for photo in photos if photo.id not in reported]
