"""Rows 3 and 4: whole complaints, from filing to the reply, through all five services at once."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer

from shared.pieces import pieces
from shared.sop import Role
from tests.load.generator import quantile, undisturbed
from tests.load.installation import Agency, Installation, People
from tests.load.proof import Backlog, watching
from tests.load.reports import Reports
from tests.load.wire import Pool, pool, request

HAND_OVER_SECONDS = 0.25
"""What people at the next desk take to notice a case, at first. Whoever comes too early is refused and looks again
after as long, and the next ones take a little more time; whoever does not, a little less."""
SHORTEST_SECONDS, LONGEST_SECONDS = 0.1, 10.0
GIVE_UP_SECONDS = 60.0
_REFUSED_FOR_NOW = (404, 409, 429, 503)

_MOVES: Mapping[str, tuple[str, Role, dict[str, Any]]] = {
    "forward": ("routing", Role.CENTRAL_OPERATOR, {"analysis": "Lengkap dan jelas; kewenangan kota."}),
    "assign": ("routing", Role.REGIONAL_OPERATOR, {"considerations": "Kewenangan dinas; mendesak."}),
    "start": ("opd", Role.AGENCY_OPERATOR, {"unit": "Sekretariat, Subbagian Umum"}),
    "complete": ("opd", Role.AGENCY_OPERATOR, {"note": "Pekerjaan selesai dan sudah diperiksa di lapangan."}),
    "document": ("routing", Role.REGIONAL_OPERATOR, {"note": "Bukti sesuai dengan laporan."}),
}


class GivenUp(Exception):
    """A complaint could not be carried on; the text says where it stood and what was answered last."""


@dataclass(slots=True)
class Journey:
    """What came of a run, seen from outside. Times are monotonic seconds.

    ``answered_at`` is when the `answered` event of each complaint was read from its topic. ``drained`` is how long
    after the last request everything that waited was done, ``lag_gone`` that consumers had taken all records; None if
    it was not so within the ``waited`` seconds.
    """

    began: float = 0.0
    ended: float = 0.0
    last_request: float = 0.0
    filed_at: dict[str, float] = field(default_factory=dict)
    answered_at: dict[str, float] = field(default_factory=dict)
    latencies: dict[str, list[float]] = field(default_factory=dict)
    refusals: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    backlogs: list[tuple[float, Backlog]] = field(default_factory=list)
    drained: float | None = None
    lag_gone: float | None = None
    waited: float = 0.0

    @property
    def rate(self) -> float:
        """Complaints answered per second of the measured time."""
        return len(self._measured()) / (self.ended - self.began)

    def lifecycle(self, share: float) -> float:
        """Quantile of the seconds from the receipt to the reply, of those answered in the measured time."""
        took = [self.answered_at[c] - self.filed_at[c] for c in self._measured() if c in self.filed_at]
        return quantile(sorted(took), share)

    def request(self, share: float) -> float:
        """Quantile of the seconds that one accepted request took, whichever it was."""
        return quantile(sorted(t for took in self.latencies.values() for t in took), share)

    def _measured(self) -> list[str]:
        return [c for c, at in self.answered_at.items() if self.began <= at < self.ended]


class Play:
    """Carries complaints through the straight path: so many at a time, each by its own people in turn."""

    def __init__(self, bench: Installation, people: People, pools: Mapping[str, Pool], journey: Journey) -> None:
        self._bench = bench
        self._reports = Reports(people.citizens)
        self._pools = pools
        self._journey = journey
        self._answers: dict[str, asyncio.Future[None]] = {}
        self._requests = [_requests(people, agency) for agency in people.agencies]
        self._pauses = dict.fromkeys(_MOVES, HAND_OVER_SECONDS)
        self._lengthened = dict.fromkeys(_MOVES, 0.0)
        self._filed = 0
        self.stopping = False

    async def one(self) -> None:
        """One complaint, from filing to the reply."""
        self._filed += 1
        produce = self._requests[self._filed % len(self._requests)]
        file_it = self._reports.next()
        body = await self._until_accepted("file", "intake", lambda: file_it)
        complaint = body[17:53].decode()
        self._journey.filed_at[complaint] = time.monotonic()
        answered = self._answers[complaint] = asyncio.get_running_loop().create_future()
        for move, (service, _, _) in _MOVES.items():
            if move not in ("assign", "complete"):
                await asyncio.sleep(self._pauses[move])
            sent = produce[move](complaint)
            await self._until_accepted(move, service, lambda sent=sent: sent)  # type: ignore[misc]
        async with asyncio.timeout(GIVE_UP_SECONDS):
            await answered

    async def _until_accepted(self, move: str, service: str, produce: Callable[[], bytes]) -> bytes:
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while True:
            sent_at = time.monotonic()
            status, body = await self._pools[service].send(produce())
            self._journey.last_request = done_at = time.monotonic()
            if status == 201:
                if move in _MOVES:
                    self._pauses[move] = max(SHORTEST_SECONDS, self._pauses[move] * 0.995)
                self._journey.latencies.setdefault(move, []).append(done_at - sent_at)
                return body
            self._journey.refusals[f"{move} {status}"] += 1
            if status not in _REFUSED_FOR_NOW or done_at > deadline:
                raise GivenUp(f"{move}: {status} {body[:300]!r}")
            self._lengthen(move)
            await asyncio.sleep(HAND_OVER_SECONDS)

    def _lengthen(self, move: str) -> None:
        """Once for all who came too early at the same time."""
        moment = time.monotonic()
        if moment - self._lengthened.get(move, moment) > HAND_OVER_SECONDS:
            self._lengthened[move] = moment
            self._pauses[move] = min(LONGEST_SECONDS, self._pauses[move] * 1.15)

    async def again_and_again(self, after: float) -> None:
        """One complaint after the other until it is to stop, beginning so many seconds from now."""
        await asyncio.sleep(after)
        while not self.stopping:
            await self.one_if_it_can()

    async def one_if_it_can(self) -> None:
        """One complaint; a failure is noted. Raises it when there are too many."""
        try:
            await self.one()
        except (GivenUp, TimeoutError, ConnectionError) as failure:
            self._journey.failures.append(repr(failure))
            if len(self._journey.failures) > 100:
                raise

    async def listen(self, consumer: AIOKafkaConsumer) -> None:
        """Note when each reply's event comes."""
        async for record in consumer:
            complaint = record.key.decode()
            self._journey.answered_at[complaint] = time.monotonic()
            waiting = self._answers.pop(complaint, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)


def _requests(people: People, agency: Agency) -> dict[str, Callable[[str], bytes]]:
    """For each move what makes its request for a complaint."""
    made = {}
    for move, (service, role, body) in _MOVES.items():
        own: dict[str, dict[str, Any]] = {"assign": {"agency": agency.code}, "complete": {"photos": [agency.photo]}}
        more = own.get(move, {})
        token = agency.token if role is Role.AGENCY_OPERATOR else people.staff[role]
        of = "cases" if service == "routing" else "work"
        whole = request(
            "POST",
            f"/v1/{of}/COMPLAINT/{move}",
            json.dumps(body | more).encode(),
            token=token,
            headers={"Idempotency-Key": f"{move}-COMPLAINT"},
        )
        made[move] = _filling(whole)
    return made


def _filling(whole: bytes) -> Callable[[str], bytes]:
    before, between, after = whole.split(b"COMPLAINT")
    return lambda complaint: b"".join((before, (name := complaint.encode()), between, name, after))


async def play(
    bench: Installation, people: People, *, in_flight: int, warm_up: float, seconds: float, drain: float
) -> Journey:
    """Keep ``in_flight`` complaints on their way for ``warm_up`` and then ``seconds``; let those under way come to
    their end, and wait up to ``drain`` seconds until nothing waits anywhere."""
    journey = Journey()
    async with (
        pool(bench.urls["intake"], 16) as intake,
        pool(bench.urls["routing"], 32) as routing,
        pool(bench.urls["opd"], 16) as opd,
        _replies(bench) as consumer,
        watching(bench) as watch,
    ):
        scene = Play(bench, people, {"intake": intake, "routing": routing, "opd": opd}, journey)
        listening = asyncio.create_task(scene.listen(consumer))
        with undisturbed():
            # spread, so that they do not come to each desk all at once
            players = [
                asyncio.create_task(scene.again_and_again(warm_up * n / (2 * in_flight))) for n in range(in_flight)
            ]
            started = time.monotonic()
            journey.began, journey.ended = started + warm_up, started + warm_up + seconds
            next_look = 0.0
            while time.monotonic() < journey.ended:
                await asyncio.sleep(min(2.0, max(0.05, journey.ended - time.monotonic())))
                backlog = await watch.backlog()
                journey.backlogs.append((time.monotonic() - started, backlog))
                if time.monotonic() > next_look:
                    next_look = time.monotonic() + 10
                    bench.say(f"    {len(journey.answered_at)} answered; {backlog}")
            scene.stopping = True
            await asyncio.gather(*players)
            over = journey.last_request
            while time.monotonic() - over < drain:
                backlog = await watch.backlog()
                journey.waited = passed = time.monotonic() - over
                journey.backlogs.append((time.monotonic() - started, backlog))
                if not backlog.lag and journey.lag_gone is None:
                    journey.lag_gone = passed
                if not backlog.total:
                    journey.drained = passed
                    break
                await asyncio.sleep(0.2)
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
    return journey


@asynccontextmanager
async def paced(bench: Installation, people: People, rate: float) -> AsyncIterator[Journey]:
    """Within it ``rate`` complaints a second set out; those under way are waited for at the end."""
    journey = Journey()
    async with (
        pool(bench.urls["intake"], 16) as intake,
        pool(bench.urls["routing"], 32) as routing,
        pool(bench.urls["opd"], 16) as opd,
        _replies(bench) as consumer,
    ):
        scene = Play(bench, people, {"intake": intake, "routing": routing, "opd": opd}, journey)
        listening = asyncio.create_task(scene.listen(consumer))
        under_way: set[asyncio.Task[None]] = set()

        async def set_out() -> None:
            due = time.monotonic()
            while True:
                task = asyncio.create_task(scene.one_if_it_can())
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                due += 1 / rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))

        setting_out = asyncio.create_task(set_out())
        try:
            yield journey
        finally:
            setting_out.cancel()
            await asyncio.gather(setting_out, *under_way, return_exceptions=True)
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening


@asynccontextmanager
async def _replies(bench: Installation) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        bench.services.topic_prefix + "complaint.answered",
        bootstrap_servers=bench.services.kafka_bootstrap,
        auto_offset_reset="latest",
        group_id=None,
    )
    await consumer.start()
    await consumer.seek_to_end()
    try:
        yield consumer
    finally:
        await consumer.stop()


def proofs(bench: Installation, journeys: Sequence[Journey]) -> dict[str, bool]:
    """That each complaint that was filed is answered in the stores of intake and sla, and has left its notices."""
    filed = [complaint for journey in journeys for complaint in journey.filed_at]
    answered = {complaint for journey in journeys for complaint in journey.answered_at}
    with bench.mongo() as client:

        def those(service: str, collection: str, query: dict[str, Any], of: str = "_id") -> Counter[str]:
            found: Counter[str] = Counter()
            for some in pieces(filed, 1000):
                ids = some if of == "_id" else [f"{complaint}:{seq}" for complaint in some for seq in range(1, 8)]
                documents = client[bench.services.database(service)][collection].find(
                    {of: {"$in": ids}} | query, {of: 1}
                )
                found.update(document[of].partition(":")[0] for document in documents)
            return found

        at_intake = those("intake", "complaints", {"status": "answered"})
        at_sla = those("sla", "clocks", {"status": "answered"})
        unmet = those("sla", "clocks", {"due.receipt": {"$exists": True}})
        notices = those("notify", "inbox", {"audience": {"$regex": "^citizen:"}}, of="about")
    return {
        "complaints were filed": bool(filed),
        "each was answered on the topic": answered.issuperset(filed),
        "and in intake's store": at_intake.keys() >= set(filed),
        "and in sla's store": at_sla.keys() >= set(filed),
        "each receipt's clock was met": not unmet,
        "each citizen has the seven notices": all(notices[complaint] == 7 for complaint in filed),
    }
