"""Puts the notify service together."""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from fastapi import FastAPI

from services.notify import api, export
from services.notify.arrivals import Arrivals
from services.notify.code_store import CodeStore
from services.notify.codes import CARRIERS, Codes
from services.notify.compose import Composer
from services.notify.delivery_store import DeliveryStore
from services.notify.evidence import Evidence
from services.notify.outbox import Outbox
from services.notify.projection import CONSUMES, ISSUES
from services.notify.retention import keepings
from services.notify.settings import Settings
from services.notify.smtp import MailConnection
from services.notify.store import CitizenStore, InboxStore
from services.notify.texts import Texts
from shared.contract import Contract
from shared.events import Event
from shared.service import Service


def build(settings: Settings) -> FastAPI:
    """The application; nothing is connected until it starts."""
    service = Service("notify", settings, Contract(consumes=CONSUMES, issues=ISSUES))
    inbox, deliveries = InboxStore(service.database), DeliveryStore(service.database)
    citizens = CitizenStore(service.database)
    texts = Texts()
    evidence = Evidence(settings)
    arrivals = Arrivals(
        settings,
        inbox,
        deliveries,
        citizens,
        wake=lambda: outbox.wake(),
        issue=lambda event: outbox.issue(event),
    )
    journal = service.journal([arrivals])
    composer = Composer(texts, settings.mail_from, settings.report_link)
    outbox = Outbox(settings, deliveries, citizens, journal, composer, evidence)

    code_store = CodeStore(service.database)
    codes = Codes(settings, code_store, texts, composer)

    async def take(events: Sequence[Event]) -> None:
        await codes.take(events)
        await arrivals.apply(events)

    service.consume(take)
    service.before_start(code_store.ensure_indexes)
    service.before_start(inbox.ensure_indexes)
    service.before_start(deliveries.ensure_indexes)
    service.keep(*keepings(service.database))
    service.every(timedelta(0), outbox.turn)
    service.every(timedelta(0), outbox.record)
    service.every(timedelta(seconds=15), outbox.count)
    carriers = [(outbox.carry, timedelta(0))] * settings.smtp_connections
    carriers += [(codes.carry, timedelta(milliseconds=20))] * CARRIERS
    for carry, pause in carriers:
        connection = MailConnection(settings)
        service.every(pause, partial(carry, connection))
        service.after_stop(connection.close)
    service.after_stop(outbox.release)
    service.after_stop(evidence.close)
    return service.app(
        "LAPOR! Pontianak: notify",
        "Tells people: inbox, e-mail, and the reply of SOP step 6 with the photo of the finished work.",
        [api.router(inbox, deliveries, citizens, texts), export.router(inbox, citizens, texts, service.audit)],
    )
