"""What the operators' desks decide, and that their documents are a function of the set of a case's events."""

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.routing import desk, projection
from shared.calendar import Deadline, Deadlines
from shared.case import Case
from shared.events import Actor, Agency, Assigned, ChainEvent, ReworkRequested
from shared.projection import Document, fold
from shared.sop import MOVES, Refusal, Role, Status, Transition
from tests.support.events import BEGAN_AT, PERKIM, PUPR, Chain, report
from tests.support.situations import WAYS

T = Transition
LATER = BEGAN_AT + timedelta(days=2)
DEADLINES = Deadlines()
Decide = Callable[[Case, Actor], ChainEvent | Refusal]
DECISIONS: dict[Transition, Decide] = {
    T.FORWARDED: lambda case, actor: desk.forward(case, actor, LATER, "Lengkap."),
    T.RETURNED: lambda case, actor: desk.return_(case, actor, LATER, "incomplete", "Mohon alamat."),
    T.ASSIGNED: lambda case, actor: desk.assign(case, actor, LATER, PUPR, "Jalan kota.", DEADLINES),
    T.REWORK_REQUESTED: lambda case, actor: desk.request_rework(case, actor, LATER, "Kabur.", DEADLINES),
    T.DOCUMENTED: lambda case, actor: desk.document(case, actor, LATER, "Sesuai."),
}


def case_in(status: Status) -> Case:
    case = Case.of(Chain().through(*WAYS[status]).events)
    assert case.status is status
    return case


def declined(*agencies: Agency) -> Case:
    chain = Chain().then(T.FORWARDED)
    for agency in agencies:
        chain.then(T.ASSIGNED, agency=agency).then(T.DECLINED, agency=agency)
    return Case.of(chain.events)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("transition", DECISIONS)
def test_a_move_is_made_by_its_role_from_its_status_and_not_otherwise(
    transition: Transition, status: Status, role: Role
) -> None:
    decision = DECISIONS[transition](case_in(status), Actor(role=role, id="somebody"))
    made = {
        (T.FORWARDED, Status.SUBMITTED, Role.CENTRAL_OPERATOR),
        (T.RETURNED, Status.FORWARDED, Role.REGIONAL_OPERATOR),
        (T.ASSIGNED, Status.FORWARDED, Role.REGIONAL_OPERATOR),
        (T.REWORK_REQUESTED, Status.COMPLETED, Role.REGIONAL_OPERATOR),
        (T.DOCUMENTED, Status.COMPLETED, Role.REGIONAL_OPERATOR),
    }
    if (transition, status, role) in made:
        assert isinstance(decision, ChainEvent)
        assert decision.transition is transition
        assert decision.seq == case_in(status).seq + 1
        assert decision.id.endswith(f":{decision.seq}")
    elif role in MOVES[transition].roles and not (transition is T.ASSIGNED and status is Status.FORWARDED):
        assert decision is Refusal.WRONG_STATUS
    else:
        assert decision is Refusal.WRONG_ROLE


def assigned(case: Case, role: Role, agency: Agency | None = PUPR) -> Assigned | Refusal:
    return desk.assign(case, Actor(role=role, id="somebody"), LATER, agency, "Jalan kota.", DEADLINES)


def test_an_assignment_carries_what_the_agency_needs() -> None:
    made = assigned(case_in(Status.FORWARDED), Role.REGIONAL_OPERATOR)
    assert isinstance(made, Assigned)
    assert (made.agency, made.report, made.binding) == (PUPR, report(), False)
    assert made.due_at == LATER + timedelta(days=10), "SOP step 4"


def test_the_coordinator_assigns_after_two_declines_and_only_then_and_it_binds() -> None:
    regional, coordinator = Role.REGIONAL_OPERATOR, Role.COORDINATOR
    assert assigned(declined(PERKIM), coordinator) is Refusal.WRONG_ROLE
    assert isinstance(assigned(declined(PERKIM), regional), Assigned)
    twice = declined(PERKIM, PUPR)
    assert assigned(twice, regional) is Refusal.COORDINATOR_ASSIGNS
    made = assigned(twice, coordinator)
    assert isinstance(made, Assigned)
    assert made.binding
    assert made.agency == PUPR, "the coordinator may choose one that has declined"


def test_an_agency_that_declined_is_not_asked_again() -> None:
    assert assigned(declined(PUPR), Role.REGIONAL_OPERATOR) is Refusal.AGENCY_DECLINED
    again = Chain().then(T.FORWARDED).then(T.ASSIGNED).then(T.DECLINED).then(T.RETURNED).then(T.RESUBMITTED)
    assert isinstance(assigned(Case.of(again.events), Role.REGIONAL_OPERATOR), Assigned), "a corrected report is new"


def test_an_agency_must_be_known() -> None:
    assert assigned(case_in(Status.FORWARDED), Role.REGIONAL_OPERATOR, None) is Refusal.NO_SUCH_AGENCY
    assert assigned(case_in(Status.ASSIGNED), Role.REGIONAL_OPERATOR, None) is Refusal.WRONG_STATUS, "that comes first"


def test_rework_gives_the_agency_its_time_anew() -> None:
    deadlines = Deadlines(follow_up=Deadline.parse("2h"))
    actor = Actor(role=Role.REGIONAL_OPERATOR, id="somebody")
    made = desk.request_rework(case_in(Status.COMPLETED), actor, LATER, "Kabur.", deadlines)
    assert isinstance(made, ReworkRequested)
    assert (made.agency, made.due_at) == (PUPR, LATER + timedelta(hours=2))


def test_time_in_a_chain_does_not_go_back() -> None:
    case = case_in(Status.SUBMITTED)
    assert case.moved_at is not None
    actor = Actor(role=Role.CENTRAL_OPERATOR, id="somebody")
    made = desk.forward(case, actor, case.moved_at - timedelta(seconds=5), "Lengkap.")
    assert isinstance(made, ChainEvent)
    assert made.occurred_at == case.moved_at


DETOURS = Chain().through(
    T.FORWARDED, T.RETURNED, T.RESUBMITTED, T.ASSIGNED, T.DECLINED, T.ASSIGNED, T.STARTED, T.COMPLETED,
    T.REWORK_REQUESTED,
).noted().through(T.COMPLETED, T.DOCUMENTED, T.ANSWERED, T.REOPENED, T.ASSIGNED)  # fmt: skip
EVENTS = [event for event in DETOURS.events if event.topic in projection.TAKES]


def folded(events: list[Any], sizes: list[int]) -> Document | None:
    document: Document | None = None
    while events:
        size = sizes.pop() if sizes else 1
        document = fold(document, events[:size], projection.deriving(DEADLINES)) or document
        events = events[size:]
    return document


@given(st.integers(), st.lists(st.integers(1, 6)), st.lists(st.sampled_from(EVENTS), max_size=10))
def test_any_order_and_repetition_give_the_same_document(seed: int, sizes: list[int], again: list[Any]) -> None:
    shuffled = [*EVENTS, *again]
    random.Random(seed).shuffle(shuffled)
    assert folded(shuffled, sizes) == folded(EVENTS, [])


@given(st.sets(st.sampled_from(EVENTS), min_size=1))
def test_a_document_stands_at_every_subset_of_the_events(some: set[Any]) -> None:
    """Events arrive in any order, so each intermediate state must be one that the queries can live with."""
    document = folded(list(some), [])
    assert document is not None
    assert len(document["history"]) == len(some)
    assert (document["title"] is None) == (not any(hasattr(event, "report") for event in some))


def test_whose_queue_a_case_is_in() -> None:
    stages = {status: projection.STAGES[projection.stage_of(case_in(status)) or ""] for status in Status}
    assert all(stage[0] is status for status, stage in stages.items())
    assert {status: role for status, (_, role) in stages.items() if role} == {
        Status.SUBMITTED: Role.CENTRAL_OPERATOR,
        Status.FORWARDED: Role.REGIONAL_OPERATOR,
        Status.COMPLETED: Role.REGIONAL_OPERATOR,
    }
    escalated = projection.stage_of(declined(PUPR, PERKIM))
    assert projection.STAGES[escalated or ""] == (Status.FORWARDED, Role.COORDINATOR)
    assert set(projection.STAGES) == {stage.value for stage in Status} | {projection.ESCALATED}


def test_the_coordinator_is_told_where_the_procedure_says_so() -> None:
    document = folded(EVENTS, [])
    assert document is not None
    told = [entry["event"] for entry in document["informed"]]
    expected = [
        e.topic for e in EVENTS if isinstance(e, ChainEvent) and Role.COORDINATOR in MOVES[e.transition].informs
    ]
    assert told == expected
    assert set(told) == {"complaint.assigned", "complaint.documented"}
    assert document["informed_at"] == document["informed"][-1]["at"]
