"""P8: the clocks and alarms that a complaint's events call for, computed anew from the procedure's table."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.sop import CLOCKS, MOVES, Clock, Role, Status
from tests.chaos.chains import TIMES, WARN_SHARE, Life, Told
from tests.chaos.history import Json


@dataclass(frozen=True, slots=True)
class Interval:
    """One run of a clock: from the event that opened it to the one that ended it, if any has."""

    clock: Clock
    seq: int
    status: str
    agency: str | None
    opened_at: datetime
    due_at: datetime | None
    stopped_at: datetime | None
    stopped_by: str | None

    @property
    def late(self) -> bool:
        return bool(self.stopped_at and self.due_at and self.stopped_at > self.due_at)


def intervals(life: Life) -> list[Interval]:
    """All runs of all clocks: each longest stretch of events that leave the complaint in a clock's statuses."""
    found: list[Interval] = []
    for rule in CLOCKS.values():
        stretch: list[tuple[Told, Status]] = []
        for told in [*life.chain, None]:
            status = MOVES[told.transition].target if told and told.transition else None
            if told and status in rule.statuses:
                assert status is not None
                stretch.append((told, status))
                continue
            if stretch:
                found.append(_interval(rule.clock, stretch, told))
                stretch = []
    return [_until_receipt(life, one) if CLOCKS[one.clock].met_by_receipt else one for one in found]


def _interval(clock: Clock, stretch: list[tuple[Told, Status]], end: Told | None) -> Interval:
    first, last_status = stretch[0][0], stretch[-1][1]
    rule = CLOCKS[clock]
    told = first.event.get("due_at")
    ordinary = first.at + TIMES[clock.value] if clock.value in TIMES else None
    agency = (first.event.get("agency") or {}).get("code") if rule.role is Role.AGENCY_OPERATOR else None
    if rule.met_by_receipt and end is not None and MOVES[end.transition].target is not Status.CLOSED:  # type: ignore[index]
        end = None
    return Interval(
        clock,
        first.seq,
        last_status.value,
        agency,
        first.at,
        told or ordinary,
        end.at if end else None,
        end.id if end else None,
    )


def _until_receipt(life: Life, one: Interval) -> Interval:
    """The receipt's clock is met by the delivered notice, or ends when the complaint is closed before."""
    closed = next((t for t in life.chain if t.topic == "complaint.closed"), None)
    ends = [(closed.at, closed.id)] if closed else []
    receipts = sorted(
        (t.at, t.id)
        for t in life.beside
        if t.topic == "notification.delivered" and t.event["about"] == f"{life.complaint_id}:1"
    )
    if receipts and not (ends and ends[0][0] < receipts[0][0]):
        ends = receipts[:1]
    at, by = ends[0] if ends else (None, None)
    return Interval(one.clock, one.seq, one.status, one.agency, one.opened_at, one.due_at, at, by)


def faults_of_clocks(life: Life, document: Json | None, at: datetime, grace: timedelta) -> Iterable[str]:
    """How the stored clocks differ from those that the events call for, and alarms that are missing, doubled or
    untrue. ``grace`` is how long after its moment an alarm may still be on its way."""
    wanted = {(one.clock.value, one.seq): one for one in intervals(life)}
    kept = (document or {}).get("clocks", [])
    if len(kept) != len(wanted):
        yield f"{len(kept)} clocks are kept, {len(wanted)} are called for"
    for clock in kept:
        key = (clock["clock"], clock["seq"])
        one = wanted.get(key)
        if one is None:
            yield f"clock {key} is not called for"
            continue
        for name in ("status", "agency", "opened_at", "stopped_at", "stopped_by"):
            if clock[name] != getattr(one, name):
                yield f"clock {key}: {name} is {clock[name]}, by the events {getattr(one, name)}"
        if one.due_at is not None:
            span = (one.due_at - one.opened_at) // timedelta(milliseconds=1)
            warn_at = one.opened_at + timedelta(milliseconds=int(span * WARN_SHARE))
            if (clock["due_at"], clock["warn_at"]) != (one.due_at, warn_at):
                yield f"clock {key} is due {clock['due_at']} and warns {clock['warn_at']}, not {one.due_at}, {warn_at}"
    yield from _faults_of_alarms(life, wanted, at, grace)


def _faults_of_alarms(
    life: Life, wanted: dict[tuple[str, int], Interval], at: datetime, grace: timedelta
) -> Iterable[str]:
    alarms = [t for t in life.beside if t.topic in ("sla.warned", "sla.breached")]
    withdrawn = [str(t.event["alarm"]) for t in life.beside if t.topic == "sla.withdrawn"]
    keys = [(t.topic, t.event["clock"], t.seq) for t in alarms]
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        yield f"{key} was raised {keys.count(key)} times"
    for alarm_id in sorted(set(withdrawn)):
        if withdrawn.count(alarm_id) > 1 or alarm_id not in {t.id for t in alarms}:
            yield f"{alarm_id} was taken back {withdrawn.count(alarm_id)} times"
    standing = {key: t for key, t in zip(keys, alarms, strict=True) if t.id not in withdrawn}
    for (topic, clock, seq), told in standing.items():
        one = wanted.get((clock, seq))
        if one is None or (one.stopped_at is not None and one.stopped_at <= told.at and not one.late):
            yield f"{topic} of clock {clock} ({seq}) stands, and is not true"
    for (clock, seq), one in wanted.items():
        if CLOCKS[one.clock].lapses or one.due_at is None:
            continue
        overdue = one.late or (one.stopped_at is None and one.due_at + grace < at)
        if overdue and ("sla.breached", clock, seq) not in standing:
            yield f"clock {clock} ({seq}) was due {one.due_at}, ended {one.stopped_at}, and no breach stands"
