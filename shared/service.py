"""What every service is made of: connections, journal, consumer, periodic work, health, metrics and documents.

A service's ``app.py`` says what is its own and calls `Service.app`. Nothing is connected before the application starts,
and the application starts without its servers: ``/health/ready`` names what is missing until they are there.
"""

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import reduce
from typing import Any

import structlog
import uvicorn
from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp

from shared import asyncapi, docs_page, http, kept, openapi, retention, telemetry
from shared.admission import Admission, BodyLimit
from shared.agency_feed import copies
from shared.audit_store import AgeingAudit, MongoAudit, audit_log
from shared.auth import Verifier
from shared.connections import kafka_on_uvloop, kafka_options
from shared.consumer import EventConsumer
from shared.contract import Contract
from shared.direct import ShortWay
from shared.ended_sessions import EVERY, EndedSessionsReader
from shared.events import AuditAnchored, now
from shared.headers import SecurityHeaders, cross_origin
from shared.journal import Journal, Projecting, Taken
from shared.limit_store import LimitStore
from shared.limits import Addresses, Limiting, Limits
from shared.publisher import Publisher
from shared.receiver import Handle
from shared.refusals import Refused, kafka_refusal
from shared.retention import Keeping, Retention
from shared.settings import ServiceSettings
from shared.storage import Database, MongoJournal, Presence, connect, refusal
from shared.topics import dead_letters

log = structlog.get_logger()

Step = Callable[[], Awaitable[None]]

_STOP_SECONDS = 40.0
"""What is longer about its end than this is left to the end of the process; batches and journals have 30 to finish."""

REFUSALS_EVERY = timedelta(seconds=30)
ANCHOR_EVERY = timedelta(seconds=60)
"""What is cut off the end of the audit log within this time of being written is not seen."""

_KEEP_ALIVE_SECONDS = 75
"""Longer than proxies and clients keep a connection that is not used (a minute at most, as a rule): who ends it while
the other one sends loses a request."""

MAX_BODY_BYTES = 256 * 1024
"""Of a request whose body is JSON: more than the longest texts of a report take in any encoding."""


class App(FastAPI):
    """An application with layers outside of the framework's own: ``doors``, the outermost last."""

    doors: Sequence[Callable[[ASGIApp], ASGIApp]] = ()

    def build_middleware_stack(self) -> ASGIApp:
        return reduce(lambda inner, door: door(inner), self.doors, super().build_middleware_stack())

    def openapi(self) -> dict[str, Any]:
        return self.openapi_schema or openapi.mended(super().openapi())


class Service:
    """One service at work. ``name`` is its database's, group's and CloudEvents source's name."""

    def __init__(self, name: str, settings: ServiceSettings, contract: Contract) -> None:
        self.name = name
        self.settings = settings
        self.contract = contract
        telemetry.begin_at_zero(contract.consumes, contract.issues)
        self._client = connect(settings)
        self.database: Database = self._client[settings.database(name)]
        self.publisher = Publisher(
            settings.kafka_bootstrap,
            settings.topic_prefix,
            name,
            security=kafka_options(settings),
            copies=copies,
        )
        self.verifier = Verifier(f"{settings.intake_url}/.well-known/jwks.json", settings.issuers)
        self.audit = audit_log(self.database, name, settings.audit_key_file)
        self._audit_store = MongoAudit(self.database)
        self._anchored = 0
        self._journal_store = MongoJournal(self.database)
        self._journal: Journal | None = None
        self._consumer: EventConsumer | None = None
        self._prepare: list[Step] = [self._journal_store.ensure_indexes, self._audit_store.ensure_indexes]
        self._finish: list[Step] = []
        self._periodic: list[tuple[timedelta, Step]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._missing = "start-up"
        self._refused = ""
        self._rejoin = False
        if name != "intake":  # which knows by itself
            signed_out = EndedSessionsReader(settings.intake_url, self.verifier)
            self.every(EVERY, signed_out.read)
            self.after_stop(signed_out.close)

    def journal(self, projections: Sequence[Projecting]) -> Journal:
        """This service's journal, which keeps ``projections`` up to date with what it writes."""
        self._journal = Journal(
            self._journal_store,
            self.publisher,
            projections,
            queue=self.settings.journal_queue,
            batch=self.settings.journal_batch,
            relay_after=timedelta(seconds=self.settings.relay_after_seconds),
        )
        self.every(ANCHOR_EVERY, self.anchor)
        return self._journal

    def keep(self, *keepings: Keeping) -> None:
        """Remove these classes of data at the end of their time, and the audit log's beginning: each service's last
        word on what it stores."""
        audit = Keeping(kept.AUDIT, AgeingAudit(self.database, self.audit))
        self.every(retention.EVERY, Retention(self.settings.retention, self.audit, [*keepings, audit]).turn)

    async def anchor(self) -> None:
        """Tell how far the audit log goes, if that has not been told; with several processes, one of them does."""
        head = await self._audit_store.head()
        if head is None or head["_id"] == self._anchored or self._journal is None:
            return
        n = head["_id"]
        event = AuditAnchored(id=f"audit:{self.name}:{n}", occurred_at=now(), service=self.name, n=n, hash=head["hash"])
        with suppress(Taken):
            await self._journal.append(event)
        self._anchored = n

    def consume(self, handle: Handle) -> None:
        """Hand the events of the contract's topics to ``handle``."""
        self._consumer = EventConsumer(self.settings, self.name, self.contract.consumes, handle, self.publisher)

    def before_start(self, step: Step) -> None:
        """Do this once the database is there and before anything is served or consumed: indexes, keys."""
        self._prepare.append(step)

    def after_stop(self, step: Step) -> None:
        """Do this at the end: close what the service opened."""
        self._finish.append(step)

    def every(self, interval: timedelta, step: Step) -> None:
        """Repeat this while the service runs; a failure is logged and the next turn comes all the same."""
        self._periodic.append((interval, step))

    def app(self, title: str, description: str, routers: Sequence[APIRouter]) -> FastAPI:
        """The ASGI application, with health, metrics and documents beside the service's own routes."""
        app = App(
            title=title,
            description=description,
            version="1.0.0",
            lifespan=self._lifespan,
            docs_url=None,
            redoc_url=None,
            telemetry={"tracing": False, "metrics": False, "logs": False},  # it would look for them at each request
            redirect_slashes=False,  # the framework would send the caller to whatever host they named
            openapi_url="/openapi.json" if self.settings.docs else None,
            responses=http.PROBLEMS,
        )
        app.state.verifier, app.state.service = self.verifier, self.name
        http.install(app)
        most = self.settings.requests_at_a_time
        app.doors = [
            lambda inner: ShortWay(inner, routers),
            self._limiting(),
            telemetry.Observe,
            lambda inner: BodyLimit(
                inner, MAX_BODY_BYTES, http.too_large(MAX_BODY_BYTES).response(), self.settings.body_seconds
            ),
            lambda inner: Admission(inner, most, http.busy().response(), Presence(self._client).away),
            lambda inner: cross_origin(inner, self.settings.cors_origins),
            SecurityHeaders,
        ]
        for router in routers:
            app.include_router(router)
        app.include_router(self._operations())
        if self.settings.docs:
            docs_page.install(app)
        return app

    def _limiting(self) -> Callable[[ASGIApp], ASGIApp]:
        settings = self.settings.limits
        if not settings.enabled:
            return lambda inner: inner
        store = LimitStore(self.database)
        limits = Limits(settings, store)
        self.before_start(store.ensure_indexes)
        self.every(timedelta(seconds=settings.exchange_seconds), limits.exchange)
        addresses = Addresses(settings.trusted_proxies)
        return lambda inner: Limiting(inner, limits, addresses, self.verifier)

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        start = asyncio.create_task(self._start())
        try:
            yield
        finally:
            start.cancel()
            with suppress(asyncio.CancelledError):
                await start
            await self._stop()

    async def _start(self) -> None:
        pause = 0.2
        while True:
            try:
                self._missing, self._refused = "mongodb", ""
                for step in self._prepare:
                    await step()
                if self._journal:
                    await self._journal.start()  # what is asked of the service meanwhile waits there for the brokers
                self._missing = "kafka"
                await self._look_for_refusals()
                if self._refused:
                    raise Refused(self._refused)
                if self._consumer:
                    await self._consumer.start()
                break
            except Exception as error:  # noqa: BLE001 - whatever is missing, it is named and tried again
                self._refused = self._refused or refusal(error)
                log.warning("not ready yet", missing=self._missing, reason=repr(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5)
        self.every(REFUSALS_EVERY, self._look_for_refusals)
        if self._journal:
            self.every(timedelta(seconds=5), self._count_unpublished)
        self._tasks = [asyncio.create_task(self._repeat(interval, step)) for interval, step in self._periodic]
        self._missing, self._rejoin = "", False
        gc.collect()
        gc.freeze()  # what is here by now stays: no collection need look at it again
        log.info("ready")

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        parts = [part.stop for part in (self._consumer, self._journal) if part]
        for step in (*parts, *self._finish, self.publisher.stop):
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await step()
            except (Exception, asyncio.CancelledError):  # aiokafka's can raise the cancellation of a task of its own
                log.exception("not stopped as it should be; the rest is", work=_name(step))
        self._client.close()

    async def _repeat(self, interval: timedelta, step: Step) -> None:
        task = asyncio.current_task()
        while True:
            try:
                await step()
            except Exception:
                log.exception("periodic work failed", work=_name(step))
            if task and task.cancelling():  # a library's wait_for can swallow a cancellation (CPython 86296)
                return
            await asyncio.sleep(interval.total_seconds())

    async def _look_for_refusals(self) -> None:
        group = self.settings.group(self.name)
        mine = [self.settings.topic_prefix + topic for topic in (*self.contract.consumes, *self.contract.publishes)]
        before, self._refused = self._refused, await kafka_refusal(self.settings, [*mine, dead_letters(group)], group)
        if self._refused and self._refused != before:
            log.error("refused", reason=self._refused)
        self._rejoin = self._rejoin or bool(self._refused)
        if self._rejoin and not self._refused and not self._missing and self._consumer:
            await self._consumer.rejoin()
            self._rejoin = False

    async def _count_unpublished(self) -> None:
        telemetry.UNPUBLISHED.set(await self._journal_store.count_unpublished())
        oldest = await self._journal_store.oldest_unpublished()
        telemetry.UNPUBLISHED_AGE.set(max(0.0, (now() - oldest).total_seconds()) if oldest else 0)

    def _operations(self) -> APIRouter:
        router = APIRouter(tags=["operations"], responses={})

        @router.get("/health/live", summary="The process works; if not, restart it")
        async def live() -> JSONResponse:
            stalled = bool(self._consumer and self._consumer.stalled)
            return JSONResponse({"status": "stalled" if stalled else "live"}, 503 if stalled else 200)

        @router.get("/health/ready", summary="The service can take requests; if not, what it misses")
        async def ready() -> JSONResponse:
            missing = [_with(self._missing, self._refused)] if self._missing else await self._absent()
            lag = self._consumer.lag if self._consumer else 0
            return JSONResponse(
                {"status": "waiting" if missing else "ready", "missing": missing, "lag": lag}, 503 if missing else 200
            )

        @router.get(
            "/metrics",
            summary="Prometheus metrics",
            response_class=Response,
            responses={200: openapi.TEXT_ANSWER},
        )
        async def metrics() -> Response:
            return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

        if self.settings.docs:
            description = asyncapi.document(
                self.name, self.contract.consumes, self.contract.publishes, self.settings.topic_prefix
            )

            @router.get("/asyncapi.json", summary="The events this service takes and issues (AsyncAPI 3)")
            async def events() -> dict[str, Any]:
                return description

        return router

    async def _absent(self) -> list[str]:
        absent = []
        try:
            async with asyncio.timeout(2):
                await self.database.command("ping")
        except Exception as error:  # noqa: BLE001 - whatever the reason, it is not there
            absent.append(_with("mongodb", refusal(error)))
        if self._refused:
            absent.append(_with("kafka", self._refused))
        if self._consumer and self._consumer.stalled:
            absent.append("consumer progress")
        return absent


def _name(step: Step) -> str:
    return getattr(step, "__qualname__", repr(step))


def _with(missing: str, reason: str) -> str:
    return f"{missing}: {reason}" if reason else missing


def serve(app: FastAPI, name: str, settings: ServiceSettings) -> None:
    """Run the application until SIGTERM or SIGINT; requests under way are finished first."""
    telemetry.configure_logs(name, settings.log_level, settings.log_format == "json")
    kafka_on_uvloop()
    # The database driver works in threads. By default each waits up to 5 ms for a busy event loop to let it on, at each
    # answer that it gets.
    sys.setswitchinterval(0.0005)
    # Hardly any garbage needs collecting, and the service stands still while it is looked for. Most batches of
    # thousands of records come and go without a look.
    gc.set_threshold(200_000, 5, 5)
    # The server hands the signal that ended it on to whoever it was for before. By itself SIGTERM would end the process
    # at once, and what Python cleans up at its end, such as the photo workers' folder in /tmp, would be left there.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # shared.limits looks at addresses, and believes only the proxies that it is told
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=10,
    )
