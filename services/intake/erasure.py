"""A citizen's data are deleted (UU PDP 27/2022, articles 8 and 43): the person goes, the record of the cases stays.

The account is emptied at once, under the request. What is elsewhere follows within seconds and after a crash as well:
contacts in the journal and on the topic, photos that are in no report, what staff wrote when they looked the person up.
All of it is done three times. A minute later nothing that was on its way at the first time is any more; a day later the
brokers begin a new segment, so that they compact away what the one before held under the citizen's key.
"""

from collections.abc import Sequence
from datetime import timedelta

import structlog
from prometheus_client import Counter

from services.intake.account_store import AccountStore
from services.intake.challenge_store import ChallengeStore
from services.intake.sessions import Sessions
from services.intake.store import AccessStore, ComplaintStore
from shared.events import ContactErased, now
from shared.journal import EventPublisher
from shared.media_store import PhotoStore
from shared.projection import Document

log = structlog.get_logger()

ERASED = Counter("lapor_citizens_erased_total", "Citizens that have deleted their data.")
AGAIN_AFTER = (timedelta(minutes=1), timedelta(hours=25))
"""After the deletion, when its steps are done again."""


class Erasure:
    """Deletes citizens' data, wherever intake has them, and tells notify."""

    def __init__(
        self,
        accounts: AccountStore,
        complaints: ComplaintStore,
        accesses: AccessStore,
        photos: PhotoStore,
        sessions: Sessions,
        challenges: ChallengeStore,
        publisher: EventPublisher,
        again_after: Sequence[timedelta] = AGAIN_AFTER,
    ) -> None:
        self._accounts = accounts
        self._complaints = complaints
        self._accesses = accesses
        self._photos = photos
        self._sessions = sessions
        self._challenges = challenges
        self._publisher = publisher
        self._again_after = again_after

    async def begin(self, account: Document) -> bool:
        """Empty an account as it was read and end its sessions; False if it has changed meanwhile."""
        if not await self._accounts.erase(account, now()):
            return False
        await self._sessions.end_all(account["_id"])
        ERASED.inc()
        return True

    async def go_on(self) -> None:
        """Periodic work: erase elsewhere what is due."""
        for account in await self._accounts.due_to_erase(now()):
            await self._erase(account)

    async def _erase(self, account: Document) -> None:
        citizen, erased_at, at = account["_id"], account["erased_at"], now()
        await self._sessions.end_all(citizen)
        await self._challenges.forget(citizen)
        await self._accounts.forget_contacts(citizen)
        await self._accesses.forget_reasons(citizen)
        await self._photos.disown(citizen, await self._complaints.photos_of(citizen))
        event = ContactErased(id=f"erased:{citizen}:{at:%Y%m%dT%H%M%S}", occurred_at=at, citizen_id=citizen)
        if not await self._publisher.publish([event]):
            log.info("a citizen's contact is not yet taken off its topic; it is tried again")
            return
        again = [erased_at + after for after in self._again_after if erased_at + after > at]
        await self._accounts.erased_until(citizen, min(again, default=None))
