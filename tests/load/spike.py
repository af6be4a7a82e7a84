"""A spike: ten times what an intake process can do, and what is left of it afterwards."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from tests.load.create import proofs
from tests.load.generator import closed_loop, quantile, undisturbed
from tests.load.installation import installation
from tests.load.proof import until_level
from tests.load.reports import Reports
from tests.load.row import Comparison, Effort, Measured, compare, figure
from tests.load.wire import Connection, Lost, connect

CONNECTIONS = 2000
TIMES = 10
USUAL_CONNECTIONS = 64


@dataclass(slots=True)
class Rush:
    """What came of a spike. ``took`` are seconds by status; ``unsent`` found no free connection; ``health`` are the
    statuses and seconds of the health checks meanwhile; ``retry_after`` is what refusals said."""

    seconds: float = 0.0
    took: dict[int, list[float]] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    unsent: int = 0
    lost: int = 0
    health: list[tuple[int, float]] = field(default_factory=list)
    retry_after: Counter[str] = field(default_factory=Counter)

    @property
    def offered(self) -> float:
        """Requests per second that wanted to be sent."""
        return (sum(map(len, self.took.values())) + self.unsent + self.lost) / self.seconds


@dataclass(frozen=True, slots=True)
class Spike:
    """Creates at ten times the sustainable rate, in an open loop."""

    name: str = "spike"
    title: str = "A spike of ten times the sustainable rate"
    how: str = (
        f"One intake process. What {USUAL_CONNECTIONS} connections in a closed loop reach is the sustainable rate. "
        f"Then creates arrive at {TIMES} times that rate, whatever the answers, on up to {CONNECTIONS} connections; an "
        "arrival that finds none free is counted as unsent. Health is asked twice a second on connections of its own. "
        "From the fifth to the tenth second after the spike the closed loop is measured again."
    )

    def run(self, effort: Effort) -> Measured:
        seconds, usual = effort.pick(5, 60), effort.pick(3, 10)
        result = Measured([], facts={"seconds_of_spike": seconds, "connections": CONNECTIONS})
        before: list[float] = []
        after: list[float] = []
        rushes: list[Rush] = []
        acknowledged: list[str] = []
        with installation(effort.folder / "spike", effort.say) as bench:
            reports = Reports(bench.people(int(effort.pick(20, 200))).citizens)
            bench.system.stop("routing", "opd", "notify", "sla")
            url = bench.urls["intake"]
            bench.run(closed_loop(url, USUAL_CONNECTIONS, reports.next, usual))
            for number in range(1, int(effort.pick(1, 3)) + 1):
                until_level(bench, ("intake",), within=120)
                sustained = bench.run(closed_loop(url, USUAL_CONNECTIONS, reports.next, usual))
                with bench.cpu.of(result.cpu, f"spike {number}"):
                    rush = bench.run(_rush(url, reports.next, TIMES * sustained.rate, seconds))
                time.sleep(5)
                recovered = bench.run(closed_loop(url, USUAL_CONNECTIONS, reports.next, 5))
                before.append(sustained.rate)
                after.append(recovered.rate)
                rushes.append(rush)
                acknowledged += [*sustained.complaints, *rush.complaints, *recovered.complaints]
                bench.say(
                    f"  {number}: {sustained.rate:.0f}/s before, {rush.offered:.0f}/s offered, "
                    f"{ {status: len(took) for status, took in rush.took.items()} }, unsent {rush.unsent}, "
                    f"lost {rush.lost}, {recovered.rate:.0f}/s after"
                )
            until_level(bench, ("intake",), within=300)
            result.proofs |= proofs(bench, acknowledged) | _judged(rushes)
        result.comparisons += _comparisons(rushes, before, after)
        return result


def _judged(rushes: list[Rush]) -> dict[str, bool]:
    answers = {status for rush in rushes for status in rush.took}
    said = Counter[str]()
    for rush in rushes:
        said += rush.retry_after
    return {
        "every answer was 201 or 503": answers <= {201, 503},
        "something was refused": 503 in answers,
        "each refusal that was looked at said Retry-After": bool(said) and "" not in said,
        "no connection was dropped": not any(rush.lost for rush in rushes),
        "health answered at each look": all(status == 200 for rush in rushes for status, _ in rush.health),
    }


def _comparisons(rushes: list[Rush], before: list[float], after: list[float]) -> list[Comparison]:
    refused = [quantile(sorted(rush.took.get(503, [])), 0.99) for rush in rushes]
    health = [max(seconds for _, seconds in rush.health) for rush in rushes]
    return [
        compare("creates within 10 s after it", "/s", after, before, at_least=0.9, against_name="before"),
        figure("creates during it", "/s", [len(rush.took.get(201, [])) / rush.seconds for rush in rushes]),
        compare("offered", "/s", [rush.offered for rush in rushes], before, against_name="sustainable rate"),
        figure("refusal p99", "s", refused, at_most=1),
        figure("accepted p99", "s", [quantile(sorted(rush.took.get(201, [])), 0.99) for rush in rushes]),
        figure("slowest health check", "s", health, at_most=1),
    ]


async def _rush(url: str, produce: Callable[[], bytes], rate: float, seconds: float) -> Rush:
    rush = Rush()
    free = [await connect(url) for _ in range(CONNECTIONS)]
    opened = list(free)
    looking = [asyncio.create_task(_look(url, rush)), asyncio.create_task(_sample(url, produce(), rush))]
    waiting: set[asyncio.Task[None]] = set()
    with undisturbed():
        began = time.perf_counter()
        sent = 0
        while (now := time.perf_counter() - began) < seconds:
            while sent < rate * now:
                sent += 1
                if not free:
                    rush.unsent += 1
                    continue
                task = asyncio.create_task(_one(free.pop(), produce(), free, rush))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
            await asyncio.sleep(0.002)
        rush.seconds = time.perf_counter() - began
        if waiting:
            await asyncio.wait(waiting, timeout=60)
    rush.lost += len(waiting)
    for task in (*looking, *waiting):
        task.cancel()
    await asyncio.gather(*looking, *waiting, return_exceptions=True)
    for connection in opened:
        connection.close()
    return rush


async def _one(connection: Connection, request: bytes, free: list[Connection], rush: Rush) -> None:
    began = time.perf_counter()
    try:
        status, body = await connection.send(request)
    except Lost:
        rush.lost += 1
        return
    rush.took.setdefault(status, []).append(time.perf_counter() - began)
    if status == 201:
        rush.complaints.append(body[17:53].decode())
    free.append(connection)


async def _look(url: str, rush: Rush) -> None:
    """Ask for health twice a second, as an orchestrator does."""
    async with httpx.AsyncClient(base_url=url, timeout=10) as client:
        while True:
            for path in ("/health/live", "/health/ready"):
                began = time.perf_counter()
                try:
                    status = (await client.get(path)).status_code
                except httpx.HTTPError:
                    status = 0
                rush.health.append((status, time.perf_counter() - began))
            await asyncio.sleep(0.5)


async def _sample(url: str, request: bytes, rush: Rush) -> None:
    """Send the same create as an ordinary client, and note what refusals say."""
    head, _, body = request.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        while True:
            answer = await client.post("/v1/complaints", content=body, headers=headers)
            if answer.status_code == 503:
                rush.retry_after[answer.headers.get("retry-after", "")] += 1
            await asyncio.sleep(0.2)


SPIKE = Spike()
