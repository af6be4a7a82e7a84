"""What Prometheus reads of the clocks. Every step has its series from the start, so that nothing amiss shows as 0 and
not as nothing; an agency has them from its first follow-up on."""

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

from services.sla.clocks import State
from services.sla.store import ANSWERED_FOR
from shared.events import ClockEvent, SlaBreached, SlaWarned, SlaWithdrawn
from shared.projection import Document
from shared.sop import CLOCKS, Clock

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_SPANS = (
    1, 10, _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 30 * _MINUTE, _HOUR, 6 * _HOUR,
    _DAY, 2 * _DAY, 3 * _DAY, 5 * _DAY, 10 * _DAY, 20 * _DAY, 60 * _DAY,
)  # fmt: skip
_STATES = (State.RUNNING, State.WARNED, State.OVERDUE)

CLOCKS_RUNNING = Gauge(
    "lapor_clocks",
    "Clocks that run, by SOP step, answerable agency, and state (running, warned, overdue).",
    ["step", "clock", "agency", "state"],
)
ALARMS = Counter("lapor_sla_alarms_total", "Alarms that were issued.", ["alarm", "step", "clock", "agency"])
STEP_SECONDS = Histogram(
    "lapor_step_duration_seconds", "Time that a step took.", ["step", "clock", "verdict"], buckets=_SPANS
)
LATENESS = Histogram(
    "lapor_step_lateness_seconds", "How long after its due date a late step ended.", ["step", "clock"], buckets=_SPANS
)
KNOWN_UNTIL = Gauge(
    "lapor_sla_known_until_timestamp_seconds", "Everything published before this moment has been taken in."
)
OLDEST_ALARM = Gauge("lapor_sla_oldest_pending_alarm_seconds", "Age of the oldest alarm that is due and not issued.")

_ALARM_NAMES = {SlaWarned: "warned", SlaBreached: "breached", SlaWithdrawn: "withdrawn"}


def _labels(clock: Clock) -> tuple[str, str]:
    return str(CLOCKS[clock].step), clock.value


class ClockMetrics:
    """Writes the metrics of this process."""

    def __init__(self) -> None:
        self._agencies: dict[Clock, set[str]] = {clock: set() for clock in ANSWERED_FOR}
        for clock in ANSWERED_FOR:
            self._know(clock, "")
            LATENESS.labels(*_labels(clock))
            for verdict in (State.IN_TIME, State.LATE):
                STEP_SECONDS.labels(*_labels(clock), verdict.value)

    def _know(self, clock: Clock, agency: str) -> None:
        if agency in self._agencies[clock]:
            return
        self._agencies[clock].add(agency)
        for name in _ALARM_NAMES.values():
            ALARMS.labels(name, *_labels(clock), agency)

    def set_running(self, counts: Iterable[tuple[Clock, str | None, str, int]]) -> None:
        """Show how many clocks run now: clock, agency, state, number."""
        found = {(clock, agency or "", state): number for clock, agency, state, number in counts}
        for clock, agency, _ in found:
            self._know(clock, agency)
        for clock, agencies in self._agencies.items():
            for agency in agencies:
                for state in _STATES:
                    number = found.get((clock, agency, state.value), 0)
                    CLOCKS_RUNNING.labels(*_labels(clock), agency, state.value).set(number)

    def count_alarm(self, event: ClockEvent) -> None:
        """An alarm was issued."""
        agency = event.agency.code if event.agency else ""
        ALARMS.labels(_ALARM_NAMES[type(event)], *_labels(event.clock), agency).inc()

    def observe_stopped(self, documents: Iterable[Document], event_ids: frozenset[str]) -> None:
        """Observe the clocks that one of the events has stopped; ``documents`` are those that they have changed."""
        for document in documents:
            for clock in document["clocks"]:
                if clock["stopped_by"] in event_ids and not clock["lapses"]:
                    known = Clock(clock["clock"])
                    self._know(known, clock["agency"] or "")
                    labels = _labels(known)
                    late = (clock["stopped_at"] - clock["due_at"]).total_seconds()
                    took = (clock["stopped_at"] - clock["opened_at"]).total_seconds()
                    STEP_SECONDS.labels(*labels, (State.LATE if late > 0 else State.IN_TIME).value).observe(took)
                    if late > 0:
                        LATENESS.labels(*labels).observe(late)
