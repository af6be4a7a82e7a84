"""What an agency's desk decides, and that its documents are a function of the set of a complaint's events."""

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.opd import desk, projection
from shared.case import Case
from shared.events import Actor, ChainEvent, ComplaintEvent, ProgressNoted
from shared.projection import Document, fold
from shared.sop import MOVES, Refusal, Role, Status, Transition
from tests.support.events import BEGAN_AT, PERKIM, PUPR, STRAIGHT, Chain, photo

T = Transition
LATER = BEGAN_AT + timedelta(days=2)
EVIDENCE = (photo("c", "opd"),)
Decide = Callable[[Case, Actor], ComplaintEvent | Refusal]
DECISIONS: dict[Transition, Decide] = {
    T.STARTED: lambda case, actor: desk.start(case, actor, LATER, "Sekretariat"),
    T.DECLINED: lambda case, actor: desk.decline(case, actor, LATER, "Bukan kewenangan kami.", "DPRKP"),
    T.COMPLETED: lambda case, actor: desk.complete(case, actor, LATER, EVIDENCE, "Sudah ditambal."),
}
WAYS = {
    Status.FORWARDED: STRAIGHT[1:2],
    Status.ASSIGNED: STRAIGHT[1:3],
    Status.IN_PROGRESS: STRAIGHT[1:4],
    Status.COMPLETED: STRAIGHT[1:5],
    Status.ANSWERED: STRAIGHT[1:7],
}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("status", WAYS)
@pytest.mark.parametrize("transition", DECISIONS)
def test_a_move_is_made_by_the_agency_from_its_status_and_not_otherwise(
    transition: Transition, status: Status, role: Role
) -> None:
    case = Case.of(Chain().through(*WAYS[status]).events)
    decision = DECISIONS[transition](case, Actor(role=role, id="somebody", agency="DPUPR"))
    made = {(T.STARTED, Status.ASSIGNED), (T.DECLINED, Status.ASSIGNED), (T.COMPLETED, Status.IN_PROGRESS)}
    if role is not Role.AGENCY_OPERATOR:
        assert decision is Refusal.WRONG_ROLE
    elif (transition, status) not in made:
        assert decision is Refusal.WRONG_STATUS
    else:
        assert isinstance(decision, ChainEvent)
        assert (decision.transition, decision.seq) == (transition, case.seq + 1)
        assert getattr(decision, "agency", None) == PUPR
        assert MOVES[transition].target


def test_what_the_coordinator_assigned_cannot_be_declined() -> None:
    case = Case.of(Chain().then(T.FORWARDED).then(T.ASSIGNED, binding=True).events)
    actor = Actor(role=Role.AGENCY_OPERATOR, id="somebody", agency="DPUPR")
    assert DECISIONS[T.DECLINED](case, actor) is Refusal.ASSIGNMENT_BINDS
    assert isinstance(DECISIONS[T.STARTED](case, actor), ChainEvent)


def test_notes_are_made_while_the_work_goes_and_change_nothing() -> None:
    actor = Actor(role=Role.AGENCY_OPERATOR, id="somebody", agency="DPUPR")
    for status, way in WAYS.items():
        chain = Chain().through(*way)
        made = desk.note_progress(Case.of(chain.events), actor, LATER, "Tim di lokasi.")
        if status is Status.IN_PROGRESS:
            assert isinstance(made, ProgressNoted)
            assert (made.seq, made.agency) == (4, PUPR)
            assert Case.of([*chain.events, made]) == Case.of(chain.events)
        else:
            assert made is Refusal.WRONG_STATUS


DETOURS = (
    Chain()
    .through(T.FORWARDED, T.ASSIGNED, T.DECLINED)
    .then(T.ASSIGNED, agency=PERKIM)
    .through(T.STARTED)
    .noted()
    .through(T.COMPLETED, T.REWORK_REQUESTED, T.COMPLETED, T.DOCUMENTED, T.ANSWERED, T.REOPENED, T.ASSIGNED)
)
EVENTS = [event for event in DETOURS.events if event.topic in projection.TAKES]


def folded(events: list[Any], sizes: list[int]) -> Document | None:
    document: Document | None = None
    while events:
        size = sizes.pop() if sizes else 1
        document = fold(document, events[:size], projection.derive) or document
        events = events[size:]
    return document


@given(st.integers(), st.lists(st.integers(1, 6)), st.lists(st.sampled_from(EVENTS), max_size=10))
def test_any_order_and_repetition_give_the_same_document(seed: int, sizes: list[int], again: list[Any]) -> None:
    shuffled = [*EVENTS, *again]
    random.Random(seed).shuffle(shuffled)
    assert folded(shuffled, sizes) == folded(EVENTS, [])


def test_a_document_names_the_agency_that_has_the_work() -> None:
    chain = Chain()
    agencies = []
    for transition in (T.FORWARDED, T.ASSIGNED, T.DECLINED, T.ASSIGNED, T.STARTED, T.COMPLETED, T.DOCUMENTED):
        chain.then(transition)
        taken = [event for event in chain.events if event.topic in projection.TAKES]
        if document := folded(taken, [len(taken)] if taken else []):
            agencies.append((transition, document["agency"], document["due_at"] is not None))
    assert agencies == [
        (T.ASSIGNED, "DPUPR", True),
        (T.DECLINED, None, False),
        (T.ASSIGNED, "DPUPR", True),
        (T.STARTED, "DPUPR", True),
        (T.COMPLETED, "DPUPR", False),
        (T.DOCUMENTED, "DPUPR", False),
    ]
