"""The clocks of a complaint and what they call for, decided without any server."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sla import desk
from services.sla.clocks import Run, State, runs
from services.sla.desk import Rules
from services.sla.projection import deriving
from shared.calendar import Deadlines
from shared.events import ClockEvent, ComplaintEvent, SlaBreached, SlaWarned, SlaWithdrawn
from shared.projection import DECODED, chain_order, fold, history
from shared.sop import Clock, Role, Status, Transition
from tests.support.events import BEGAN_AT, PUPR, Chain

RULES = Rules(Deadlines(), grace=timedelta(seconds=2), patience=timedelta(minutes=1))
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
FOREVER = datetime(2030, 1, 1, tzinfo=UTC)
T = Transition


def of(chain: Chain) -> dict[tuple[Clock, int], Run]:
    return {(run.clock, run.seq): run for run in runs(sorted(chain.events, key=chain_order), RULES.deadlines)}


def alarms(chain: Chain, at: datetime) -> list[str]:
    due = desk.due(sorted(chain.events, key=chain_order), RULES, at)
    return [event.id.removeprefix(f"{chain.complaint_id}:") for event in due]


def issue(chain: Chain, at: datetime) -> list[str]:
    """Issue what is due, as the ticker does; returns the kinds."""
    due = desk.due(sorted(chain.events, key=chain_order), RULES, at)
    chain.events += due
    return [event.id.removeprefix(f"{chain.complaint_id}:") for event in due]


@pytest.mark.parametrize(
    ("leads_to", "clock", "step", "role", "lasts"),
    [
        ((), Clock.RECEIPT, 1, Role.SYSTEM, 10 * MINUTE),
        ((), Clock.FORWARD, 2, Role.CENTRAL_OPERATOR, 3 * DAY),
        ((T.FORWARDED,), Clock.ASSIGN, 3, Role.REGIONAL_OPERATOR, 3 * DAY),
        ((T.FORWARDED, T.ASSIGNED), Clock.FOLLOW_UP, 4, Role.AGENCY_OPERATOR, 10 * DAY),
        ((T.FORWARDED, T.ASSIGNED, T.STARTED, T.COMPLETED), Clock.DOCUMENT, 5, Role.REGIONAL_OPERATOR, 5 * MINUTE),
        ((T.FORWARDED, T.ASSIGNED, T.STARTED, T.COMPLETED, T.DOCUMENTED), Clock.ANSWER, 6, Role.SYSTEM, 5 * MINUTE),
    ],
)
def test_each_step_has_the_time_that_the_sop_gives_it(
    leads_to: tuple[Transition, ...], clock: Clock, step: int, role: Role, lasts: timedelta
) -> None:
    chain = Chain().received().through(*leads_to)
    run = next(run for run in of(chain).values() if run.clock is clock)
    assert (run.rule.step, run.rule.role, run.due_at - run.opened_at) == (step, role, lasts)
    assert run.warn_at - run.opened_at == lasts * 0.8


def test_a_clock_runs_on_through_the_statuses_that_it_covers_and_starts_anew_when_they_are_entered_again() -> None:
    chain = Chain().through(T.FORWARDED, T.ASSIGNED, T.STARTED, T.COMPLETED, T.REWORK_REQUESTED)
    found = of(chain)
    assert found[Clock.FOLLOW_UP, 3].stopped_by == f"{chain.complaint_id}:5"
    assert found[Clock.FOLLOW_UP, 3].status is Status.IN_PROGRESS
    assert found[Clock.FOLLOW_UP, 6].open
    assert found[Clock.FOLLOW_UP, 6].agency == PUPR


def test_a_declined_a_resubmitted_and_a_reopened_complaint_each_start_the_regional_desk_s_clock() -> None:
    chain = Chain().through(T.FORWARDED, T.RETURNED, T.RESUBMITTED, T.ASSIGNED, T.DECLINED)
    assert [seq for clock, seq in of(chain) if clock is Clock.ASSIGN] == [2, 4, 6]


def test_the_agency_s_clock_ends_when_the_agency_was_told() -> None:
    chain = Chain().then(T.FORWARDED)
    chain.then(T.ASSIGNED, due_at=chain.at + 2 * DAY)
    run = of(chain)[Clock.FOLLOW_UP, 3]
    assert run.due_at == chain.last.occurred_at + 2 * DAY - MINUTE
    assert run.warn_at == run.opened_at + (run.due_at - run.opened_at) * 0.8


def test_only_a_receipt_stops_the_receipt_s_clock() -> None:
    chain = Chain().through(T.FORWARDED, T.ASSIGNED)
    assert of(chain)[Clock.RECEIPT, 1].open
    chain.received(at=BEGAN_AT + 30 * MINUTE, about=2)
    assert of(chain)[Clock.RECEIPT, 1].open
    chain.received(at=BEGAN_AT + 4 * MINUTE)
    assert of(chain)[Clock.RECEIPT, 1].stopped_at == BEGAN_AT + 4 * MINUTE


def test_the_warning_comes_at_four_fifths_the_breach_at_the_due_date_each_once() -> None:
    chain = Chain().received()
    warn, due = BEGAN_AT + 3 * DAY * 0.8, BEGAN_AT + 3 * DAY
    assert issue(chain, warn + timedelta(seconds=1)) == []
    assert issue(chain, warn + timedelta(seconds=2)) == ["1:forward:warned"]
    assert issue(chain, due + timedelta(seconds=1)) == []
    assert issue(chain, due + timedelta(seconds=2)) == ["1:forward:breached"]
    assert issue(chain, FOREVER) == []
    warned, breached = [e for e in chain.events if isinstance(e, ClockEvent)]
    assert (warned.occurred_at, breached.occurred_at) == (warn, due)
    assert isinstance(breached, SlaBreached)
    assert (breached.step, breached.responsible, breached.status) == (2, Role.CENTRAL_OPERATOR, Status.SUBMITTED)


def test_a_breach_makes_the_warning_needless() -> None:
    assert alarms(Chain().received(), BEGAN_AT + 4 * DAY) == ["1:forward:breached"]


def test_the_agency_is_named_where_it_answers_for_the_step_and_only_there() -> None:
    chain = Chain().received().through(T.FORWARDED, T.ASSIGNED)
    (breached,) = desk.due(chain.events, RULES, FOREVER)
    assert (breached.clock, breached.agency) == (Clock.FOLLOW_UP, PUPR)
    chain.through(T.STARTED, T.COMPLETED)
    (breached,) = desk.due(sorted(chain.events, key=chain_order), RULES, FOREVER)
    assert (breached.clock, breached.agency) == (Clock.DOCUMENT, None)


def test_what_is_done_at_the_moment_it_is_due_is_in_time_and_a_millisecond_later_late() -> None:
    chain = Chain().received().then(T.FORWARDED, after=3 * DAY)
    assert of(chain)[Clock.FORWARD, 1].state(FOREVER) is State.IN_TIME
    late = Chain().received().then(T.FORWARDED, after=3 * DAY + timedelta(milliseconds=1))
    assert of(late)[Clock.FORWARD, 1].state(FOREVER) is State.LATE


def test_a_step_that_ended_late_while_nobody_looked_is_told_as_breached_and_not_warned_of() -> None:
    chain = Chain().received().then(T.FORWARDED, after=4 * DAY)
    assert alarms(chain, chain.at) == ["1:forward:breached"]


def test_a_step_that_ended_in_time_is_not_told_however_late_its_event_arrives() -> None:
    chain = Chain().received().then(T.FORWARDED, after=2.9 * DAY)
    chain.then(T.ASSIGNED)
    assert "1:forward:breached" not in alarms(chain, FOREVER)


def test_a_breach_that_a_late_message_disproves_is_taken_back_once_and_so_is_the_warning_if_untrue() -> None:
    chain = Chain().received()
    assert issue(chain, BEGAN_AT + 2.5 * DAY) == ["1:forward:warned"]
    assert issue(chain, BEGAN_AT + 3.5 * DAY) == ["1:forward:breached"]
    chain.then(T.FORWARDED, after=2.7 * DAY)  # after the warning, before the due date
    at = BEGAN_AT + 3.6 * DAY
    assert issue(chain, at) == ["1:forward:breached:withdrawn"]
    (withdrawn,) = [event for event in chain.events if isinstance(event, SlaWithdrawn)]
    assert withdrawn.alarm == f"{chain.complaint_id}:1:forward:breached"
    assert withdrawn.occurred_at == at
    assert issue(chain, at) == []


def test_an_alarm_waits_for_a_missing_event_but_not_for_ever() -> None:
    chain = Chain().received().through(T.FORWARDED, T.ASSIGNED, after=4 * DAY)
    assigned = chain.last
    del chain.events[-2]  # forwarded is missing: all that is known is that it was before the assignment
    assert alarms(chain, assigned.occurred_at) == ["1:forward:breached"]
    soon = BEGAN_AT + 3 * DAY + timedelta(seconds=59)
    assert alarms(chain, soon) == []
    assert alarms(chain, BEGAN_AT + 3 * DAY + timedelta(seconds=60)) == ["1:forward:breached"]


def test_nobody_is_late_with_the_citizen_s_own_time() -> None:
    returned = Chain().received().through(T.FORWARDED, T.RETURNED)
    answered = Chain().received().through(T.FORWARDED, T.ASSIGNED, T.STARTED, T.COMPLETED, T.DOCUMENTED, T.ANSWERED)
    assert alarms(returned, FOREVER) == []
    assert alarms(answered, FOREVER) == []
    assert {run.clock for run in of(returned).values() if run.open} == {Clock.CORRECT}


def test_closing_ends_all_clocks_that_run() -> None:
    chain = Chain().through(T.FORWARDED, T.RETURNED).then(T.CLOSED)
    assert [run for run in of(chain).values() if run.open] == []
    assert alarms(chain, FOREVER) == []


def test_the_document_names_the_next_alarm_and_the_due_dates_of_what_runs() -> None:
    document = fold(None, Chain().events, deriving(RULES))
    assert document is not None
    assert document["next_alarm_at"] == BEGAN_AT + 8 * MINUTE + RULES.grace
    assert min(document["due"].values()) == document["due"]["receipt"] == BEGAN_AT + 10 * MINUTE
    assert set(document["due"]) == {"receipt", "forward"}
    answered = Chain().received().through(T.FORWARDED, T.RETURNED)
    document = fold(None, answered.events, deriving(RULES))
    assert document is not None
    assert (document.get("next_alarm_at"), document["due"]) == (None, {})


MOVES_FROM = {
    Status.SUBMITTED: (T.FORWARDED,),
    Status.FORWARDED: (T.RETURNED, T.ASSIGNED),
    Status.RETURNED: (T.RESUBMITTED, T.CLOSED),
    Status.ASSIGNED: (T.DECLINED, T.STARTED),
    Status.IN_PROGRESS: (T.COMPLETED,),
    Status.COMPLETED: (T.REWORK_REQUESTED, T.DOCUMENTED),
    Status.DOCUMENTED: (T.ANSWERED,),
    Status.ANSWERED: (T.REOPENED, T.CLOSED),
    Status.CLOSED: (),
}
PAUSES = st.timedeltas(min_value=timedelta(), max_value=12 * DAY) | st.timedeltas(
    min_value=timedelta(), max_value=12 * MINUTE
)


@st.composite
def lives(draw: st.DrawFn) -> Chain:
    """A complaint's life: any moves that the procedure allows, with any pauses between them."""
    chain = Chain()
    if draw(st.booleans()):
        chain.received(at=BEGAN_AT + draw(PAUSES))
    for _ in range(draw(st.integers(0, 9))):
        following = MOVES_FROM[chain.status]
        if not following:
            break
        chain.then(draw(st.sampled_from(following)), after=draw(PAUSES))
    return chain


@given(lives(), st.data())
def test_any_order_and_any_repetition_of_the_events_gives_the_same_document(chain: Chain, data: st.DataObject) -> None:
    derive = deriving(RULES)
    plain = fold(None, chain.events, derive)
    arrivals = data.draw(st.permutations(chain.events)) + data.draw(st.lists(st.sampled_from(chain.events), max_size=5))
    document = None
    for event in arrivals:
        document = fold(document, [event], derive) or document
    assert document == plain


def _lives_through(chain: Chain, arrives_at: dict[str, datetime]) -> list[ClockEvent]:
    """All alarms of a life in which each event arrives at its time and the ticker looks after each arrival and at each
    alarm's moment."""
    DECODED.clear()  # another life of the complaint may have alarms of the same names
    derive = deriving(RULES)
    document = None
    arrivals = sorted(chain.events, key=lambda event: arrives_at[event.id])
    while True:
        alarm_at = document.get("next_alarm_at", FOREVER) if document else FOREVER
        if arrivals and arrives_at[arrivals[0].id] <= alarm_at:
            event = arrivals.pop(0)
            document = fold(document, [event], derive) or document
            continue
        known = history(document)
        if alarm_at == FOREVER:
            return [event for event in known if isinstance(event, ClockEvent)]
        issued: list[ComplaintEvent] = list(desk.due(known, RULES, alarm_at))
        assert issued, "the document named an alarm, and there was none"
        document = fold(document, issued, derive)


def _verdicts(alarms: list[ClockEvent]) -> set[str]:
    taken_back = {event.alarm for event in alarms if isinstance(event, SlaWithdrawn)}
    return {event.id for event in alarms if isinstance(event, SlaBreached)} - taken_back


@given(lives(), st.data())
def test_delayed_messages_give_the_same_final_verdicts_as_prompt_ones(chain: Chain, data: st.DataObject) -> None:
    delays = st.timedeltas(min_value=timedelta(), max_value=30 * DAY)
    prompt = _lives_through(chain, {event.id: event.occurred_at for event in chain.events})
    late = _lives_through(chain, {event.id: event.occurred_at + data.draw(delays) for event in chain.events})
    assert _verdicts(late) == _verdicts(prompt)
    assert not any(isinstance(event, SlaWithdrawn) for event in prompt)
    missed = [run for run in of(chain).values() if not run.rule.lapses and not _kept(run)]
    true = {f"{chain.complaint_id}:{run.seq}:{run.clock}:breached" for run in missed}
    assert _verdicts(late) == true
    assert len({event.id for event in late}) == len(late)
    assert all(isinstance(event, SlaWarned | SlaBreached | SlaWithdrawn) for event in late)


def _kept(run: Run) -> bool:
    return run.state(FOREVER) is State.IN_TIME
