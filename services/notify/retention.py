"""Notify's part of the table of `shared.kept`."""

from services.notify.delivery_store import DeliveryStore
from services.notify.store import InboxStore
from shared.kept import DELIVERIES, INBOX
from shared.retention import Keeping
from shared.storage import Database


def keepings(database: Database) -> tuple[Keeping, ...]:
    """What it has of it in its database."""
    return Keeping(INBOX, InboxStore(database)), Keeping(DELIVERIES, DeliveryStore(database))
