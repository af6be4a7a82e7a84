"""Logs, metrics and trace context: the same in each service, and never a line of it in an endpoint or a handler.

Metric names are ``lapor_<noun>_<unit>`` (Prometheus naming practice); labels come from tables in code, never from a
request.
"""

import logging
import re
import secrets
import time
from collections.abc import Collection, Iterable
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.sop import Status, Transition

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

HTTP_REQUESTS = Histogram(
    "lapor_http_request_duration_seconds",
    "Requests answered, by route.",
    ["method", "route", "status"],
    buckets=_SECONDS,
)
HTTP_IN_PROGRESS = Gauge("lapor_http_requests_in_progress", "Requests being answered.")
TRANSITIONS = Counter("lapor_transitions_total", "SOP transitions that this service made.", ["transition"])
CASES = Gauge("lapor_complaints", "Complaints that this service knows, by status.", ["status"])
PHOTOS = Counter("lapor_photos_total", "Photos sent, by what became of them.", ["outcome"])
UNPUBLISHED = Gauge("lapor_journal_unpublished_entries", "Journal entries that wait to be published.")
UNPUBLISHED_AGE = Gauge(
    "lapor_journal_oldest_unpublished_seconds", "How long the oldest of them has waited; 0 if none waits."
)
CONSUMED = Counter("lapor_events_consumed_total", "Events taken from the topics.", ["topic"])
CONSUMER_LAG = Gauge("lapor_consumer_lag_records", "Records not yet taken, per topic.", ["topic"])
CONSUMER_BATCH = Histogram(
    "lapor_consumer_batch_duration_seconds", "Time to apply one batch of events.", buckets=_SECONDS
)
CONSUMER_PROGRESS = Gauge(
    "lapor_consumer_last_progress_timestamp_seconds", "When the consumer last moved on or was level."
)
DEAD_LETTERS = Counter("lapor_dead_letters_total", "Records put aside as unusable.", ["topic"])

TRACE: ContextVar[str | None] = ContextVar("TRACE", default=None)
"""The trace context (W3C ``traceparent``) of the request being answered; None where none is."""
_TRACEPARENT = re.compile(r"^00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$")


def begin_at_zero(consumes: Iterable[str], issues: Collection[str]) -> None:
    """Give the counters of a service's topics their series, so that nothing amiss shows as 0 and not as nothing."""
    for topic in consumes:
        for metric in (CONSUMED, CONSUMER_LAG, DEAD_LETTERS):
            metric.labels(topic)
    for transition in Transition:
        if transition.topic in issues:
            TRANSITIONS.labels(transition.value)
    for status in Status:
        CASES.labels(status.value)


def configure_logs(service: str, level: str, json: bool) -> None:
    """One line per log entry, JSON or for people; the standard library's loggers (servers, drivers) go the same way."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _name(service),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        cache_logger_on_first_use=True,
    )
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=False)
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for noisy in ("uvicorn.access", "aiokafka", "pymongo", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _name(service: str) -> structlog.typing.Processor:
    def add(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["service"] = service
        return event

    return add


def bind_complaint(complaint_id: str) -> None:
    """Put the complaint's id on each log line of this request."""
    structlog.contextvars.bind_contextvars(complaint_id=complaint_id)


def bind_account(account_id: str) -> None:
    """Put the opaque id of whoever asks on each log line of this request."""
    structlog.contextvars.bind_contextvars(account=account_id)


def trace_id(header: bytes | None) -> str | None:
    """The trace that a ``traceparent`` header names, whoever wrote it; None if it names none."""
    match = _TRACEPARENT.match(header.decode("latin-1")) if header else None
    return match.group(1) if match else None


@lru_cache(1000)  # to find a series takes as long as to count in it
def _requests(method: str, route: str, status: str) -> Histogram:
    return HTTP_REQUESTS.labels(method, route, status)


class Observe:
    """ASGI middleware: rate, errors and duration per route, the trace context, and one log line per request that failed
    or that nobody was let in with (OWASP ASVS 16.3).

    Each request begins a trace of its own, as W3C Trace Context allows at a border of trust: its id goes with the
    events to everybody who reads them, and one that callers choose would say which anonymous reports are one person's.
    Theirs is in the log lines, beside it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        fresh = secrets.token_hex(24)
        trace = fresh[:32]
        TRACE.set(f"00-{trace}-{fresh[32:]}-01")
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(trace_id=trace)
        theirs = trace_id(next((value for name, value in scope["headers"] if name == b"traceparent"), None))
        if theirs:
            structlog.contextvars.bind_contextvars(caller_trace_id=theirs)
        status = 500
        started = time.perf_counter()

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-trace-id", trace.encode())]
            await send(message)

        HTTP_IN_PROGRESS.inc()
        try:
            await self._app(scope, receive, observed)
        finally:
            HTTP_IN_PROGRESS.dec()
            route = getattr(scope.get("route"), "path", "unknown")
            elapsed = time.perf_counter() - started
            _requests(scope["method"], route, str(status)).observe(elapsed)
            if status in (401, 403):
                structlog.get_logger().info("not let in", method=scope["method"], route=route, status=status)
            if status >= 500 and not str(route).startswith("/health/"):  # those who ask for health ask every moment
                structlog.get_logger().error(
                    "request failed", method=scope["method"], route=route, status=status, seconds=round(elapsed, 4)
                )
