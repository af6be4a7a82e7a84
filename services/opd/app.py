"""Puts the opd service together."""

from datetime import timedelta

from fastapi import FastAPI

from services.opd import api
from services.opd.projection import CONSUMES, ISSUES
from services.opd.settings import Settings
from services.opd.store import WorkStore
from shared import telemetry
from shared.contract import Contract
from shared.photos import Photos
from shared.pseudonyms import Pseudonyms
from shared.service import Service


def build(settings: Settings) -> FastAPI:
    """The application; nothing is connected until it starts."""
    service = Service("opd", settings, Contract(consumes=CONSUMES, issues=ISSUES))
    work = WorkStore(service.database)
    photos = Photos(service, "opd", settings.photos)
    journal = service.journal([work.projection])
    service.consume(work.projection.apply)
    service.before_start(work.ensure_indexes)

    async def count() -> None:
        for status, complaints in (await work.count_by_status()).items():
            telemetry.CASES.labels(status).set(complaints)

    service.keep()
    service.every(timedelta(seconds=15), count)
    return service.app(
        "LAPOR! Pontianak: opd",
        "The agencies' desks: SOP step 4. An operator sees the work of one agency only.",
        [api.router(work, journal, photos, Pseudonyms(settings.pseudonym_key_file))],
    )
