"""What the journals say of each complaint, folded here a second time: the chain, and what follows from it.

Only the procedure's table (`shared.sop`) is shared with the services; how events become a state is written anew.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from shared.sop import CLOCKS, DECLINES_BEFORE_COORDINATOR, MOVES, ClockRule, Role, Status, Transition
from tests.chaos.evidence import Evidence, taken_topics
from tests.chaos.history import Json

TIMES = {
    "receipt": timedelta(minutes=10),
    "forward": timedelta(seconds=6),
    "assign": timedelta(seconds=9),
    "follow_up": timedelta(days=10),
    "document": timedelta(seconds=8),
    "answer": timedelta(minutes=5),
    "reopen": timedelta(seconds=10),
}
"""The deadlines that the rig sets (`tests.chaos.rig.DEADLINES`) and the SOP's own; working days are left to the
calendar's tests."""

WARN_SHARE = 0.8


def transition_of(topic: str) -> Transition | None:
    """The transition that a topic is for, if it is for one."""
    kind, _, name = topic.partition(".")
    return Transition(name) if kind == "complaint" else None


@dataclass(frozen=True, slots=True)
class Told:
    """One event as a journal holds it."""

    service: str
    entry_id: str
    topic: str
    event: Json

    @property
    def id(self) -> str:
        return str(self.event["id"])

    @property
    def seq(self) -> int:
        return int(self.event["seq"])

    @property
    def at(self) -> datetime:
        at: datetime = self.event["occurred_at"]
        return at

    @property
    def transition(self) -> Transition | None:
        return transition_of(self.topic)


@dataclass(slots=True)
class Life:
    """All events about one complaint: ``chain`` sorted by ``seq``, the rest in ``beside``."""

    complaint_id: str
    chain: list[Told] = field(default_factory=list)
    beside: list[Told] = field(default_factory=list)

    def taken_by(self, service: str) -> "Life":
        """What of it a service's documents hold."""
        topics = taken_topics(service)
        beside = [told for told in self.beside if told.topic in topics]
        first = f"{self.complaint_id}:1"
        beside = [t for t in beside if t.topic != "notification.delivered" or t.event["about"] == first]
        return Life(self.complaint_id, [told for told in self.chain if told.topic in topics], beside)

    @property
    def ids(self) -> set[str]:
        return {told.id for told in (*self.chain, *self.beside)}


def lives(evidence: Evidence) -> dict[str, Life]:
    """The complaints that the journals know."""
    found: dict[str, Life] = {}
    for service, entry in evidence.events():
        event = entry["event"]
        if "complaint_id" not in event:
            continue
        life = found.setdefault(event["complaint_id"], Life(event["complaint_id"]))
        told = Told(service, str(entry["_id"]), entry["topic"], event)
        (life.chain if told.transition else life.beside).append(told)
    for life in found.values():
        life.chain.sort(key=lambda told: (told.seq, told.entry_id))
    return found


@dataclass(slots=True)
class Standing:
    """How a case stands after its chain."""

    status: Status | None = None
    seq: int = 0
    number: str | None = None
    reporter_id: str | None = None
    report: Json | None = None
    agency: Json | None = None
    binding: bool = False
    declines: int = 0
    declined_by: list[str] = field(default_factory=list)
    told_due_at: datetime | None = None
    opened_at: datetime | None = None
    submitted_at: datetime | None = None
    moved_at: datetime | None = None

    @property
    def rule(self) -> ClockRule | None:
        """The clock that runs in this status, the receipt's aside."""
        rules = [r for r in CLOCKS.values() if self.status in r.statuses and not r.met_by_receipt]
        return rules[0] if rules else None

    @property
    def due_at(self) -> datetime | None:
        """When the running step is due; None for the citizen's own time and once it is closed."""
        rule = self.rule
        if rule is None or rule.lapses or self.opened_at is None:
            return None
        return self.told_due_at or self.opened_at + TIMES[rule.clock.value]


def standing(chain: Sequence[Told]) -> Standing:
    """The fold."""
    now = Standing()
    for told in chain:
        move = told.transition
        assert move is not None
        before = now.rule
        now.status = MOVES[move].target
        if now.rule is not before:
            now.opened_at, now.told_due_at = told.at, None
        now.seq, now.moved_at = told.seq, told.at
        now.number, now.reporter_id = told.event["number"], told.event["reporter_id"]
        if "report" in told.event:
            now.report = told.event["report"]
        if move is Transition.SUBMITTED:
            now.submitted_at = told.at
        if move in (Transition.FORWARDED, Transition.RESUBMITTED, Transition.REOPENED):
            now.declines, now.declined_by = 0, []
        if move in (Transition.FORWARDED, Transition.REOPENED):
            now.agency = None
        elif move is Transition.DECLINED:
            now.agency, now.declines = None, now.declines + 1
            now.declined_by.append(told.event["agency"]["code"])
        elif "agency" in told.event:
            now.agency = told.event["agency"]
        if move is Transition.ASSIGNED:
            now.binding = bool(told.event["binding"])
        if "due_at" in told.event:
            now.told_due_at = told.event["due_at"]
    return now


def faults_of_chain(life: Life) -> Iterable[str]:
    """What is wrong with a chain by the procedure's table; nothing where it is legal."""
    seqs = [told.seq for told in life.chain]
    if seqs != list(range(1, len(seqs) + 1)):
        yield f"its seq are {seqs}"
        return
    now = Standing()
    done: list[Told] = []
    for told in life.chain:
        move, actor = told.transition, told.event["actor"]
        assert move is not None
        row = MOVES[move]
        where = f"{told.id} ({move.value} by {actor['role']})"
        if told.id != f"{life.complaint_id}:{told.seq}" or told.entry_id != told.id:
            yield f"{where} is kept as {told.entry_id}"
        if told.service != row.desk.value:
            yield f"{where} is in the journal of {told.service}"
        if Role(actor["role"]) not in row.roles:
            yield f"{where}: the role does not make this move"
        if (now.status not in row.sources) if row.sources else (now.status is not None):
            yield f"{where}: not allowed from {now.status}"
        if move is Transition.ASSIGNED:
            wanted = now.declines >= DECLINES_BEFORE_COORDINATOR
            if (actor["role"] == Role.COORDINATOR) != wanted:
                yield f"{where} after {now.declines} declines"
            if told.event["agency"]["code"] in now.declined_by and not wanted:
                yield f"{where} to an agency that has declined"
        if move is Transition.DECLINED and now.binding:
            yield f"{where} of a binding assignment"
        if now.moved_at and told.at < now.moved_at:
            yield f"{where} lies before the event that it follows"
        done.append(told)
        now = standing(done)


def same(stored: Any, sent: Any) -> bool:
    """Whether a value of a document and one of JSON are the same; times are compared as moments."""
    if isinstance(stored, datetime):
        try:
            return isinstance(sent, str | datetime) and _moment(sent) == stored
        except ValueError:
            return False
    if isinstance(stored, dict) and isinstance(sent, dict):
        return all(same(stored.get(name), sent.get(name)) for name in stored.keys() | sent.keys())
    if isinstance(stored, list | tuple) and isinstance(sent, list | tuple):
        return len(stored) == len(sent) and all(same(a, b) for a, b in zip(stored, sent, strict=True))
    return bool(stored == sent)


def _moment(value: str | datetime) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)
