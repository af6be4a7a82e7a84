"""The agency directory over HTTP: read by all staff, changed by the administrator."""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import Field

from services.routing.agency_store import AgencyStore
from services.routing.agency_topics import AgencyTopics
from shared.audit import AuditLog
from shared.auth import Principal
from shared.http import Body, any_of, not_found
from shared.projection import Document
from shared.sop import Role

Staff = Annotated[
    Principal,
    any_of(Role.CENTRAL_OPERATOR, Role.REGIONAL_OPERATOR, Role.COORDINATOR, Role.AGENCY_OPERATOR, Role.ADMIN),
]
Admin = Annotated[Principal, any_of(Role.ADMIN)]
Code = Annotated[str, Path(pattern=r"^[A-Z][A-Z0-9-]{1,19}$", examples=["DPUPR"])]
CategoryCode = Annotated[str, Field(pattern=r"^[a-z][a-z_]{1,39}$")]


class GivenAgency(Body):
    """An agency as the administrator writes it. One that is not active gets no new cases; it keeps those that it
    has."""

    name: str = Field(min_length=3, max_length=200, examples=["Dinas Lingkungan Hidup"])
    categories: list[CategoryCode] = Field(min_length=1, max_length=30, examples=[["waste", "parks_trees"]])
    units: list[Annotated[str, Field(min_length=2, max_length=200)]] = Field(max_length=50, examples=[["Sekretariat"]])
    active: bool = Field(True, strict=True)


class AgencyEntry(GivenAgency):
    code: str


def router(agencies: AgencyStore, topics: AgencyTopics, audit: AuditLog) -> APIRouter:
    """The routes about agencies."""
    api = APIRouter(prefix="/v1/agencies", tags=["agencies"])

    @api.get("", summary="The agencies, by code")
    async def directory(principal: Staff, active_only: bool = True) -> list[AgencyEntry]:
        return [_entry(agency) for agency in await agencies.all(active_only=active_only)]

    @api.get("/{code}", summary="One agency")
    async def show(code: Code, principal: Staff) -> AgencyEntry:
        agency = await agencies.find(code)
        if agency is None:
            raise not_found("agency")
        return _entry(agency)

    @api.put("/{code}", summary="Add or change an agency")
    async def put(code: Code, body: GivenAgency, principal: Admin) -> AgencyEntry:
        fields: dict[str, Any] = body.model_dump()
        await agencies.put({"_id": code, **fields}, audit, principal.id, principal.role.value)
        await topics.follow()
        return AgencyEntry(code=code, **fields)

    return api


def _entry(agency: Document) -> AgencyEntry:
    return AgencyEntry(code=agency["_id"], **{name: agency[name] for name in GivenAgency.model_fields})
