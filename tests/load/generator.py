"""Closed-loop load: so many connections, each with one request under way at any time."""

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.load.wire import connect

_ID = b'{"complaint_id":"'


@dataclass(slots=True)
class Load:
    """What came of a run. ``latencies`` are seconds, sorted; ``complaints`` are the ids that answers of 201 named."""

    seconds: float
    latencies: list[float]
    statuses: Counter[int]
    complaints: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Accepted requests per second."""
        return self.statuses[201] / self.seconds

    @property
    def refused(self) -> int:
        """Answers other than 201."""
        return self.statuses.total() - self.statuses[201]


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the sorted values lie (nearest rank)."""
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered)) - 1))] if ordered else float("nan")


@contextmanager
def undisturbed() -> Iterator[None]:
    """The generator collects no garbage in the middle of a run."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def closed_loop(url: str, connections: int, produce: Callable[[], bytes], seconds: float) -> Load:
    """Send what ``produce`` gives for so long."""
    opened = [await connect(url) for _ in range(connections)]
    took: list[int] = []
    statuses: Counter[int] = Counter()
    complaints: list[str] = []
    clock = time.perf_counter_ns

    async def use(connection_number: int, until: int) -> None:
        send = opened[connection_number].send
        while True:
            sent_at = clock()
            if sent_at >= until:
                return
            status, body = await send(produce())
            took.append(clock() - sent_at)
            statuses[status] += 1
            if status == 201 and body.startswith(_ID):
                complaints.append(body[17:53].decode())

    with undisturbed():
        began = clock()
        await asyncio.gather(*(use(n, began + int(seconds * 1e9)) for n in range(connections)))
        ended = clock()
    for connection in opened:
        connection.close()
    return Load((ended - began) / 1e9, sorted(t / 1e9 for t in took), statuses, complaints)
