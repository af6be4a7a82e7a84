"""Following a complaint by its number and tracking code, without signing in."""

from fastapi import APIRouter
from pydantic import Field

from services.intake.api.complaints import Intake, timeline_of
from services.intake.api.forms import Timeline
from services.intake.number import parse_number
from shared.http import Body, not_found
from shared.visibility import Viewer


class Track(Body):
    """What stands on the receipt. In the body, so that the code gets into no log of addresses."""

    number: str = Field(max_length=30, examples=["LP-7K3M-9QX2-T"])
    tracking_code: str = Field(max_length=60)


def router(intake: Intake) -> APIRouter:
    """The route that needs no token."""
    api = APIRouter(prefix="/v1", tags=["tracking"])

    @api.post("/tracking", summary="Follow a complaint by number and tracking code")
    async def track(body: Track) -> Timeline:
        try:
            document = await intake.complaints.find_number(parse_number(body.number))
        except ValueError:
            document = None
        # A complaint that does not exist is compared as well, so that the time tells nothing.
        fits = intake.codes.matches(document["_id"] if document else "", body.tracking_code)
        if document is None or not fits or document["title"] is None:
            raise not_found("complaint with this number and code")
        return timeline_of(intake, document, Viewer.TRACKING)

    return api
