"""What a service declares about the topics: by it its consumer, its documents and its rights are made."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.events import AuditAnchored


@dataclass(frozen=True, slots=True)
class Contract:
    """What a service takes from the topics and what it issues (topic names without the namespace)."""

    consumes: Sequence[str]
    issues: Sequence[str]

    @property
    def publishes(self) -> tuple[str, ...]:
        """What it issues, and what every service does: the anchors of its audit log."""
        return (*self.issues, AuditAnchored.topic)
