"""Judges a seed by its end: what was acknowledged, what the journals, topics and stores hold, and what providers took.

The judgement is made from the events themselves and the procedure's tables (``shared/sop.py``, the notices' table), by
code of its own. The services' folds are used once, to compare whole documents (P4), after the fields that matter have
been worked out here.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from services.notify.notices import CITIZEN, NOTICES, CitizenNotice
from shared.agency_feed import copies
from shared.events import (
    RESTRICTED,
    ChainEvent,
    ComplaintEvent,
    Event,
    NotificationDelivered,
    SlaBreached,
    SlaWarned,
    SlaWithdrawn,
    Submitted,
)
from shared.projection import Document, fold
from shared.sop import CLOCKS, DECLINES_BEFORE_COORDINATOR, MOVES, ClockRule, Role, Status, Transition
from shared.topics import agency_of
from tests.simulation.processes import CONSUMES, DEADLINES, DERIVE, ISSUES, SERVICES, SETTINGS

if TYPE_CHECKING:
    from tests.simulation.run import Simulation


@dataclass
class Verdict:
    """``violations`` are sentences, each with its property; ``repeated_mails`` those with an excuse."""

    violations: list[str] = field(default_factory=list)
    repeated_mails: int = 0

    def no(self, rule: str, what: str) -> None:
        self.violations.append(f"{rule}: {what}")


def check(simulation: "Simulation", *, settled: bool) -> Verdict:
    """All that is wrong with a seed's end."""
    verdict = Verdict()
    if not settled:
        verdict.no("P0", "not everything came to rest after the faults had ended")
    events: dict[str, Event] = {}
    for service, journal in simulation.world.servers.journals.items():
        for event in journal.all_events():
            if event.id in events:
                verdict.no("P2", f"{event.id} is in two journals, or twice in one")
            if event.topic not in ISSUES[service]:
                verdict.no("P2", f"{event.id} ({event.topic}) is not for {service} to issue")
            events[event.id] = event
    about = [event for event in events.values() if isinstance(event, ComplaintEvent)]
    _answers(simulation, events, verdict)
    for complaint in sorted({event.complaint_id for event in about}):
        mine = sorted((e for e in about if e.complaint_id == complaint), key=_along)
        _chain(complaint, [e for e in mine if isinstance(e, ChainEvent)], verdict)
        _clocks(simulation, complaint, mine, verdict)
        _documents(simulation, complaint, mine, verdict)
    _topics(simulation, events, verdict)
    _effects(simulation, about, verdict)
    _poison(simulation, verdict)
    return verdict


def _along(event: ComplaintEvent) -> tuple[int, bool, datetime, str]:
    return (event.seq, not isinstance(event, ChainEvent), event.occurred_at, event.id)


def _answers(simulation: "Simulation", events: dict[str, Event], verdict: Verdict) -> None:
    """P1 what was acknowledged is there; P7 one event per idempotency key."""
    by_key: dict[str, set[str]] = {}
    for answer in simulation.people.history:
        if answer.failure and answer.failure.startswith("unexpected"):
            verdict.no("P1", f"request {answer.request} ({answer.what}) was answered with {answer.failure}")
        if answer.event is None:
            continue
        if answer.event not in events:
            verdict.no("P1", f"{answer.event} was acknowledged and is not in the journal")
        if answer.key:
            by_key.setdefault(answer.key, set()).add(answer.event)
    for journal in simulation.world.servers.journals.values():
        for entry in journal.all_entries():
            if entry.idempotency:
                by_key.setdefault(entry.idempotency.key, set()).add(entry.event.id)
    for key, made in by_key.items():
        if len(made) > 1:
            verdict.no("P7", f"{key} made {sorted(made)}")


def _chain(complaint: str, chain: list[ChainEvent], verdict: Verdict) -> None:
    """P2 a legal path of the procedure, numbered without a gap."""
    if [event.seq for event in chain] != list(range(1, len(chain) + 1)):
        verdict.no("P2", f"{complaint} has the numbers {[event.seq for event in chain]}")
        return
    status: Status | None = None
    declines, binding, at = 0, False, datetime.min.replace(tzinfo=simulated_zone(chain))
    for event in chain:
        move = MOVES[event.transition]
        legal = status in move.sources if move.sources else status is None
        if event.transition is Transition.ASSIGNED:
            legal = legal and (event.actor.role is Role.COORDINATOR) == (declines >= DECLINES_BEFORE_COORDINATOR)
            binding = bool(getattr(event, "binding", False))
        if event.transition is Transition.DECLINED:
            legal, declines = legal and not binding, declines + 1
        if event.transition in (Transition.FORWARDED, Transition.RESUBMITTED, Transition.REOPENED):
            declines = 0
        if not legal or event.actor.role not in move.roles:
            verdict.no("P2", f"{event.id} {event.transition} by {event.actor.role} is not legal from {status}")
        if event.occurred_at < at:
            verdict.no("P2", f"{event.id} lies before the event it follows")
        status, at = move.target, event.occurred_at


def simulated_zone(chain: list[ChainEvent]) -> Any:
    """The zone of the events' times."""
    return chain[0].occurred_at.tzinfo if chain else None


def _documents(simulation: "Simulation", complaint: str, events: list[ComplaintEvent], verdict: Verdict) -> None:
    """P4 each projection has exactly the events that its service takes, and is what they fold to."""
    for service, (derive, takes) in DERIVE.items():
        first = f"{complaint}:1"
        wanted = [event for event in events if event.topic in takes]
        wanted = [e for e in wanted if not isinstance(e, NotificationDelivered) or e.about == first]
        document = simulation.world.servers.documents[service].documents.get(complaint)
        known = [(entry["topic"], entry["id"]) for entry in document["history"]] if document else []
        if known != [(event.topic, event.id) for event in wanted]:
            found, ids = {i for _, i in known}, {e.id for e in wanted}
            missing, extra = sorted(ids - found), sorted(found - ids)
            verdict.no("P4", f"{service} {complaint}: missing {missing}, extra {extra}, {len(known)}/{len(wanted)}")
            continue
        if document is None:
            continue
        moves = [event for event in wanted if isinstance(event, ChainEvent)]
        if moves and document["status"] != MOVES[moves[-1].transition].target:
            verdict.no("P4", f"{service} {complaint} says {document['status']}")
        if document != fold(None, wanted, derive):
            verdict.no("P4", f"{service} {complaint} is not the fold of its events")


def _topics(simulation: "Simulation", events: dict[str, Event], verdict: Verdict) -> None:
    """P3 each event is on its topic at least once, unchanged, and none was invented; so are the copies of assignments
    on the agencies' own topics."""
    poison = {value for _, value in simulation.poison}
    seen: set[str] = set()
    wanted = {(topic, e.id): copy.model_dump_json().encode() for e in events.values() for topic, copy in copies(e)}
    copied: set[tuple[str, str]] = set()
    for partition, log in simulation.world.servers.broker.logs.items():
        if partition.topic.endswith(".dlq"):
            continue
        for record in log:
            if record.value in poison:
                continue
            name = json.loads(record.value)["id"]
            if agency_of(SETTINGS, partition.topic):
                at = (partition.topic.removeprefix(SETTINGS.topic_prefix), name)
                if wanted.get(at) != record.value:
                    verdict.no("P3", f"{name} on {partition.topic} is not what was assigned to that agency")
                copied.add(at)
                continue
            event = events.get(name)
            if event is None or record.value != event.model_dump_json().encode():
                verdict.no("P3", f"{name} on {partition.topic} is not what a journal holds")
            elif SETTINGS.topic_prefix + event.topic != partition.topic:
                verdict.no("P3", f"{name} is on {partition.topic}")
            seen.add(name)
    verdict.violations += [f"P3: {name} is on no topic" for name in events if name not in seen]
    verdict.violations += [f"P3: {name} is not on {topic}" for topic, name in sorted(wanted.keys() - copied)]


def _effects(simulation: "Simulation", events: list[ComplaintEvent], verdict: Verdict) -> None:
    """P5 each inbox entry once, each alarm told once; e-mails repeated only where there is an excuse."""
    servers, taken = simulation.world.servers, simulation.provider.taken
    wanted = Counter(
        (event.id, f"{CITIZEN}:{event.reporter_id}" if audience == CITIZEN else audience, notice.name)
        for event in events
        for notice in NOTICES
        if isinstance(event, notice.event)
        for audience in notice.to(event)
    )
    found = Counter((e["about"], e["audience"], e["notice"]) for e in servers.inbox.entries)
    for entry in wanted | found:
        if wanted[entry] != found[entry]:
            verdict.no("P5", f"inbox entry {entry}: {found[entry]} instead of {wanted[entry]}")
    told = {e.id for e in events for n in NOTICES if isinstance(e, n.event) and n.name in set(CitizenNotice)}
    if told != {d["about"] for d in servers.deliveries.deliveries.values()}:
        verdict.no("P5", "the deliveries are not those of the events")
    reports = Counter(event.about for event in events if isinstance(event, NotificationDelivered))
    receipts = Counter(event.id for event in events if isinstance(event, Submitted))
    if reports != receipts:
        verdict.no("P5", f"reports of {sorted(reports.elements())}, not of each receipt once")
    for name, times in taken.items():
        excused = simulation.world.excuses[name]
        if times > 1 + excused:
            verdict.no("P5", f"{name} was sent {times} times, {excused} of them with an excuse")
        verdict.repeated_mails += times - 1
    for delivery in servers.deliveries.deliveries.values():
        if delivery["state"] == "sent" and delivery["_id"] not in taken:
            verdict.no("P5", f"{delivery['_id']} is said to be sent, and was not")


def _poison(simulation: "Simulation", verdict: Verdict) -> None:
    """P6 what nobody can use is in the dead letters of each group that takes the topic, but for the content of what is
    restricted, and nothing else is."""
    for service in SERVICES:
        aside = simulation.dead_letters(service)
        there = {(record.topic, record.value) for record, _ in aside}
        for topic, value in simulation.poison:
            takes = topic.removeprefix(SETTINGS.topic_prefix) in CONSUMES[service]
            if takes != ((topic, value) in there):
                verdict.no("P6", f"poison {value!r} of {topic} and the dead letters of {service}")
        for record, kept in aside:
            if (record.topic, record.value) not in simulation.poison:
                verdict.no("P6", f"a good record is among the dead letters of {service}: {record.value[:80]!r}")
            restricted = record.topic.removeprefix(SETTINGS.topic_prefix) in RESTRICTED
            if kept != (b"" if restricted else record.value):
                verdict.no("P6", f"a dead letter of {service} from {record.topic} holds {kept[:80]!r}")


@dataclass(slots=True)
class Span:
    """One run of a clock as the checker works it out."""

    clock: str
    seq: int
    opened_at: datetime
    due_at: datetime
    stopped_at: datetime | None
    answered_for: bool


def spans(events: Iterable[ComplaintEvent]) -> list[Span]:
    """The clocks of a complaint: for each rule, the stretches of the chain that lie in its statuses."""
    chain = [event for event in events if isinstance(event, ChainEvent)]
    origin = chain[0].complaint_id
    receipts = [e.occurred_at for e in events if isinstance(e, NotificationDelivered) and e.about == f"{origin}:1"]
    found = []
    for rule in CLOCKS.values():
        inside = [MOVES[event.transition].target in rule.statuses for event in chain]
        for index, event in enumerate(chain):
            if not inside[index] or (index and inside[index - 1]):
                continue
            after = [later for later, there in zip(chain[index:], inside[index:], strict=True) if not there]
            stopped = after[0].occurred_at if after else None
            if rule.met_by_receipt:
                stopped = _received(rule, chain, receipts)
            told: datetime | None = getattr(event, "due_at", None)
            seconds = DEADLINES.of(rule.clock).amount
            due = told or event.occurred_at + timedelta(seconds=seconds)
            found.append(Span(rule.clock, event.seq, event.occurred_at, due, stopped, not rule.lapses))
    return found


def _received(rule: ClockRule, chain: list[ChainEvent], receipts: list[datetime]) -> datetime | None:
    """The receipt's clock ends with the notice, or with the complaint."""
    closed = [event.occurred_at for event in chain if event.transition is Transition.CLOSED]
    return min([*receipts, *closed], default=None)


def _clocks(simulation: "Simulation", complaint: str, events: list[ComplaintEvent], verdict: Verdict) -> None:
    """P8 each clock is what the events say; P5 whoever is late is told so once, and nobody else."""
    document: Document = simulation.world.servers.documents["sla"].documents.get(complaint, {"clocks": []})
    stored = {(c["clock"], c["seq"]): (c["opened_at"], c["due_at"], c["stopped_at"]) for c in document["clocks"]}
    computed = spans(events)
    if stored != {(s.clock, s.seq): (s.opened_at, s.due_at, s.stopped_at) for s in computed}:
        verdict.no("P8", f"the clocks of {complaint} are {stored}, and should be {computed}")
    withdrawn = {event.alarm for event in events if isinstance(event, SlaWithdrawn)}
    breached = {e.id: e for e in events if isinstance(e, SlaBreached)}
    late = {
        f"{complaint}:{s.seq}:{s.clock}:breached"
        for s in computed
        if s.answered_for and (s.stopped_at is None or s.stopped_at > s.due_at)
    }
    standing = {name for name in breached if name not in withdrawn}
    if standing != late:
        verdict.no(
            "P5", f"breaches of {complaint}: missing {sorted(late - standing)}, untrue {sorted(standing - late)}"
        )
    for alarm in (e for e in events if isinstance(e, SlaWarned | SlaBreached)):
        span = next((s for s in computed if (s.clock, s.seq) == (alarm.clock, alarm.seq)), None)
        over = span is None or (span.stopped_at is not None and span.stopped_at <= alarm.occurred_at)
        if over != (alarm.id in withdrawn):
            verdict.no("P8", f"{alarm.id} {'should have been' if over else 'was'} withdrawn")
