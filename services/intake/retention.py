"""Intake's part of the table of `shared.kept`."""

from services.intake.account_store import AccountStore
from services.intake.store import AccessStore
from shared.kept import IDENTITY_ACCESSES, STAFF
from shared.retention import Keeping
from shared.storage import Database


def keepings(database: Database) -> tuple[Keeping, ...]:
    """What it has of it in its database."""
    return Keeping(IDENTITY_ACCESSES, AccessStore(database)), Keeping(STAFF, AccountStore(database))
