"""The page of who may do and see what is that of the tables, and each field of an answer has its row."""

import pytest
from pydantic import BaseModel

from services.intake.api import forms
from services.opd import api as opd
from services.routing.api import cases
from services.sla import api as sla
from shared.access import may_see
from shared.auth import Principal
from shared.case import Case
from shared.sop import Role
from shared.visibility import Viewer, cut, sees, viewer_of
from tests.access import PAGE, ROLE_OF, SEES, VISIBILITIES, Caller, page
from tests.support.events import STRAIGHT, Chain, report
from tests.support.situations import WAYS

ANSWERS: tuple[type[BaseModel], ...] = (
    forms.Complaint,
    forms.Timeline,
    cases.CaseFile,
    cases.InformedCase,
    opd.Work,
    sla.ComplaintClocks,
)
"""The models that show a case; their rows in lists are their bases."""


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.access and look at what has changed"


@pytest.mark.parametrize("model", ANSWERS)
def test_each_field_that_shows_a_case_has_a_row(model: type[BaseModel]) -> None:
    case = Case.of(Chain().events)
    for viewer in Viewer:
        fields = cut(viewer, case, dict.fromkeys(model.model_fields, "given"))
        assert {name for name, value in fields.items() if value == "given"} <= {
            name for name in fields if sees(viewer, name)
        }


def test_a_field_without_a_row_is_refused() -> None:
    with pytest.raises(KeyError, match="password"):
        cut(Viewer.COORDINATOR, None, {"number": "LP-1", "password": "x"})


def test_what_a_viewer_does_not_see_is_cut() -> None:
    done = Chain().through(*STRAIGHT[1:5])
    fields = {"evidence": ["p"], "evidence_note": "n", "considerations": "c", "status": "s"}
    shown = cut(Viewer.REPORTER, Case.of(done.events), dict(fields))
    assert shown == {"evidence": (), "evidence_note": None, "considerations": None, "status": "s"}
    done.through(*STRAIGHT[5:6])
    shown = cut(Viewer.REPORTER, Case.of(done.events), dict(fields))
    assert (shown["evidence"], shown["considerations"]) == (["p"], None)
    assert cut(Viewer.AGENCY_OPERATOR, Case.of(done.events), dict(fields)) == fields
    hidden = Case.of(Chain(report=report(visibility="anonim")).events)
    assert cut(Viewer.COORDINATOR, hidden, {"reporter": "ask"}) == {"reporter": None}
    assert cut(Viewer.COORDINATOR, Case.of(done.events), {"reporter": "ask"}) == {"reporter": "ask"}
    assert cut(Viewer.COORDINATOR, None, {"reporter": "ask"}) == {"reporter": None}, "nothing is known of the case"


def test_who_sees_no_case_has_no_view_of_it() -> None:
    for role in (Role.ADMIN, Role.SYSTEM):
        with pytest.raises(KeyError):
            viewer_of(role)


def test_the_rule_in_code_is_the_table() -> None:
    chains = [Chain(report=report(visibility=v)).through(*way) for v in VISIBILITIES for way in WAYS.values()]
    for case in (Case.of(chain.events) for chain in chains):
        assert case.report is not None
        assert case.status is not None
        for caller, role in ROLE_OF.items():
            if role is None:
                continue
            own = caller in (Caller.REPORTER, Caller.ITS_AGENCY)
            agency = ("DPUPR" if own else "DLH") if role is Role.AGENCY_OPERATOR else None
            principal = Principal(case.reporter_id if own else "somebody", role, agency)
            expected = case.status in SEES[case.report.visibility][caller]
            assert may_see(case, principal) == expected, (caller, case.report.visibility, case.status)
