"""Cases in every situation: each visibility in each status, of one citizen, and with one agency."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.events import Photo, Report
from shared.sop import Status, Transition
from tests.support.events import STRAIGHT, Chain

_T = Transition
WAYS: dict[Status, tuple[Transition, ...]] = {
    Status.SUBMITTED: (),
    Status.FORWARDED: STRAIGHT[1:2],
    Status.RETURNED: (*STRAIGHT[1:2], _T.RETURNED),
    Status.ASSIGNED: STRAIGHT[1:3],
    Status.IN_PROGRESS: STRAIGHT[1:4],
    Status.COMPLETED: STRAIGHT[1:5],
    Status.DOCUMENTED: STRAIGHT[1:6],
    Status.ANSWERED: STRAIGHT[1:7],
    Status.CLOSED: (*STRAIGHT[1:7], _T.CLOSED),
}
"""The moves after the first by which a case comes to each status."""


@dataclass(frozen=True, slots=True)
class Situation:
    """A case, and the word of its title that no other case has."""

    visibility: str
    status: Status
    chain: Chain
    word: str


def situations(
    reporter_id: str,
    at: datetime,
    write: Callable[..., Report],
    evidence: Photo,
) -> Iterator[Situation]:
    """All situations. ``write`` makes a report; ``evidence`` is the photo of the finished work."""
    number = 0
    for visibility in ("public", "anonim", "rahasia"):
        for status, way in WAYS.items():
            number += 1
            word = f"perkara{number:02}{visibility}"
            chain = Chain(at=at, report=write(title=f"Jalan rusak {word}", visibility=visibility))
            first = chain.events[0]
            chain.reporter_id, chain.number = reporter_id, chain.number.upper()
            changes = {"reporter_id": reporter_id, "actor": {"role": "citizen", "id": reporter_id}}
            chain.events[0] = type(first).model_validate(first.model_dump() | changes | {"number": chain.number})
            for move in way:
                fields: dict[str, Any] = {
                    _T.COMPLETED: {"photos": (evidence,)},
                    _T.DOCUMENTED: {"evidence": (evidence,)},
                }.get(move, {})
                chain.then(move, **fields)
            yield Situation(visibility, status, chain, word)
