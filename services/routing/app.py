"""Puts the routing service together."""

from datetime import timedelta

from fastapi import FastAPI

from services.routing.agency_store import AgencyStore
from services.routing.agency_topics import AgencyTopics
from services.routing.api import agencies, cases, moves
from services.routing.projection import CONSUMES, ISSUES
from services.routing.settings import Settings
from services.routing.store import CaseStore
from shared import telemetry
from shared.contract import Contract
from shared.service import Service


def build(settings: Settings) -> FastAPI:
    """The application; nothing is connected until it starts."""
    service = Service("routing", settings, Contract(consumes=CONSUMES, issues=ISSUES))
    store, directory = CaseStore(service.database, settings.deadlines), AgencyStore(service.database)
    agency_topics = AgencyTopics(settings, directory)
    journal = service.journal([store.projection])
    service.consume(store.projection.apply)
    service.before_start(store.ensure_indexes)
    service.before_start(directory.ensure_indexes)

    async def count() -> None:
        for status, known in (await store.count_by_status()).items():
            telemetry.CASES.labels(status).set(known)

    service.keep()
    service.every(timedelta(seconds=15), count)
    service.every(timedelta(seconds=15), agency_topics.follow)
    return service.app(
        "LAPOR! Pontianak: routing",
        "The operators' desks, the agency directory and the coordinator's view: SOP steps 2, 3 and 5.",
        [
            moves.router(store, directory, journal, settings.deadlines),
            cases.router(store, directory, settings.deadlines),
            agencies.router(directory, agency_topics, service.audit),
        ],
    )
