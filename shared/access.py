"""Who may see a case: one rule for all services that show cases or their photos (SOP: each desk sees what it needs).

``anonim`` hides the reporter, whom events name by a pseudonym of each complaint; ``rahasia`` hides the report from
everybody but the desk that holds it, the agency that has it, and the coordinator.
"""

from shared.auth import Principal
from shared.case import Case
from shared.sop import Role, Status

_WITH_AGENCY = frozenset(
    {Status.ASSIGNED, Status.IN_PROGRESS, Status.COMPLETED, Status.DOCUMENTED, Status.ANSWERED, Status.CLOSED}
)
_HOLDS = {
    Role.CENTRAL_OPERATOR: frozenset({Status.SUBMITTED}),
    Role.REGIONAL_OPERATOR: frozenset({Status.FORWARDED, Status.COMPLETED}),
}
"""The statuses in which an operator's desk holds the case (``shared.sop``: whose moves start there)."""


def holding(role: Role) -> frozenset[Status]:
    """The statuses in which an operator's own desk holds a case."""
    return _HOLDS.get(role, frozenset())


def may_see(case: Case, principal: Principal, reporter: str | None = None) -> bool:
    """Whether the caller may see this case. What he may not see must look as if it did not exist. ``reporter`` is the
    account of who reported, where the events name it by a pseudonym (`shared.pseudonyms`)."""
    match principal.role:
        case Role.CITIZEN:
            return (reporter or case.reporter_id) == principal.id
        case Role.COORDINATOR | Role.SYSTEM:
            return True
        case Role.AGENCY_OPERATOR:
            own = case.agency is not None and case.agency.code == principal.agency
            return own and case.status in _WITH_AGENCY
        case Role.CENTRAL_OPERATOR | Role.REGIONAL_OPERATOR:
            confidential = case.report is None or case.report.visibility == "rahasia"
            return not confidential or case.status in holding(principal.role)
        case _:
            return False
