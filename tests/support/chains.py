"""Hypothesis strategies: whatever chain of events the SOP's table allows, and the ways it can reach a reader."""

from datetime import timedelta
from typing import Any, TypeVar

from hypothesis import strategies as st

from shared.case import Case
from shared.events import Agency, ComplaintEvent
from shared.sop import DECLINES_BEFORE_COORDINATOR, Role, Status, Transition
from tests.support.events import PERKIM, PUPR, Chain

T = TypeVar("T")
AGENCIES = (PUPR, PERKIM, Agency(code="DLH", name="Dinas Lingkungan Hidup"))


def possible(chain: Chain) -> list[Transition]:
    """The moves that somebody may make from where the chain stands, in the table's order."""
    case = Case.of(chain.events)
    return sorted({move for role in Role for move in case.allowed(role)}, key=list(Transition).index)


@st.composite
def chains(draw: st.DrawFn, most: int = 14) -> Chain:
    """A complaint's legal chain of up to ``most`` moves, with side events between them."""
    chain = Chain()
    pauses = st.integers(0, 5 * 24 * 60).map(lambda minutes: timedelta(minutes=minutes))
    for _ in range(draw(st.integers(0, most - 1))):
        moves = possible(chain)
        if not moves:
            break
        move = draw(st.sampled_from(moves))
        chain.then(move, after=draw(pauses), **_choices(draw, chain, move))
        if draw(st.booleans()):
            chain.received(about=chain.seq) if draw(st.booleans()) else _note(chain)
    return chain


def _choices(draw: st.DrawFn, chain: Chain, move: Transition) -> dict[str, Any]:
    if move is Transition.ASSIGNED:
        binding = Case.of(chain.events).declines >= DECLINES_BEFORE_COORDINATOR
        return {"agency": draw(st.sampled_from(AGENCIES)), "binding": binding}
    return {}


def _note(chain: Chain) -> None:
    if chain.status is Status.IN_PROGRESS:
        chain.noted()


def deliveries(events: st.SearchStrategy[list[ComplaintEvent]]) -> st.SearchStrategy[list[list[ComplaintEvent]]]:
    """Batches in which a reader gets all of ``events``: in any order, any of them again, split anywhere."""
    return events.flatmap(
        lambda all_events: st.lists(st.sampled_from(all_events), max_size=len(all_events)).flatmap(
            lambda again: st.permutations([*all_events, *again]).flatmap(split)
        )
    )


@st.composite
def split(draw: st.DrawFn, items: list[T]) -> list[list[T]]:
    """``items`` cut into batches."""
    batches: list[list[T]] = []
    rest = list(items)
    while rest:
        size = draw(st.integers(1, len(rest)))
        batches.append(rest[:size])
        rest = rest[size:]
    return batches
