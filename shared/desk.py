"""How every desk makes a move: read the case, decide, write to the journal; of two at once, one wins and the other is
told."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import BaseModel

from shared import telemetry
from shared.auth import Principal
from shared.case import Case
from shared.events import Actor, ChainEvent
from shared.http import refused
from shared.journal import Idempotency, Journal, Taken
from shared.projection import Document
from shared.sop import Refusal, Role, Transition

E = TypeVar("E", bound=ChainEvent)

Find = Callable[[str], Awaitable[Document]]
"""Reads the document that the caller may see, or raises `shared.http.not_found`."""


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
    slower of two."""
    telemetry.bind_complaint(complaint_id)
    document = await find(complaint_id)
    case = Case.of_document(document)
    decision = decide(case)
    if isinstance(decision, Refusal):
        earlier = await journal.replay(once)
        if isinstance(earlier, ChainEvent):
            return moved(earlier)
        raise refused(decision, state=state(case, principal.role))
    try:
        event = await journal.append(decision, once, {complaint_id: document})
    except Taken:
        fresh = Case.of_document(await find(complaint_id))
        raise refused(Refusal.WRONG_STATUS, state=state(fresh, principal.role)) from None
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
