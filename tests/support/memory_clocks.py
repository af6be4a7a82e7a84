"""The sla service's clocks in memory, as far as its consumer and its ticker use them (``tests/contract``)."""

from datetime import datetime

from services.sla import projection
from services.sla.desk import Rules
from shared.projection import Document, Projection
from tests.support.memory import MemoryDocuments, copied


class MemoryClocks:
    """`services.sla.store.ClockStore` on `MemoryDocuments`."""

    def __init__(self, rules: Rules, store: MemoryDocuments | None = None) -> None:
        self.store = store or MemoryDocuments()
        self.projection = Projection(self.store, projection.deriving(rules), projection.TAKES)

    async def find(self, complaint_id: str) -> Document | None:
        return (await self.store.load([complaint_id])).get(complaint_id)

    async def alarming(self, until: datetime, limit: int) -> list[Document]:
        await self.store.load(())
        due = [d for d in self.store.documents.values() if "next_alarm_at" in d and d["next_alarm_at"] <= until]
        return [copied(d) for d in sorted(due, key=lambda d: (d["next_alarm_at"], d["_id"]))[:limit]]
