"""The case that a chain of events tells: who has it, what runs, what may be done."""

from datetime import timedelta

from hypothesis import given

from shared.calendar import Deadlines, due_at
from shared.case import Case
from shared.events import Actor, ChainEvent
from shared.sop import DECLINES_BEFORE_COORDINATOR, HOLDER, MOVES, Move, Refusal, Role, Status, Transition
from tests.support.chains import chains
from tests.support.events import BEGAN_AT, PERKIM, PUPR, STRAIGHT, Chain, photo, report

T = Transition
DAY = timedelta(days=1)


def case(chain: Chain) -> Case:
    return Case.of(chain.events)


def test_before_the_first_event_there_is_nothing_to_do() -> None:
    empty = Case.of([])
    assert (empty.status, empty.seq, empty.report, empty.due(Deadlines())) == (None, 0, None, None)
    assert [role for role in Role if empty.allowed(role)] == []
    assert isinstance(empty.check(T.SUBMITTED, Role.CITIZEN), Move)
    assert Case.of_document(None) == empty


def test_six_steps_straight_through() -> None:
    chain = Chain().through(*STRAIGHT[1:])
    done = case(chain)
    assert (done.status, done.seq, done.agency) == (Status.ANSWERED, 7, PUPR)
    assert (done.evidence, done.evidence_note) == ((photo("b", "opd"),), "Lubang sudah ditambal.")
    assert (done.submitted_at, done.moved_at) == (BEGAN_AT, chain.at)


@given(chains())
def test_a_legal_chain_is_gapless_and_each_move_was_allowed(chain: Chain) -> None:
    moves = [event for event in chain.events if isinstance(event, ChainEvent)]
    assert [move.seq for move in moves] == list(range(1, len(moves) + 1))
    for number, move in enumerate(moves):
        before = Case.of(moves[:number])
        bound = move.transition is T.ASSIGNED and before.declines >= DECLINES_BEFORE_COORDINATOR
        assert isinstance(before.check(move.transition, Role.COORDINATOR if bound else move.actor.role), Move)
        assert Case.of(moves[: number + 1]).status == MOVES[move.transition].target
    closed = case(chain).status is Status.CLOSED
    assert closed == (case(chain).due(Deadlines()) is None) == (HOLDER[chain.status] is None)


@given(chains())
def test_side_events_change_nothing(chain: Chain) -> None:
    assert case(chain) == Case.of([event for event in chain.events if isinstance(event, ChainEvent)])


@given(chains())
def test_declines_count_since_an_operator_or_the_citizen_passed_it_on(chain: Chain) -> None:
    count = 0
    for event in chain.events:
        if isinstance(event, ChainEvent):
            count = 0 if event.transition in (T.FORWARDED, T.RESUBMITTED, T.REOPENED) else count
            count += event.transition is T.DECLINED
    assert (case(chain).declines, len(case(chain).declined_by)) == (count, count)
    assert count <= DECLINES_BEFORE_COORDINATOR


def test_two_declines_bring_it_to_the_coordinator_whose_word_binds() -> None:
    chain = Chain().through(T.FORWARDED, T.ASSIGNED, T.DECLINED).then(T.ASSIGNED, agency=PERKIM).then(T.DECLINED)
    twice = case(chain)
    assert (twice.agency, twice.declined_by) == (None, (PUPR.code, PERKIM.code))
    assert twice.allowed(Role.REGIONAL_OPERATOR) == [T.RETURNED]
    assert twice.allowed(Role.COORDINATOR) == [T.ASSIGNED]
    assert twice.check(T.ASSIGNED, Role.REGIONAL_OPERATOR) is Refusal.COORDINATOR_ASSIGNS
    bound = case(chain.then(T.ASSIGNED, binding=True))
    assert bound.allowed(Role.AGENCY_OPERATOR) == [T.STARTED]
    assert bound.check(T.DECLINED, Role.AGENCY_OPERATOR) is Refusal.ASSIGNMENT_BINDS


def test_reopening_begins_with_a_clean_slate() -> None:
    chain = Chain().through(T.FORWARDED, T.ASSIGNED, T.DECLINED, T.ASSIGNED, *STRAIGHT[3:], T.REOPENED)
    again = case(chain)
    assert (again.status, again.agency, again.unit, again.declines) == (Status.FORWARDED, None, None, 0)
    assert again.allowed(Role.REGIONAL_OPERATOR) == [T.RETURNED, T.ASSIGNED]


def test_the_corrected_report_replaces_the_first() -> None:
    corrected = report(title="Jalan berlubang di Jalan Gajah Mada")
    chain = Chain().through(T.FORWARDED, T.RETURNED).then(T.RESUBMITTED, report=corrected)
    assert case(chain).report == corrected


def test_the_agencys_time_runs_on_from_assignment_to_completion() -> None:
    """SOP step 4: ten days for both statuses together, due when the assignment said."""
    due = BEGAN_AT + 9 * DAY
    chain = Chain().then(T.FORWARDED).then(T.ASSIGNED, after=DAY, due_at=due).then(T.STARTED, after=DAY)
    started = case(chain)
    assert (started.clock_opened_at, started.due(Deadlines())) == (BEGAN_AT + DAY + timedelta(minutes=1), due)
    completed = case(chain.then(T.COMPLETED))
    assert completed.clock_opened_at == chain.at
    assert completed.due(Deadlines()) == chain.at + timedelta(minutes=5), "SOP step 5"


def test_rework_gives_the_agency_new_time() -> None:
    chain = Chain().through(*STRAIGHT[1:5]).then(T.REWORK_REQUESTED, due_at=BEGAN_AT + 30 * DAY)
    assert (case(chain).clock_opened_at, case(chain).due(Deadlines())) == (chain.at, BEGAN_AT + 30 * DAY)


def test_what_is_due_elsewhere_follows_the_deadlines_in_force() -> None:
    forwarded = case(Chain().then(T.FORWARDED))
    assert forwarded.clock_opened_at is not None
    assert forwarded.due(Deadlines()) == forwarded.clock_opened_at + 3 * DAY
    answered = case(Chain().through(*STRAIGHT[1:]))
    assert answered.clock_opened_at is not None
    assert answered.due(Deadlines()) == due_at(answered.clock_opened_at, Deadlines().reopen)


def test_the_next_event_follows_the_last() -> None:
    chain = Chain().then(T.FORWARDED)
    actor = Actor(role=Role.REGIONAL_OPERATOR, id="test")
    fields = case(chain).next(actor, chain.at + DAY)
    assert (fields["id"], fields["seq"], fields["occurred_at"]) == (f"{chain.complaint_id}:3", 3, chain.at + DAY)


def test_time_in_a_chain_does_not_go_back() -> None:
    chain = Chain().then(T.FORWARDED)
    slow_clock = chain.at - timedelta(seconds=30)
    assert case(chain).next(Actor(role=Role.REGIONAL_OPERATOR, id="test"), slow_clock)["occurred_at"] == chain.at
