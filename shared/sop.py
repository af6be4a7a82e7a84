"""The city's complaint procedure (SOP) as one table.

Everything that depends on the procedure is derived from ``MOVES`` and ``CLOCKS``: the moves a desk allows, the roles
that may make them, the topics, the deadlines, the labels of metrics and the state diagram in the README. A change of
the procedure is one row here and its row in ``tests/unit/test_sop.py``.
"""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """Where a complaint stands. Exactly one desk holds it in each status (``HOLDER``)."""

    SUBMITTED = "submitted"
    FORWARDED = "forwarded"
    RETURNED = "returned"
    ASSIGNED = "assigned"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    DOCUMENTED = "documented"
    ANSWERED = "answered"
    CLOSED = "closed"


class Role(StrEnum):
    """Who acts: the five performers of the SOP, the administrator of accounts, and the system's own services."""

    CITIZEN = "citizen"
    CENTRAL_OPERATOR = "central_operator"
    REGIONAL_OPERATOR = "regional_operator"
    AGENCY_OPERATOR = "agency_operator"
    COORDINATOR = "coordinator"
    ADMIN = "admin"
    SYSTEM = "system"


class Desk(StrEnum):
    """The services that can hold a case file."""

    INTAKE = "intake"
    ROUTING = "routing"
    OPD = "opd"
    NOTIFY = "notify"


class Transition(StrEnum):
    """The thirteen events of a complaint's chain, in past tense; each has a topic of its own."""

    SUBMITTED = "submitted"
    FORWARDED = "forwarded"
    RETURNED = "returned"
    RESUBMITTED = "resubmitted"
    ASSIGNED = "assigned"
    DECLINED = "declined"
    STARTED = "started"
    COMPLETED = "completed"
    REWORK_REQUESTED = "rework_requested"
    DOCUMENTED = "documented"
    ANSWERED = "answered"
    REOPENED = "reopened"
    CLOSED = "closed"

    @property
    def topic(self) -> str:
        """The topic's name without the namespace, as in ``complaint.forwarded``."""
        return f"complaint.{self.value}"


class Refusal(StrEnum):
    """Why a move is not made. The value is the problem type's last part in every API."""

    WRONG_STATUS = "move-not-allowed-from-status"
    WRONG_ROLE = "role-not-allowed"
    COORDINATOR_ASSIGNS = "coordinator-assigns"
    ASSIGNMENT_BINDS = "assignment-binds"
    WINDOW_PASSED = "window-passed"
    WINDOW_OPEN = "window-open"
    NO_SUCH_AGENCY = "no-such-agency"
    AGENCY_DECLINED = "agency-declined"


@dataclass(frozen=True, slots=True)
class Move:
    """One row of the procedure.

    ``sources`` is empty for the move that opens a complaint. ``step`` is the SOP's number, None for what the SOP does
    not know. ``informs`` are the roles that get a notice besides the citizen.
    """

    transition: Transition
    sources: frozenset[Status]
    target: Status
    desk: Desk
    roles: frozenset[Role]
    step: int | None
    informs: frozenset[Role] = frozenset()


def _row(
    transition: Transition,
    sources: set[Status],
    target: Status,
    desk: Desk,
    roles: set[Role],
    step: int | None,
    informs: set[Role] | None = None,
) -> Move:
    return Move(transition, frozenset(sources), target, desk, frozenset(roles), step, frozenset(informs or ()))


_S, _T, _D, _R = Status, Transition, Desk, Role

MOVES: dict[Transition, Move] = {
    row.transition: row
    for row in (
        _row(_T.SUBMITTED, set(), _S.SUBMITTED, _D.INTAKE, {_R.CITIZEN}, 1),
        _row(_T.FORWARDED, {_S.SUBMITTED}, _S.FORWARDED, _D.ROUTING, {_R.CENTRAL_OPERATOR}, 2),
        _row(_T.RETURNED, {_S.FORWARDED}, _S.RETURNED, _D.ROUTING, {_R.REGIONAL_OPERATOR}, 3),
        _row(_T.RESUBMITTED, {_S.RETURNED}, _S.FORWARDED, _D.INTAKE, {_R.CITIZEN}, None),
        _row(
            _T.ASSIGNED,
            {_S.FORWARDED},
            _S.ASSIGNED,
            _D.ROUTING,
            {_R.REGIONAL_OPERATOR, _R.COORDINATOR},
            3,
            {_R.COORDINATOR, _R.AGENCY_OPERATOR},
        ),
        _row(_T.DECLINED, {_S.ASSIGNED}, _S.FORWARDED, _D.OPD, {_R.AGENCY_OPERATOR}, None),
        _row(_T.STARTED, {_S.ASSIGNED}, _S.IN_PROGRESS, _D.OPD, {_R.AGENCY_OPERATOR}, 4),
        _row(_T.COMPLETED, {_S.IN_PROGRESS}, _S.COMPLETED, _D.OPD, {_R.AGENCY_OPERATOR}, 4),
        _row(
            _T.REWORK_REQUESTED,
            {_S.COMPLETED},
            _S.IN_PROGRESS,
            _D.ROUTING,
            {_R.REGIONAL_OPERATOR},
            None,
            {_R.AGENCY_OPERATOR},
        ),
        _row(_T.DOCUMENTED, {_S.COMPLETED}, _S.DOCUMENTED, _D.ROUTING, {_R.REGIONAL_OPERATOR}, 5, {_R.COORDINATOR}),
        _row(_T.ANSWERED, {_S.DOCUMENTED}, _S.ANSWERED, _D.NOTIFY, {_R.SYSTEM}, 6),
        _row(_T.REOPENED, {_S.ANSWERED}, _S.FORWARDED, _D.INTAKE, {_R.CITIZEN}, None),
        _row(_T.CLOSED, {_S.ANSWERED, _S.RETURNED}, _S.CLOSED, _D.INTAKE, {_R.CITIZEN, _R.SYSTEM}, None),
    )
}

DECLINES_BEFORE_COORDINATOR = 2
"""After so many declines only the coordinator assigns, and that assignment binds (beyond the SOP)."""


def _holders() -> dict[Status, Desk | None]:
    holders: dict[Status, Desk | None] = dict.fromkeys(Status)
    for move in MOVES.values():
        for status in move.sources:
            if holders[status] not in (None, move.desk):
                raise AssertionError(f"two desks hold {status}: {holders[status]} and {move.desk}")
            holders[status] = move.desk
    return holders


HOLDER: dict[Status, Desk | None] = _holders()
"""The desk that holds a complaint in each status; None once it is closed."""


class Clock(StrEnum):
    """What the procedure gives a time for. The value is also the name of its deadline in
    ``shared.calendar.Deadlines``."""

    RECEIPT = "receipt"
    FORWARD = "forward"
    ASSIGN = "assign"
    FOLLOW_UP = "follow_up"
    DOCUMENT = "document"
    ANSWER = "answer"
    CORRECT = "correct"
    REOPEN = "reopen"


@dataclass(frozen=True, slots=True)
class ClockRule:
    """A clock runs while the complaint is in one of ``statuses``; entering them from outside opens a new one.

    ``step`` is the SOP's number. A clock that ``lapses`` is the citizen's own time: nobody is in breach when it ends,
    the complaint is closed. The receipt's clock is met by a delivered notice instead of by a move (``met_by_receipt``).
    """

    clock: Clock
    statuses: frozenset[Status]
    step: int | None
    role: Role
    lapses: bool = False
    met_by_receipt: bool = False


CLOCKS: dict[Clock, ClockRule] = {
    rule.clock: rule
    for rule in (
        ClockRule(Clock.RECEIPT, frozenset({_S.SUBMITTED}), 1, _R.SYSTEM, met_by_receipt=True),
        ClockRule(Clock.FORWARD, frozenset({_S.SUBMITTED}), 2, _R.CENTRAL_OPERATOR),
        ClockRule(Clock.ASSIGN, frozenset({_S.FORWARDED}), 3, _R.REGIONAL_OPERATOR),
        ClockRule(Clock.FOLLOW_UP, frozenset({_S.ASSIGNED, _S.IN_PROGRESS}), 4, _R.AGENCY_OPERATOR),
        ClockRule(Clock.DOCUMENT, frozenset({_S.COMPLETED}), 5, _R.REGIONAL_OPERATOR),
        ClockRule(Clock.ANSWER, frozenset({_S.DOCUMENTED}), 6, _R.SYSTEM),
        ClockRule(Clock.CORRECT, frozenset({_S.RETURNED}), None, _R.CITIZEN, lapses=True),
        ClockRule(Clock.REOPEN, frozenset({_S.ANSWERED}), None, _R.CITIZEN, lapses=True),
    )
}


_CLOCK_OF: dict[Status, ClockRule | None] = {
    status: next((r for r in CLOCKS.values() if status in r.statuses and not r.met_by_receipt), None)
    for status in Status
}


def clock_of(status: Status) -> ClockRule | None:
    """The clock that decides when a complaint in ``status`` is due; None once it is closed."""
    return _CLOCK_OF[status]


def check(
    transition: Transition, status: Status | None, role: Role, *, declines: int = 0, binding: bool = False
) -> Move | Refusal:
    """The row by which ``role`` may make this move now, or the reason why not.

    ``status`` is None before a complaint exists. ``declines`` counts the agencies that have declined it since it was
    last forwarded by an operator or reopened; ``binding`` says that the present assignment was made by the coordinator.
    """
    move = MOVES[transition]
    if role not in move.roles:
        return Refusal.WRONG_ROLE
    if (status not in move.sources) if move.sources else (status is not None):
        return Refusal.WRONG_STATUS
    if transition is Transition.ASSIGNED and (role is Role.COORDINATOR) != (declines >= DECLINES_BEFORE_COORDINATOR):
        return Refusal.COORDINATOR_ASSIGNS if role is Role.REGIONAL_OPERATOR else Refusal.WRONG_ROLE
    if transition is Transition.DECLINED and binding:
        return Refusal.ASSIGNMENT_BINDS
    return move


def allowed(status: Status, role: Role, *, declines: int = 0, binding: bool = False) -> list[Transition]:
    """The moves that ``role`` can make from ``status``, in the table's order: what a client offers as buttons."""
    return [t for t in Transition if isinstance(check(t, status, role, declines=declines, binding=binding), Move)]


def state_diagram() -> str:
    """The procedure as a Mermaid state diagram, as the README shows it (a test compares the two)."""
    lines = ["stateDiagram-v2"]
    for move in MOVES.values():
        roles = " or ".join(sorted(role.value for role in move.roles)).replace("_", " ")
        label = f"{move.transition.value} ({roles}{f', step {move.step}' if move.step else ''})"
        sources = sorted(status.value for status in move.sources) or ["[*]"]
        lines += [f"    {source} --> {move.target.value}: {label}" for source in sources]
    return "\n".join([*lines, f"    {Status.CLOSED.value} --> [*]"])
