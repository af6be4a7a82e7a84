"""What intake's routes about complaints take and give, as OpenAPI shows it."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints

from services.intake.timeline import TimelineEntry
from shared.events import Agency, Photo, Report
from shared.http import Body, Moment
from shared.sop import Desk, Status, Transition

Text = Annotated[str, StringConstraints(strip_whitespace=True)]
"""What a person wrote; blanks around it do not count."""
Line = Annotated[str, BeforeValidator(lambda text: " ".join(text.split()) if isinstance(text, str) else text)]
"""The same on one line."""
Name = Annotated[Line, Field(min_length=2, max_length=100, examples=["Siti Aminah"])]
Language = Literal["id", "en"]
PhotoId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class GivenPlace(Body):
    """A point inside the city (WGS 84, degrees), or an address, or both."""

    longitude: float | None = Field(None, ge=-180, le=180, strict=True, examples=[109.3425])
    latitude: float | None = Field(None, ge=-90, le=90, strict=True, examples=[-0.0263])
    address: str | None = Field(None, max_length=300, examples=["Jalan Gajah Mada, dekat simpang Pahlawan"])
    district: str | None = Field(None, max_length=50, examples=["Pontianak Selatan"])


class GivenReport(Body):
    """What a citizen reports (SOP step 1)."""

    title: Line = Field(min_length=10, max_length=150, examples=["Jalan berlubang di Gajah Mada"])
    description: Text = Field(
        min_length=20, max_length=5000, examples=["Lubang selebar satu meter, berbahaya malam hari."]
    )
    category: str = Field(max_length=40, examples=["roads"])
    place: GivenPlace
    seen_at: Moment = Field(description="when the problem was seen", examples=["2026-11-20T07:30:00+07:00"])
    photos: list[PhotoId] = Field(min_length=1, max_length=5, description="ids of photos that you have uploaded")
    visibility: Literal["public", "anonim", "rahasia"] = "public"


class Filed(BaseModel):
    """The receipt. The tracking code is shown here only; keep it to follow the complaint without signing in."""

    complaint_id: str
    number: str
    tracking_code: str
    status: Status
    submitted_at: datetime
    due_at: datetime | None = Field(description="when the central operator's analysis is due (SOP step 2)")


class ComplaintRow(BaseModel):
    """One row of a citizen's list. ``holder`` is the desk that has the complaint now; ``due_at`` when its step is
    due."""

    complaint_id: str
    number: str
    title: str
    category: str
    status: Status
    seq: int
    submitted_at: datetime
    moved_at: datetime
    holder: Desk | None
    due_at: datetime | None
    allowed: list[Transition] = Field(description="the moves that you can make now")


class ComplaintPage(BaseModel):
    items: list[ComplaintRow]
    next: str | None


class Complaint(ComplaintRow):
    """A complaint as its reporter sees it."""

    report: Report
    agency: Agency | None
    evidence: list[Photo] = Field(description="photos of the finished work, once the work is documented")
    evidence_note: str | None


class Timeline(BaseModel):
    number: str
    status: Status
    holder: Desk | None
    due_at: datetime | None
    entries: list[TimelineEntry]


class Reopen(Body):
    reason: Text = Field(min_length=10, max_length=2000, examples=["Jalan berlubang lagi setelah hujan pertama."])


class Rate(Body):
    rating: int = Field(ge=1, le=5, strict=True)
    comment: Text | None = Field(None, max_length=2000)


class Withdraw(Body):
    comment: Text | None = Field(None, max_length=2000)


class Reason(Body):
    reason: Text = Field(min_length=10, max_length=500, examples=["Menanyakan patokan lokasi kepada pelapor."])


class Reporter(BaseModel):
    """The reporter's data that the SOP gives the operators (step 2, "reporter's data")."""

    name: str
    email: str | None
    phone: str | None


class Category(BaseModel):
    code: str
    name: str
    name_en: str
