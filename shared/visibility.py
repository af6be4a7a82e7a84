"""What each viewer sees of a case, field by field, as one table: every answer that shows a case is cut by it.

Whether a viewer sees the case at all is `shared.access`. A field that has no row is shown to nobody: `cut` refuses it.
Answers' fields of the same name mean the same in all services.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from shared.case import Case
from shared.sop import Role, Status


class Viewer(StrEnum):
    """In which capacity somebody looks at a case. ``TRACKING`` is whoever has its number and tracking code."""

    REPORTER = "reporter"
    TRACKING = "tracking"
    CENTRAL_OPERATOR = "central_operator"
    REGIONAL_OPERATOR = "regional_operator"
    COORDINATOR = "coordinator"
    AGENCY_OPERATOR = "agency_operator"


_V = Viewer
_DESKS = frozenset({_V.CENTRAL_OPERATOR, _V.REGIONAL_OPERATOR, _V.COORDINATOR})
_STAFF = _DESKS | {_V.AGENCY_OPERATOR}
_PARTIES = _STAFF | {_V.REPORTER}
_ALL = frozenset(Viewer)
_OF_ROLE: dict[Role, Viewer] = {Role.CITIZEN: Viewer.REPORTER} | {Role(v): v for v in _STAFF}

NEVER_OF_EVENTS: dict[str, Any] = {"reporter_id": True, "actor": {"id"}}
"""What no answer repeats of a case's events: who reported, and which account made a move (the journal knows)."""


@dataclass(frozen=True, slots=True)
class Row:
    """Fields that the same viewers see. ``when`` holds for the viewers in ``if_so`` alone: they see them only then."""

    fields: tuple[str, ...]
    viewers: frozenset[Viewer]
    says: str
    nothing: Any = None
    if_so: frozenset[Viewer] = frozenset()
    when: Callable[[Case], bool] | None = None
    condition: str = ""


def _documented(case: Case) -> bool:
    return case.status in (Status.DOCUMENTED, Status.ANSWERED, Status.CLOSED)


def _named(case: Case) -> bool:
    return case.report is not None and case.report.visibility != "anonim"


TABLE: tuple[Row, ...] = (
    Row(("number", "status", "holder", "due_at"), _ALL, "where it is, and when the step is due"),
    Row(("entries",), _ALL, "the time line, in sentences", ()),
    Row(("note",), _PARTIES, "what people wrote, in the time line"),
    Row(
        ("complaint_id", "seq", "submitted_at", "moved_at", "overdue", "allowed"),
        _PARTIES,
        "its id, its moments, and the moves that the viewer can make",
    ),
    Row(("title", "category", "district", "visibility", "report", "photos"), _PARTIES, "the report"),
    Row(("agency",), _PARTIES, "the agency that has it"),
    Row(
        ("evidence",),
        _PARTIES,
        "photos of the finished work",
        (),
        if_so=frozenset({_V.REPORTER}),
        when=_documented,
        condition="once documented",
    ),
    Row(
        ("evidence_note",),
        _PARTIES,
        "the agency's note on it",
        if_so=frozenset({_V.REPORTER}),
        when=_documented,
        condition="once documented",
    ),
    Row(("clocks",), _STAFF, "the clocks; an agency's own only", ()),
    Row(
        ("assigned_to", "assigned_at", "considerations", "binding", "unit", "notes"),
        _STAFF,
        "the assignment, and how the agency works on it",
    ),
    Row(("history",), _STAFF, "the events; to an agency those from its assignment on", ()),
    Row(
        ("alarm", "alarms", "running", "informed", "declined_by", "suggested_agencies"),
        _DESKS,
        "what the desks steer by",
    ),
    Row(
        ("reporter",),
        _DESKS,
        "where the reporter's data can be asked for, with a reason that is recorded and that the reporter sees",
        if_so=_DESKS,
        when=_named,
        condition="unless anonim",
    ),
    Row(("reporter_id", "actor.id"), frozenset(), "whose account reported, and whose made a move"),
)

_NAMES = frozenset(name for row in TABLE for name in row.fields)
_HIDDEN: dict[Viewer, dict[str, Any]] = {
    viewer: {name: row.nothing for row in TABLE if viewer not in row.viewers for name in row.fields}
    for viewer in Viewer
}
_AT_TIMES: dict[Viewer, tuple[Row, ...]] = {viewer: tuple(r for r in TABLE if viewer in r.if_so) for viewer in Viewer}


def viewer_of(role: Role) -> Viewer:
    """In which capacity an account that may see a case looks at it. Raises KeyError for roles that see none."""
    return _OF_ROLE[role]


def cut(viewer: Viewer, case: Case | None, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of an answer that shows ``case``, with nothing in those that the viewer does not see. Without the case
    no condition holds. Changes and returns ``fields``. Raises KeyError for a field that has no row."""
    if not fields.keys() <= _NAMES:
        raise KeyError(f"fields that the table does not know: {', '.join(sorted(fields.keys() - _NAMES))}")
    for name, nothing in _HIDDEN[viewer].items():
        if name in fields:
            fields[name] = nothing
    for row in _AT_TIMES[viewer]:
        if row.when is not None and (case is None or not row.when(case)):
            fields |= {name: row.nothing for name in row.fields if name in fields}
    return fields


def sees(viewer: Viewer, field: str) -> bool:
    """Whether a viewer ever sees a field."""
    return field in _NAMES and field not in _HIDDEN[viewer]


def page(rows: Iterable[Row] = TABLE) -> str:
    """The table as Markdown."""

    def cell(row: Row, viewer: Viewer) -> str:
        if viewer not in row.viewers:
            return "–"
        return row.condition if viewer in row.if_so else "yes"

    heads: Mapping[str, str] = {viewer: viewer.value.replace("_", " ") for viewer in Viewer}
    lines = [
        f"| Fields | | {' | '.join(heads.values())} |",
        f"|---|---|{'---|' * len(heads)}",
        *(
            f"| {', '.join(f'`{name}`' for name in row.fields)} | {row.says} | "
            f"{' | '.join(cell(row, viewer) for viewer in Viewer)} |"
            for row in rows
        ),
    ]
    return "\n".join(lines)
