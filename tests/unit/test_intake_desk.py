"""What the citizen's desk decides, and the documents it keeps."""

from datetime import datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.intake import desk
from services.intake.projection import CONSUMES, ISSUES, TAKES, deriving
from services.intake.timeline import timeline
from shared.calendar import Deadline, Deadlines
from shared.case import Case
from shared.events import CHAIN_TOPICS, Actor, Closed, ComplaintEvent, Reopened, Resubmitted
from shared.projection import Document, fold
from shared.sop import MOVES, Move, Refusal, Role, Status, Transition
from tests.support.events import STRAIGHT, Chain, report

DEADLINES = Deadlines(reopen=Deadline.parse("2h"), correct=Deadline.parse("3h"))
T = Transition


RETURNED = (T.SUBMITTED, T.FORWARDED, T.RETURNED)


def case(*moves: T) -> Case:
    return Case.of(Chain().through(*moves[1:]).events)


def citizen(of: Case) -> Actor:
    return Actor(role=Role.CITIZEN, id=of.reporter_id)


def moved_at(of: Case) -> datetime:
    assert of.moved_at is not None
    return of.moved_at


def due_at(of: Case) -> datetime:
    due = of.due(DEADLINES)
    assert due is not None
    return due


def test_a_returned_report_is_corrected() -> None:
    returned = case(*RETURNED)
    event = desk.resubmit(returned, citizen(returned), moved_at(returned), report(title="Jalan rusak di Gang Kenari"))
    assert isinstance(event, Resubmitted)
    assert (event.seq, event.report.title) == (4, "Jalan rusak di Gang Kenari")
    assert event.id == f"{returned.complaint_id}:4"


def test_an_answer_is_reopened_until_its_window_ends() -> None:
    answered = case(*STRAIGHT)
    due = due_at(answered)
    assert due == moved_at(answered) + timedelta(hours=2)
    assert isinstance(desk.reopen(answered, citizen(answered), due, "Amblas lagi.", DEADLINES), Reopened)
    late = due + timedelta(milliseconds=1)
    assert desk.reopen(answered, citizen(answered), late, "Amblas lagi.", DEADLINES) is Refusal.WINDOW_PASSED


def test_an_answer_is_rated_and_a_return_is_withdrawn_and_not_the_other_way_round() -> None:
    answered, returned = case(*STRAIGHT), case(*RETURNED)
    at = moved_at(answered)
    rated = desk.rate(answered, citizen(answered), at, 5, "Terima kasih.")
    assert isinstance(rated, Closed)
    assert (rated.outcome, rated.rating) == ("rated", 5)
    withdrawn = desk.withdraw(returned, citizen(returned), at, None)
    assert isinstance(withdrawn, Closed)
    assert (withdrawn.outcome, withdrawn.rating) == ("withdrawn", None)
    assert desk.rate(returned, citizen(returned), at, 5, None) is Refusal.WRONG_STATUS
    assert desk.withdraw(answered, citizen(answered), at, None) is Refusal.WRONG_STATUS


@pytest.mark.parametrize("moves", [STRAIGHT, RETURNED])
def test_what_the_citizen_leaves_alone_lapses_when_his_time_is_over_and_not_before(moves: tuple[T, ...]) -> None:
    waiting = case(*moves)
    due = due_at(waiting)
    assert desk.lapse(waiting, due, DEADLINES) is Refusal.WINDOW_OPEN
    event = desk.lapse(waiting, due + timedelta(seconds=1), DEADLINES)
    assert isinstance(event, Closed)
    assert (event.outcome, event.actor.role) == ("lapsed", Role.SYSTEM)


@pytest.mark.parametrize("length", range(1, 7))
def test_while_it_is_a_desks_turn_nothing_lapses_and_the_citizen_moves_nothing(length: int) -> None:
    at_a_desk = case(*STRAIGHT[:length])
    late = moved_at(at_a_desk) + timedelta(days=1000)
    assert desk.lapse(at_a_desk, late, DEADLINES) is Refusal.WRONG_STATUS
    actor = citizen(at_a_desk)
    assert desk.resubmit(at_a_desk, actor, late, report()) is Refusal.WRONG_STATUS
    assert desk.reopen(at_a_desk, actor, late, "Amblas lagi.", DEADLINES) is Refusal.WRONG_STATUS
    assert desk.rate(at_a_desk, actor, late, 5, None) is Refusal.WRONG_STATUS
    assert desk.withdraw(at_a_desk, actor, late, None) is Refusal.WRONG_STATUS


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.CITIZEN])
def test_nobody_moves_for_the_citizen(role: Role) -> None:
    answered, returned = case(*STRAIGHT), case(*RETURNED)
    actor, at = Actor(role=role, id="somebody"), moved_at(answered)
    assert desk.resubmit(returned, actor, at, report()) is Refusal.WRONG_ROLE
    assert desk.reopen(answered, actor, at, "Amblas lagi.", DEADLINES) is Refusal.WRONG_ROLE
    if role is not Role.SYSTEM:  # the clock closes too
        assert desk.rate(answered, actor, at, 5, None) is Refusal.WRONG_ROLE
        assert desk.withdraw(returned, actor, at, None) is Refusal.WRONG_ROLE


def test_intake_knows_all_that_happens_to_a_complaint() -> None:
    assert set(CHAIN_TOPICS) < set(TAKES)
    assert set(CONSUMES).isdisjoint(ISSUES)
    assert set(CONSUMES) | set(ISSUES) == {*TAKES, "citizen.contact", "citizen.code"}


@st.composite
def legal_chains(draw: st.DrawFn) -> Chain:
    """Any legal chain of up to a dozen moves, with progress notes and notices in between."""
    chain = Chain()
    for _ in range(draw(st.integers(0, 11))):
        now_possible = [
            move.transition
            for move in MOVES.values()
            if any(isinstance(Case.of(chain.events).check(move.transition, role), Move) for role in move.roles)
        ]
        if not now_possible:
            break
        chain.then(draw(st.sampled_from(now_possible)))
        if draw(st.booleans()):
            chain.received(about=chain.seq)
        if chain.status is Status.IN_PROGRESS and draw(st.booleans()):
            chain.noted()
    return chain


def folded(batches: list[list[ComplaintEvent]]) -> Document:
    document: Document | None = None
    for batch in batches:
        document = fold(document, batch, deriving(DEADLINES)) or document
    assert document is not None
    return document


@given(legal_chains(), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_any_order_and_any_repetition_of_the_events_gives_the_same_document(chain: Chain, chance: Random) -> None:
    shuffled = [*chain.events, *chance.choices(chain.events, k=len(chain.events))]
    chance.shuffle(shuffled)
    cuts = sorted(chance.sample(range(len(shuffled) + 1), k=2))
    batches = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(shuffled)], strict=True) if a < b]
    at_once, in_pieces = folded([chain.events]), folded(batches)
    assert in_pieces == at_once
    assert len(at_once["history"]) == len(chain.events)
    assert at_once["status"] == chain.status
    assert (at_once["lapses_at"] is not None) == (chain.status in (Status.RETURNED, Status.ANSWERED))


@given(legal_chains())
@settings(max_examples=60)
def test_the_time_line_tells_every_move_in_both_languages_and_names_nobody(chain: Chain) -> None:
    entries = timeline(chain.events)
    moves = [event.topic for event in chain.events if event.topic in CHAIN_TOPICS]
    assert [entry.event for entry in entries if entry.event in CHAIN_TOPICS] == moves
    for entry in entries:
        assert entry.text
        assert entry.text_en
        assert chain.reporter_id not in entry.model_dump_json()
        assert "test-" not in entry.by
    assert all(entry.note is None for entry in timeline(chain.events, notes=False))
