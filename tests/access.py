"""Who may do and see what, as tables: what tests try on the running services, and what ``docs/access.md`` shows.

``python -m tests.access`` writes the page. `MATRIX` is the gate of each route, which looks at the role alone. `SHOWS`
says what a route shows behind it, and `SEES` who sees which case: written down here by the SOP and not taken from the
code, so that each checks the other.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from shared import visibility
from shared.sop import Role, Status

PAGE = Path(__file__).parents[1] / "docs" / "access.md"

EVERYBODY = None
"""Without a token as well."""
SIGNED_IN = frozenset(Role)
CITIZENS = frozenset({Role.CITIZEN})
CENTRAL, REGIONAL = frozenset({Role.CENTRAL_OPERATOR}), frozenset({Role.REGIONAL_OPERATOR})
COORDINATORS, ADMINS = frozenset({Role.COORDINATOR}), frozenset({Role.ADMIN})
AGENCIES = frozenset({Role.AGENCY_OPERATOR})
DESKS = CENTRAL | REGIONAL | COORDINATORS
STAFF = DESKS | AGENCIES | ADMINS
PARTIES = CITIZENS | DESKS | AGENCIES
WITH_AN_INBOX = SIGNED_IN - {Role.SYSTEM}

Allowed = frozenset[Role] | None

OPERATIONS: dict[str, Allowed] = {
    "GET /health/live": EVERYBODY,
    "GET /health/ready": EVERYBODY,
    "GET /metrics": EVERYBODY,
    "GET /asyncapi.json": EVERYBODY,
}
MATRIX: dict[str, dict[str, Allowed]] = {
    "intake": {
        "GET /.well-known/jwks.json": EVERYBODY,
        "GET /v1/categories": EVERYBODY,
        "POST /v1/citizens": EVERYBODY,
        "POST /v1/citizens/confirm": EVERYBODY,
        "POST /v1/codes": EVERYBODY,
        "POST /v1/tokens": EVERYBODY,
        "POST /v1/tokens/refresh": EVERYBODY,
        "GET /.well-known/ended-sessions": EVERYBODY,
        "POST /v1/sign-out": SIGNED_IN,
        "GET /v1/me/sessions": SIGNED_IN,
        "DELETE /v1/me/sessions": SIGNED_IN,
        "DELETE /v1/me/sessions/{session_id}": SIGNED_IN,
        "POST /v1/tracking": EVERYBODY,
        "GET /v1/me": SIGNED_IN,
        "PATCH /v1/me": CITIZENS,
        "POST /v1/me/contacts/confirm": CITIZENS,
        "PUT /v1/me/password": SIGNED_IN,
        "PUT /v1/me/restriction": CITIZENS,
        "DELETE /v1/me/restriction": CITIZENS,
        "GET /v1/me/export": CITIZENS,
        "POST /v1/me/deletion": CITIZENS,
        "POST /oauth/token": EVERYBODY,
        "POST /v1/me/second-factor": STAFF,
        "POST /v1/me/second-factor/confirm": STAFF,
        "DELETE /v1/me/second-factor": STAFF,
        "GET /v1/me/accesses": CITIZENS,
        "POST /v1/photos": CITIZENS,
        "POST /v1/complaints": CITIZENS,
        "GET /v1/complaints": CITIZENS,
        "GET /v1/complaints/{complaint_id}": PARTIES,
        "GET /v1/complaints/{complaint_id}/timeline": PARTIES,
        "GET /v1/complaints/{complaint_id}/photos/{photo_id}": SIGNED_IN,
        "POST /v1/complaints/{complaint_id}/resubmit": CITIZENS,
        "POST /v1/complaints/{complaint_id}/reopen": CITIZENS,
        "POST /v1/complaints/{complaint_id}/rate": CITIZENS,
        "POST /v1/complaints/{complaint_id}/withdraw": CITIZENS,
        "POST /v1/complaints/{complaint_id}/reporter": DESKS,
    },
    "routing": {
        "GET /v1/cases": DESKS,
        "GET /v1/cases/{complaint_id}": DESKS,
        "POST /v1/cases/{complaint_id}/forward": CENTRAL,
        "POST /v1/cases/{complaint_id}/return": REGIONAL,
        "POST /v1/cases/{complaint_id}/assign": REGIONAL | COORDINATORS,
        "POST /v1/cases/{complaint_id}/rework": REGIONAL,
        "POST /v1/cases/{complaint_id}/document": REGIONAL,
        "GET /v1/informed": COORDINATORS,
        "GET /v1/summary": COORDINATORS,
        "GET /v1/agencies": STAFF,
        "GET /v1/agencies/{code}": STAFF,
        "PUT /v1/agencies/{code}": ADMINS,
    },
    "opd": {
        "GET /v1/work": AGENCIES,
        "GET /v1/work/{complaint_id}": AGENCIES,
        "POST /v1/work/{complaint_id}/start": AGENCIES,
        "POST /v1/work/{complaint_id}/decline": AGENCIES,
        "POST /v1/work/{complaint_id}/complete": AGENCIES,
        "POST /v1/work/{complaint_id}/notes": AGENCIES,
        "POST /v1/photos": AGENCIES,
        "GET /v1/work/{complaint_id}/photos/{photo_id}": SIGNED_IN,
    },
    "notify": {
        "GET /v1/inbox": WITH_AN_INBOX,
        "GET /v1/inbox/unread-count": WITH_AN_INBOX,
        "POST /v1/inbox/{entry_id}/read": WITH_AN_INBOX,
        "GET /v1/deliveries": COORDINATORS,
        "GET /v1/preferences": CITIZENS,
        "PUT /v1/preferences": CITIZENS,
        "GET /v1/me/export": CITIZENS,
    },
    "sla": {
        "GET /v1/overdue": DESKS | AGENCIES,
        "GET /v1/due-soon": DESKS | AGENCIES,
        "GET /v1/complaints/{complaint_id}/clocks": DESKS | AGENCIES,
        "GET /v1/compliance": COORDINATORS | ADMINS,
    },
}

FOR_PEOPLE = {
    "POST /v1/me/second-factor",
    "POST /v1/me/second-factor/confirm",
    "DELETE /v1/me/second-factor",
    "PUT /v1/me/password",
    "POST /v1/sign-out",
    "GET /v1/me/sessions",
    "DELETE /v1/me/sessions",
    "DELETE /v1/me/sessions/{session_id}",
    "POST /v1/complaints/{complaint_id}/reporter",
}
"""Routes that no machine account may use, whatever its scopes."""


class Shows(StrEnum):
    """What a route tells of cases."""

    NO_CASE = "no case"
    """One's own account, directories, figures over all cases for those who see all."""
    ONE_CASE = "one case"
    """Asked for by its id; who does not see it gets what he would get if it did not exist."""
    REPORTER = "the reporter of one case"
    """The same, and never of an anonymous report."""
    EVIDENCE = "photos of the finished work"
    """The same; the reporter sees them once they are documented."""
    CASES = "a list of cases"
    """Rows, pages, cursors and searches tell of nothing else than of cases that the caller sees."""
    NOTICES = "what one was told"
    """Only what was addressed to the caller, the caller's agency or role, when it was."""


_NONE, _ONE, _LIST = Shows.NO_CASE, Shows.ONE_CASE, Shows.CASES
SHOWS: dict[str, dict[str, Shows]] = {
    "intake": {
        "GET /.well-known/jwks.json": _NONE,
        "GET /v1/categories": _NONE,
        "POST /v1/citizens": _NONE,
        "POST /v1/citizens/confirm": _NONE,
        "POST /v1/codes": _NONE,
        "POST /v1/tokens": _NONE,
        "POST /v1/tokens/refresh": _NONE,
        "GET /.well-known/ended-sessions": _NONE,
        "POST /v1/sign-out": _NONE,
        "GET /v1/me/sessions": _NONE,
        "DELETE /v1/me/sessions": _NONE,
        "DELETE /v1/me/sessions/{session_id}": _NONE,
        "POST /v1/tracking": _NONE,
        "GET /v1/me": _NONE,
        "PATCH /v1/me": _NONE,
        "POST /v1/me/contacts/confirm": _NONE,
        "PUT /v1/me/password": _NONE,
        "PUT /v1/me/restriction": _NONE,
        "DELETE /v1/me/restriction": _NONE,
        "GET /v1/me/export": _LIST,
        "POST /v1/me/deletion": _NONE,
        "POST /oauth/token": _NONE,
        "POST /v1/me/second-factor": _NONE,
        "POST /v1/me/second-factor/confirm": _NONE,
        "DELETE /v1/me/second-factor": _NONE,
        "GET /v1/me/accesses": _NONE,
        "POST /v1/photos": _NONE,
        "POST /v1/complaints": _NONE,
        "GET /v1/complaints": _LIST,
        "GET /v1/complaints/{complaint_id}": _ONE,
        "GET /v1/complaints/{complaint_id}/timeline": _ONE,
        "GET /v1/complaints/{complaint_id}/photos/{photo_id}": _ONE,
        "POST /v1/complaints/{complaint_id}/resubmit": _ONE,
        "POST /v1/complaints/{complaint_id}/reopen": _ONE,
        "POST /v1/complaints/{complaint_id}/rate": _ONE,
        "POST /v1/complaints/{complaint_id}/withdraw": _ONE,
        "POST /v1/complaints/{complaint_id}/reporter": Shows.REPORTER,
    },
    "routing": {
        "GET /v1/cases": _LIST,
        "GET /v1/cases/{complaint_id}": _ONE,
        "POST /v1/cases/{complaint_id}/forward": _ONE,
        "POST /v1/cases/{complaint_id}/return": _ONE,
        "POST /v1/cases/{complaint_id}/assign": _ONE,
        "POST /v1/cases/{complaint_id}/rework": _ONE,
        "POST /v1/cases/{complaint_id}/document": _ONE,
        "GET /v1/informed": _LIST,
        "GET /v1/summary": _NONE,
        "GET /v1/agencies": _NONE,
        "GET /v1/agencies/{code}": _NONE,
        "PUT /v1/agencies/{code}": _NONE,
    },
    "opd": {
        "GET /v1/work": _LIST,
        "GET /v1/work/{complaint_id}": _ONE,
        "POST /v1/work/{complaint_id}/start": _ONE,
        "POST /v1/work/{complaint_id}/decline": _ONE,
        "POST /v1/work/{complaint_id}/complete": _ONE,
        "POST /v1/work/{complaint_id}/notes": _ONE,
        "POST /v1/photos": _NONE,
        "GET /v1/work/{complaint_id}/photos/{photo_id}": Shows.EVIDENCE,
    },
    "notify": {
        "GET /v1/inbox": Shows.NOTICES,
        "GET /v1/inbox/unread-count": Shows.NOTICES,
        "POST /v1/inbox/{entry_id}/read": Shows.NOTICES,
        "GET /v1/deliveries": _LIST,
        "GET /v1/preferences": _NONE,
        "PUT /v1/preferences": _NONE,
        "GET /v1/me/export": Shows.NOTICES,
    },
    "sla": {
        "GET /v1/overdue": _LIST,
        "GET /v1/due-soon": _LIST,
        "GET /v1/complaints/{complaint_id}/clocks": _ONE,
        "GET /v1/compliance": _NONE,
    },
}


class Caller(StrEnum):
    """Who stands before a case: the role, and whose case it is."""

    NOBODY = "nobody signed in"
    REPORTER = "its reporter"
    OTHER_CITIZEN = "another citizen"
    CENTRAL = "central operator"
    REGIONAL = "regional operator"
    COORDINATOR = "coordinator"
    ITS_AGENCY = "its agency's operator"
    OTHER_AGENCY = "another agency's operator"
    ADMIN = "administrator"
    SYSTEM = "the system's own account"


ROLE_OF: Mapping[Caller, Role | None] = {
    Caller.NOBODY: None,
    Caller.REPORTER: Role.CITIZEN,
    Caller.OTHER_CITIZEN: Role.CITIZEN,
    Caller.CENTRAL: Role.CENTRAL_OPERATOR,
    Caller.REGIONAL: Role.REGIONAL_OPERATOR,
    Caller.COORDINATOR: Role.COORDINATOR,
    Caller.ITS_AGENCY: Role.AGENCY_OPERATOR,
    Caller.OTHER_AGENCY: Role.AGENCY_OPERATOR,
    Caller.ADMIN: Role.ADMIN,
    Caller.SYSTEM: Role.SYSTEM,
}

VISIBILITIES = ("public", "anonim", "rahasia")
_EVER, _NOT = frozenset(Status), frozenset[Status]()
_S = Status
_WITH_AGENCY = frozenset({_S.ASSIGNED, _S.IN_PROGRESS, _S.COMPLETED, _S.DOCUMENTED, _S.ANSWERED, _S.CLOSED})
_OPEN_TO: dict[Caller, frozenset[Status]] = {
    Caller.NOBODY: _NOT,
    Caller.REPORTER: _EVER,
    Caller.OTHER_CITIZEN: _NOT,
    Caller.CENTRAL: _EVER,
    Caller.REGIONAL: _EVER,
    Caller.COORDINATOR: _EVER,
    Caller.ITS_AGENCY: _WITH_AGENCY,
    Caller.OTHER_AGENCY: _NOT,
    Caller.ADMIN: _NOT,
    Caller.SYSTEM: _EVER,
}
SEES: dict[str, dict[Caller, frozenset[Status]]] = {
    "public": _OPEN_TO,
    "anonim": _OPEN_TO,
    "rahasia": _OPEN_TO
    | {
        Caller.CENTRAL: frozenset({_S.SUBMITTED}),
        Caller.REGIONAL: frozenset({_S.FORWARDED, _S.COMPLETED}),
    },
}
"""The statuses in which a caller sees a case of each visibility. The system's account fetches photos for the e-mails;
the gates let it through nowhere else."""


def let_in(allowed: Allowed, caller: Caller) -> bool:
    """Whether the gate lets the caller through."""
    return allowed is EVERYBODY or ROLE_OF[caller] in allowed


def outcome(shows: Shows, allowed: Allowed, caller: Caller) -> str:
    """A cell of the page: what the caller gets, beyond whose case it is."""
    if not let_in(allowed, caller):
        return "401" if caller is Caller.NOBODY else "403"
    empty = caller in (Caller.OTHER_CITIZEN, Caller.OTHER_AGENCY)
    match shows:
        case Shows.NO_CASE:
            return "yes"
        case Shows.NOTICES:
            return "own"
        case Shows.CASES:
            return "not in it" if empty or not any(SEES[v][caller] for v in VISIBILITIES) else "what is seen"
        case _:
            return "404" if not any(SEES[v][caller] for v in VISIBILITIES) else "if seen, else 404"


def page() -> str:
    """``docs/access.md``."""
    lines = [
        "# Who may do and see what",
        "",
        "Written by `python -m tests.access` from the tables that the tests try on the running services",
        "(`tests/access.py`, `shared/visibility.py`); do not edit it by hand.",
        "",
        "## Who sees a case",
        "",
        "The statuses in which each sees it. To everybody else it looks as if it did not exist: in lists, searches,",
        "pages and counts, and by its id the answer is that of an id that nobody has.",
        "",
        f"| | {' | '.join(f'*{v}*' for v in VISIBILITIES)} |",
        f"|---|{'---|' * len(VISIBILITIES)}",
    ]
    for caller in Caller:
        cells = [_statuses(SEES[v][caller]) for v in VISIBILITIES]
        lines.append(f"| {caller.value} | {' | '.join(cells)} |")
    lines += [
        "",
        "The system's own account fetches photos for e-mails; no other route shows it a case. A notice stays in the",
        "inbox of whom it was addressed to, also when the case has moved on: what was said remains said.",
        "",
        "## What each sees of it",
        "",
        "The answers' fields, by `shared/visibility.py`. *tracking* is whoever has the number and the tracking code.",
        "",
        visibility.page(),
        "",
        "## What each route gives",
        "",
        "401 and 403 are the gate, which looks at the role alone. *what is seen* and *if seen* are the first table.",
        "`/v1/overdue` and `/v1/due-soon` are narrowed to the operator's own step, `/v1/work` to the agency,",
        "`GET /v1/complaints` to the citizen. The reporter of an anonymous case is given to nobody (403).",
        "A machine account passes where its role does and it has the scope `<service>:read` (GET) or `<service>:write`",
        "(all else); nowhere, whatever its scopes, at `/v1/me/second-factor` and the reporter of a case.",
        "Each service answers everybody at `/health/live`, `/health/ready`, `/metrics` and `/asyncapi.json`.",
    ]
    for service, rows in MATRIX.items():
        lines += ["", f"### {service}", "", f"| Route | {' | '.join(c.value for c in Caller)} |"]
        lines.append(f"|---|{'---|' * len(Caller)}")
        for route, allowed in rows.items():
            cells = [outcome(SHOWS[service][route], allowed, caller) for caller in Caller]
            lines.append(f"| `{route}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _statuses(seen: frozenset[Status]) -> str:
    return "always" if seen == _EVER else ", ".join(s.value for s in Status if s in seen) or "never"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
