"""How every desk makes a move: read the case, decide, write to the journal; of two at once, one wins and the other is
told."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from pydantic import BaseModel

from shared import telemetry
from shared.auth import Principal
from shared.case import Case
from shared.events import Actor, ChainEvent, ComplaintEvent, Event
from shared.http import Problem, refused
from shared.journal import Idempotency, Journal, Taken
from shared.projection import Document
from shared.sop import Refusal, Role, Transition
from shared.visibility import NEVER_OF_EVENTS

E = TypeVar("E", bound=ChainEvent)

Find = Callable[[str], Awaitable[tuple[Document, Case]]]
"""Reads the document that the caller may see, and its case, or raises `shared.http.not_found`."""


class Moved(BaseModel):
    """The answer to a move: the complaint's new state. Reading the case at once shows it."""

    complaint_id: str
    number: str
    seq: int
    event_id: str
    transition: Transition


def actor(principal: Principal) -> Actor:
    """The caller as events name it."""
    return Actor(role=principal.role, id=principal.id, agency=principal.agency)


def state(case: Case, role: Role) -> dict[str, Any]:
    """The fresh state that a refusal carries."""
    return {"status": case.status, "seq": case.seq, "allowed": case.allowed(role)}


async def carry_out(
    journal: Journal,
    find: Find,
    complaint_id: str,
    principal: Principal,
    decide: Callable[[Case], E | Refusal],
    once: Idempotency | None,
) -> Moved:
    """Make the move that ``decide`` decides. Raises the problem of its refusal with the fresh state, 404, or 409 to the
    slower of two; the same request under the same key gets the same answer, whatever has happened since."""
    telemetry.bind_complaint(complaint_id)
    try:
        document, case = await find(complaint_id)
        decision = decide(case)
        if isinstance(decision, Refusal):
            raise refused(decision, state=state(case, principal.role))
        try:
            event: Event = await journal.append(decision, once, {complaint_id: document})
        except Taken:
            _, fresh = await find(complaint_id)
            raise refused(Refusal.WRONG_STATUS, state=state(fresh, principal.role)) from None
    except Problem:
        # What stands in the way, even that the caller may not see the case any more, may be this request's own effect.
        earlier = await journal.replay(once)
        if earlier is None:
            raise
        event = earlier
    assert isinstance(event, ChainEvent)
    return moved(event)


def moved(event: ChainEvent) -> Moved:
    """The answer that tells of an event."""
    return Moved(
        complaint_id=event.complaint_id,
        number=event.number,
        seq=event.seq,
        event_id=event.id,
        transition=event.transition,
    )


def chronicle(events: Iterable[ComplaintEvent]) -> list[dict[str, Any]]:
    """Events as staff read them in a case: what, when, by which role and agency. No account is named, the reporter's
    least of all: who made a move stands in the journal."""
    return [{"event": event.topic, **event.model_dump(mode="json", exclude=NEVER_OF_EVENTS)} for event in events]
