"""Puts the sla service together."""

from collections.abc import Sequence
from datetime import timedelta

from fastapi import FastAPI

from services.sla import api
from services.sla.desk import Rules
from services.sla.level import Level
from services.sla.metrics import ClockMetrics
from services.sla.projection import CONSUMES, ISSUES
from services.sla.settings import Settings
from services.sla.store import ClockStore
from services.sla.ticker import Ticker
from shared import telemetry
from shared.contract import Contract
from shared.events import Event, now
from shared.service import Service


def build(settings: Settings) -> FastAPI:
    """The application; nothing is connected until it starts."""
    service = Service("sla", settings, Contract(consumes=CONSUMES, issues=ISSUES))
    rules = Rules(settings.deadlines, settings.grace, settings.patience)
    clocks = ClockStore(service.database, rules)
    journal = service.journal([clocks.projection])
    metrics = ClockMetrics()
    level = Level(settings, "sla", CONSUMES)
    ticker = Ticker(clocks, journal, level, rules, metrics, settings.alarm_batch)

    async def take(events: Sequence[Event]) -> None:
        changed = await clocks.projection.apply(events)
        metrics.observe_stopped(changed, frozenset(event.id for event in events))

    async def count() -> None:
        metrics.set_running(await clocks.count_running(now()))
        for status, complaints in (await clocks.count_by_status()).items():
            telemetry.CASES.labels(status).set(complaints)

    service.consume(take)
    service.before_start(clocks.ensure_indexes)
    service.every(timedelta(seconds=settings.alarm_tick_seconds), ticker.tick)
    service.keep()
    service.every(timedelta(seconds=5), count)
    service.after_stop(level.stop)
    return service.app(
        "LAPOR! Pontianak: sla",
        "The clocks of the procedure: what is due, what is overdue, and how well the times are kept.",
        [api.router(clocks)],
    )
