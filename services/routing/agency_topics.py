"""The agencies' own topics follow the directory: one is there soon after its agency is."""

import asyncio

import structlog
from aiokafka.errors import KafkaError

from services.routing.agency_store import AgencyStore
from shared import topics
from shared.settings import ServiceSettings

log = structlog.get_logger()

_WAIT_SECONDS = 5.0


class AgencyTopics:
    """Makes the topics that are missing. Until an agency has its topic, its assignments are not marked as published,
    and the relay sends them again."""

    def __init__(self, settings: ServiceSettings, directory: AgencyStore) -> None:
        self._settings = settings
        self._directory = directory
        self._there: set[str] = set()

    async def follow(self) -> None:
        """One look at the directory. Does not raise for what the brokers say: the next look tries again."""
        codes = {agency["_id"] for agency in await self._directory.all(active_only=False)} - self._there
        if not codes:
            return
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await topics.create_of_agencies(self._settings, sorted(codes))
        except (KafkaError, TimeoutError, OSError) as error:
            log.warning("the agencies' topics could not be made now", reason=repr(error), agencies=sorted(codes))
        else:
            self._there |= codes
