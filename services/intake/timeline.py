"""A complaint's time line as the citizen reads it: each event in a sentence, by role or agency and never by a person's
name."""

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, Field

from shared.events import (
    Answered,
    Assigned,
    ChainEvent,
    Closed,
    ComplaintEvent,
    Completed,
    Declined,
    Documented,
    Forwarded,
    NotificationDelivered,
    ProgressNoted,
    Reopened,
    Resubmitted,
    Returned,
    ReworkRequested,
    Started,
    Submitted,
)

_CLOSED = {
    "rated": ("Laporan ditutup dengan penilaian {rating} dari 5.", "Closed with a rating of {rating} out of 5."),
    "withdrawn": ("Laporan ditutup oleh pelapor.", "Closed by the reporter."),
    "lapsed": (
        "Laporan ditutup otomatis karena batas waktu tanggapan lewat.",
        "Closed: the time to respond has passed.",
    ),
}
_RETURNED = {
    "incomplete": ("Laporan dikembalikan karena belum lengkap.", "Returned as incomplete."),
    "outside_authority": (
        "Laporan dikembalikan karena di luar kewenangan kota.",
        "Returned: not within the city's authority.",
    ),
}


class TimelineEntry(BaseModel):
    """One entry: ``text`` (Indonesian) and ``text_en`` say what happened, ``note`` repeats what somebody wrote about
    it."""

    at: datetime
    event: str = Field(examples=["complaint.assigned"])
    seq: int
    by: str = Field(examples=["regional_operator"], description="a role, or the name of an agency")
    text: str
    text_en: str
    note: str | None = None


def timeline(events: Sequence[ComplaintEvent], *, notes: bool = True) -> list[TimelineEntry]:
    """The entries of a complaint, oldest first. Without ``notes``, what people wrote is left out: it may tell who they
    are."""
    entries = []
    for event in events:
        sentence = _sentence(event)
        if sentence is None:
            continue
        text, text_en, note = sentence
        agency = getattr(event, "agency", None)
        role = event.actor.role.value if isinstance(event, ChainEvent | ProgressNoted) else "system"
        entries.append(
            TimelineEntry(
                at=event.occurred_at,
                event=event.topic,
                seq=event.seq,
                by=agency.name if agency and role == "agency_operator" else role,
                text=text,
                text_en=text_en,
                note=note if notes else None,
            )
        )
    return entries


def _sentence(event: ComplaintEvent) -> tuple[str, str, str | None] | None:
    """Indonesian, English, and the free text that goes with it."""
    match event:
        case Submitted():
            return "Laporan diterima.", "The complaint was received.", None
        case Forwarded():
            return "Laporan diteruskan ke operator daerah.", "Forwarded to the regional operator.", None
        case Returned():
            return *_RETURNED[event.reason], event.explanation
        case Resubmitted():
            return "Laporan diperbaiki dan dikirim ulang.", "Corrected and sent again.", None
        case Assigned():
            return f"Laporan didisposisikan ke {event.agency.name}.", f"Assigned to {event.agency.name}.", None
        case Declined():
            name = event.agency.name
            return (
                f"{name} menyatakan bukan kewenangannya; laporan ditinjau kembali.",
                f"{name} declined.",
                event.reason,
            )
        case Started():
            return "Laporan sedang diproses.", "The complaint is being worked on.", event.unit
        case ProgressNoted():
            return "Perkembangan tindak lanjut.", "Progress of the work.", event.note
        case Completed():
            return "OPD melaporkan pekerjaan selesai.", "The agency reports the work as finished.", event.note
        case ReworkRequested():
            return (
                "Bukti belum memadai; OPD diminta melengkapi.",
                "The evidence does not do; the agency works on.",
                None,
            )
        case Documented():
            return "Tindak lanjut didokumentasikan.", "The follow-up was documented.", event.note
        case Answered():
            return "Jawaban telah disampaikan kepada Anda.", "The reply has reached you.", None
        case Reopened():
            return "Laporan dibuka kembali.", "Reopened.", event.reason
        case Closed():
            text, text_en = _CLOSED[event.outcome]
            return text.format(rating=event.rating), text_en.format(rating=event.rating), event.comment
        case NotificationDelivered() if event.notice == "receipt":
            return "Tanda terima telah dikirim.", "The receipt was sent.", None
        case _:
            return None
