"""The moves of the central and regional operators, and the coordinator's assignment."""

from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field, StringConstraints

from services.routing import desk
from services.routing.agency_store import AgencyStore
from services.routing.api.cases import seen
from services.routing.store import CaseStore
from shared.auth import Principal
from shared.calendar import Deadlines
from shared.case import Case
from shared.desk import Moved, actor, carry_out
from shared.direct import Direct
from shared.events import Agency, ChainEvent, now
from shared.http import Body, Once, any_of
from shared.journal import Journal
from shared.sop import MOVES, Refusal, Transition

CentralOperator = Annotated[Principal, any_of(*MOVES[Transition.FORWARDED].roles)]
RegionalOperator = Annotated[Principal, any_of(*MOVES[Transition.DOCUMENTED].roles)]
Assigner = Annotated[Principal, any_of(*MOVES[Transition.ASSIGNED].roles)]
Text = Annotated[str, StringConstraints(strip_whitespace=True)]


class Forward(Body):
    analysis: Text = Field(min_length=10, max_length=5000, examples=["Lengkap dan jelas; kewenangan kota."])


class Return(Body):
    reason: Literal["incomplete", "outside_authority"]
    explanation: Text = Field(
        min_length=10,
        max_length=2000,
        description="what is missing, or who is competent; the citizen reads it",
        examples=["Mohon lengkapi nama jalan dan patokan terdekat."],
    )


class Assign(Body):
    agency: str = Field(max_length=20, examples=["DPUPR"])
    considerations: Text = Field(
        min_length=10,
        max_length=5000,
        description="of the PPM team",
        examples=["Jalan kota; mendesak karena di depan sekolah."],
    )


class Rework(Body):
    reason: Text = Field(min_length=10, max_length=2000, examples=["Foto tidak menunjukkan lokasi yang dilaporkan."])


class Record(Body):
    note: Text = Field(min_length=3, max_length=2000, examples=["Bukti sesuai dengan laporan."])


def router(cases: CaseStore, agencies: AgencyStore, journal: Journal, deadlines: Deadlines) -> APIRouter:
    """The routes of the moves."""
    api = APIRouter(prefix="/v1/cases/{complaint_id}", tags=["moves"], route_class=Direct)

    async def move(
        complaint_id: str, principal: Principal, decide: Callable[[Case], ChainEvent | Refusal], once: Once
    ) -> Moved:
        return await carry_out(journal, lambda key: seen(cases, key, principal), complaint_id, principal, decide, once)

    @api.post("/forward", summary="Pass it on with your analysis (SOP step 2)", status_code=201)
    async def forward(complaint_id: str, body: Forward, principal: CentralOperator, once: Once) -> Moved:
        return await move(
            complaint_id, principal, lambda case: desk.forward(case, actor(principal), now(), body.analysis), once
        )

    @api.post("/return", summary='Back to the citizen (SOP step 3 "No")', status_code=201)
    async def return_(complaint_id: str, body: Return, principal: RegionalOperator, once: Once) -> Moved:
        return await move(
            complaint_id,
            principal,
            lambda case: desk.return_(case, actor(principal), now(), body.reason, body.explanation),
            once,
        )

    @api.post("/assign", summary='To an agency (SOP step 3 "Yes")', status_code=201)
    async def assign(complaint_id: str, body: Assign, principal: Assigner, once: Once) -> Moved:
        found = await agencies.find(body.agency)
        agency = Agency(code=found["_id"], name=found["name"]) if found and found["active"] else None
        return await move(
            complaint_id,
            principal,
            lambda case: desk.assign(case, actor(principal), now(), agency, body.considerations, deadlines),
            once,
        )

    @api.post("/rework", summary="The evidence does not do: say why", status_code=201)
    async def rework(complaint_id: str, body: Rework, principal: RegionalOperator, once: Once) -> Moved:
        return await move(
            complaint_id,
            principal,
            lambda case: desk.request_rework(case, actor(principal), now(), body.reason, deadlines),
            once,
        )

    @api.post("/document", summary="Record the evidence (SOP step 5)", status_code=201)
    async def document(complaint_id: str, body: Record, principal: RegionalOperator, once: Once) -> Moved:
        return await move(
            complaint_id, principal, lambda case: desk.document(case, actor(principal), now(), body.note), once
        )

    return api
