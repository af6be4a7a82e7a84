"""The procedure as the city wrote it down, row by row, against the table in code: whoever changes the one changes both.

The expectations here are written out by hand and derive nothing from ``shared.sop``.
"""

import re
from itertools import product
from pathlib import Path

import pytest

from shared import sop
from shared.calendar import Deadlines
from shared.events import CHAIN
from shared.sop import CLOCKS, HOLDER, MOVES, Clock, Desk, Move, Refusal, Role, Status, Transition, allowed, check

README = Path(__file__).parents[2] / "README.md"

S, R, D, T = Status, Role, Desk, Transition

PROCEDURE: dict[Transition, tuple[set[Status | None], Status, Desk, set[Role], int | None]] = {
    # transition: (from, to, the desk that issues it, roles, step of the SOP)
    T.SUBMITTED: ({None}, S.SUBMITTED, D.INTAKE, {R.CITIZEN}, 1),
    T.FORWARDED: ({S.SUBMITTED}, S.FORWARDED, D.ROUTING, {R.CENTRAL_OPERATOR}, 2),
    T.RETURNED: ({S.FORWARDED}, S.RETURNED, D.ROUTING, {R.REGIONAL_OPERATOR}, 3),
    T.RESUBMITTED: ({S.RETURNED}, S.FORWARDED, D.INTAKE, {R.CITIZEN}, None),
    T.ASSIGNED: ({S.FORWARDED}, S.ASSIGNED, D.ROUTING, {R.REGIONAL_OPERATOR, R.COORDINATOR}, 3),
    T.DECLINED: ({S.ASSIGNED}, S.FORWARDED, D.OPD, {R.AGENCY_OPERATOR}, None),
    T.STARTED: ({S.ASSIGNED}, S.IN_PROGRESS, D.OPD, {R.AGENCY_OPERATOR}, 4),
    T.COMPLETED: ({S.IN_PROGRESS}, S.COMPLETED, D.OPD, {R.AGENCY_OPERATOR}, 4),
    T.REWORK_REQUESTED: ({S.COMPLETED}, S.IN_PROGRESS, D.ROUTING, {R.REGIONAL_OPERATOR}, None),
    T.DOCUMENTED: ({S.COMPLETED}, S.DOCUMENTED, D.ROUTING, {R.REGIONAL_OPERATOR}, 5),
    T.ANSWERED: ({S.DOCUMENTED}, S.ANSWERED, D.NOTIFY, {R.SYSTEM}, 6),
    T.REOPENED: ({S.ANSWERED}, S.FORWARDED, D.INTAKE, {R.CITIZEN}, None),
    T.CLOSED: ({S.ANSWERED, S.RETURNED}, S.CLOSED, D.INTAKE, {R.CITIZEN, R.SYSTEM}, None),
}

HOLDERS = {
    S.SUBMITTED: D.ROUTING,
    S.FORWARDED: D.ROUTING,
    S.RETURNED: D.INTAKE,
    S.ASSIGNED: D.OPD,
    S.IN_PROGRESS: D.OPD,
    S.COMPLETED: D.ROUTING,
    S.DOCUMENTED: D.NOTIFY,
    S.ANSWERED: D.INTAKE,
    S.CLOSED: None,
}

TIMES = {
    # status: (the clock that runs, step of the SOP, whose time it is, the time as the settings write it)
    S.SUBMITTED: (Clock.FORWARD, 2, R.CENTRAL_OPERATOR, "3d"),
    S.FORWARDED: (Clock.ASSIGN, 3, R.REGIONAL_OPERATOR, "3d"),
    S.RETURNED: (Clock.CORRECT, None, R.CITIZEN, "10wd"),
    S.ASSIGNED: (Clock.FOLLOW_UP, 4, R.AGENCY_OPERATOR, "10d"),
    S.IN_PROGRESS: (Clock.FOLLOW_UP, 4, R.AGENCY_OPERATOR, "10d"),
    S.COMPLETED: (Clock.DOCUMENT, 5, R.REGIONAL_OPERATOR, "5m"),
    S.DOCUMENTED: (Clock.ANSWER, 6, R.SYSTEM, "5m"),
    S.ANSWERED: (Clock.REOPEN, None, R.CITIZEN, "10wd"),
}


def expected(transition: Transition, status: Status | None, role: Role) -> Status | Refusal:
    """The new status, or the refusal, of a case that no agency has declined."""
    sources, target, _, roles, _ = PROCEDURE[transition]
    if role not in roles:
        return Refusal.WRONG_ROLE
    if status not in sources:
        return Refusal.WRONG_STATUS
    if (transition, role) == (T.ASSIGNED, R.COORDINATOR):
        return Refusal.WRONG_ROLE  # his turn comes after two declines
    return target


def outcome(decision: Move | Refusal) -> Status | Refusal:
    return decision.target if isinstance(decision, Move) else decision


@pytest.mark.parametrize("transition", Transition)
def test_every_move_by_every_role_from_every_status(transition: Transition) -> None:
    for status, role in product([None, *Status], Role):
        decision = check(transition, status, role)
        assert outcome(decision) == expected(transition, status, role), (status, role)


@pytest.mark.parametrize("transition", Transition)
def test_the_row_says_which_desk_issues_it_and_its_step(transition: Transition) -> None:
    _, target, desk, roles, step = PROCEDURE[transition]
    row = MOVES[transition]
    assert (row.target, row.desk, set(row.roles), row.step) == (target, desk, roles, step)
    assert CHAIN[transition].topic == transition.topic == f"complaint.{transition}"


def test_the_table_has_no_other_rows() -> None:
    assert set(MOVES) == set(CHAIN) == set(PROCEDURE) == set(Transition)
    assert len(Transition) == 13


@pytest.mark.parametrize(
    ("role", "declines", "expectation"),
    [
        (R.REGIONAL_OPERATOR, 0, S.ASSIGNED),
        (R.REGIONAL_OPERATOR, 1, S.ASSIGNED),
        (R.REGIONAL_OPERATOR, 2, Refusal.COORDINATOR_ASSIGNS),
        (R.REGIONAL_OPERATOR, 3, Refusal.COORDINATOR_ASSIGNS),
        (R.COORDINATOR, 0, Refusal.WRONG_ROLE),
        (R.COORDINATOR, 1, Refusal.WRONG_ROLE),
        (R.COORDINATOR, 2, S.ASSIGNED),
        (R.CENTRAL_OPERATOR, 2, Refusal.WRONG_ROLE),
    ],
)
def test_after_two_declines_the_coordinator_assigns(role: Role, declines: int, expectation: Status | Refusal) -> None:
    assert outcome(check(T.ASSIGNED, S.FORWARDED, role, declines=declines)) == expectation


def test_declines_matter_to_no_other_move() -> None:
    for transition, status, role in product(set(Transition) - {T.ASSIGNED}, [None, *Status], Role):
        assert check(transition, status, role, declines=2) == check(transition, status, role)


def test_the_coordinators_assignment_binds() -> None:
    assert check(T.DECLINED, S.ASSIGNED, R.AGENCY_OPERATOR, binding=True) is Refusal.ASSIGNMENT_BINDS
    assert outcome(check(T.STARTED, S.ASSIGNED, R.AGENCY_OPERATOR, binding=True)) == S.IN_PROGRESS


def test_allowed_is_what_check_lets_pass() -> None:
    for status, role, declines, binding in product(Status, Role, (0, 2), (False, True)):
        moves = allowed(status, role, declines=declines, binding=binding)
        by_check = [
            t for t in Transition if isinstance(check(t, status, role, declines=declines, binding=binding), Move)
        ]
        assert moves == by_check
    assert allowed(S.ANSWERED, R.CITIZEN) == [T.REOPENED, T.CLOSED]
    assert allowed(S.CLOSED, R.CITIZEN) == []


def test_exactly_one_desk_holds_each_status() -> None:
    assert HOLDER == HOLDERS
    for transition, (sources, _, desk, _, _) in PROCEDURE.items():
        for status in sources - {None}:
            assert status is not None
            assert HOLDER[status] == desk, f"{transition} would be issued by a desk that does not hold the case"


def test_two_desks_cannot_hold_one_status(monkeypatch: pytest.MonkeyPatch) -> None:
    stolen = sop.Move(T.FORWARDED, frozenset({S.ASSIGNED}), S.FORWARDED, D.ROUTING, frozenset({R.CENTRAL_OPERATOR}), 2)
    monkeypatch.setitem(sop.MOVES, T.FORWARDED, stolen)
    with pytest.raises(AssertionError, match="two desks hold assigned"):
        sop._holders()


def test_every_status_is_reached_and_every_open_one_is_left() -> None:
    reached: set[Status | None] = {None}
    while more := {PROCEDURE[t][1] for t in Transition if PROCEDURE[t][0] & reached} - reached:
        reached |= more
    assert reached == {None, *Status}
    assert {s for s in Status if not any(s in PROCEDURE[t][0] for t in Transition)} == {S.CLOSED}


@pytest.mark.parametrize("status", Status)
def test_the_clock_of_each_status(status: Status) -> None:
    rule = sop.clock_of(status)
    if status is S.CLOSED:
        assert rule is None
        return
    assert rule is not None
    clock, step, role, time = TIMES[status]
    assert (rule.clock, rule.step, rule.role, str(Deadlines().of(clock))) == (clock, step, role, time)
    assert rule.lapses == (role is R.CITIZEN), "the citizen's own time lapses; all others can be breached"


def test_the_receipt_has_a_clock_of_its_own() -> None:
    receipt = CLOCKS[Clock.RECEIPT]
    assert (set(receipt.statuses), receipt.step, receipt.met_by_receipt) == ({S.SUBMITTED}, 1, True)
    assert str(Deadlines().of(Clock.RECEIPT)) == "10m"
    assert {rule.clock for rule in CLOCKS.values() if rule.met_by_receipt} == {Clock.RECEIPT}
    assert set(CLOCKS) == set(Clock) == {clock for clock, *_ in TIMES.values()} | {Clock.RECEIPT}


def test_the_coordinator_is_informed_at_assignment_and_documentation() -> None:
    assert {t for t, move in MOVES.items() if R.COORDINATOR in move.informs} == {T.ASSIGNED, T.DOCUMENTED}


def test_the_readme_shows_the_procedure_as_it_is() -> None:
    blocks = re.findall(r"```mermaid\n(stateDiagram-v2.*?)\n```", README.read_text(), re.DOTALL)
    assert blocks == [sop.state_diagram()], "put the output of shared.sop.state_diagram() into README.md"
