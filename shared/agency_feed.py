"""The agencies' own topics: each has what was assigned to that agency and nothing else, for the agency's own system.

A record is the event of `complaint.assigned` under the same CloudEvents contract and with the same id, but for the
opaque ids of the reporter and of who assigned it: an agency's system cannot tell which complaints are one person's.
"""

from collections.abc import Sequence

from shared.events import Assigned, Event

AGENCY_TOPICS = "agency."
"""How the names of these topics begin (without the namespace)."""
WITHHELD = "withheld"
"""What stands in an agency's topic for a person's opaque id."""


def agency_topic(code: str) -> str:
    """The topic of the agency with a code as in the directory (without the namespace)."""
    return f"{AGENCY_TOPICS}{code}.assigned"


def copies(event: Event) -> Sequence[tuple[str, Event]]:
    """What an event is published as besides itself, each with its topic."""
    if not isinstance(event, Assigned):
        return ()
    actor = event.actor.model_copy(update={"id": WITHHELD})
    return [(agency_topic(event.agency.code), event.model_copy(update={"reporter_id": WITHHELD, "actor": actor}))]


def no_copies(event: Event) -> Sequence[tuple[str, Event]]:
    """For those who publish to the topics of the procedure alone: operators' commands, tests."""
    return ()
