"""The people: citizens and staff who drive complaints through the procedure, some of them wrongly, some of them twice.

Each request goes to the desk's production code (`shared.desk.carry_out` and the service's ``desk.py``) in a process of
the service; what HTTP adds is left out. The history of requests and answers is what the checker judges by.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from services.intake import desk as intake_desk
from services.opd import desk as opd_desk
from services.routing import desk as routing_desk
from services.routing.api.cases import seen
from shared.access import may_see
from shared.auth import Principal
from shared.case import Case
from shared.desk import Moved, actor, carry_out
from shared.events import CitizenContact, Event, Report, new_id, now
from shared.http import Problem, not_found, refused
from shared.journal import Idempotency, KeyReused, Overloaded, Taken
from shared.projection import Document
from shared.sop import MOVES, Desk, Refusal, Role, Status, Transition
from shared.storage import TRANSIENT
from tests.simulation.processes import AGENCIES, DEADLINES, Process
from tests.simulation.world import World
from tests.support.events import PUPR, photo, report

UNKNOWN = (ConnectionError, Overloaded, TimeoutError, *TRANSIENT)
"""What a client gets as 503, or as a connection that breaks: the same request may be sent again."""
REFUSED = (Problem, Taken, KeyReused)
_T = Transition


@lru_cache(maxsize=1)
def plain_report() -> Report:
    """The report that all citizens make here."""
    return report()


@dataclass(slots=True)
class Answer:
    """One request and what came of it. ``event`` is the id of the event that was acknowledged."""

    request: int
    key: str | None
    complaint: str
    what: str
    event: str | None = None
    failure: str | None = None


class People:
    """Everybody outside. ``pick`` gives a process of a service, if one runs."""

    def __init__(self, world: World, pick: Callable[[str], Process | None]) -> None:
        self._world = world
        self._pick = pick
        self._requests = 0
        self.history: list[Answer] = []
        self.complaints: list[str] = []
        self.citizens: list[Principal] = []

    async def _ask(
        self, who: str, service: str, complaint: str, what: str, work: Callable[[Process, Idempotency | None], Any]
    ) -> Moved | None:
        """Make one request until it is answered, or given up; some send it once more although it was answered."""
        world, random = self._world, self._world.random
        self._requests += 1
        request = self._requests
        key = f"request-{request}" if random.random() < 0.85 else None
        once = Idempotency(key, what) if key else None
        moved: Moved | None = None
        for _ in range(8):
            process = self._pick(service)
            answer = Answer(request, key, complaint, what)
            self.history.append(answer)
            try:
                if process is None:
                    raise ConnectionError("connection refused")
                async with asyncio.timeout(4):
                    moved = await process.request(lambda at, once=once: work(at, once))  # type: ignore[misc]
                answer.event = moved.event_id
                world.tell(who, f"{what}: yes, {moved.event_id}")
            except UNKNOWN as error:
                answer.failure = "unknown"
                world.tell(who, f"{what}: {type(error).__name__}, outcome unknown")
                if key is None:
                    return None
            except REFUSED as refusal:
                answer.failure = "refused"
                world.tell(who, f"{what}: refused, {getattr(refusal, 'name', type(refusal).__name__)}")
                return None
            except Exception as error:  # noqa: BLE001 - what nobody should ever get is for the checker
                answer.failure = f"unexpected: {error!r}"
                return None
            if moved and (key is None or random.random() > 0.15):
                return moved
            await asyncio.sleep(0.05 + 0.3 * random.random())
        return moved

    async def citizen(self, number: int, moves: int) -> None:
        """File a complaint, then see to it that everybody makes ``moves`` moves with it."""
        world, random = self._world, self._world.random
        citizen = Principal(f"citizen-{number}", Role.CITIZEN)
        self.citizens.append(citizen)
        await asyncio.sleep(random.random())
        if random.random() < 0.7:
            await self._contact(citizen)

        async def submit(process: Process, once: Idempotency | None) -> Moved:
            """As `services.intake.api.complaints` does it."""
            while True:
                complaint = new_id()
                event = intake_desk.submit(complaint, f"LP-{complaint[-12:]}", actor(citizen), now(), plain_report())
                try:
                    stored: Any = await process.journal.append(event, once, {complaint: None})
                except Taken:
                    continue
                return Moved(
                    complaint_id=stored.complaint_id,
                    number=stored.number,
                    seq=1,
                    event_id=stored.id,
                    transition=_T.SUBMITTED,
                )

        moved = await self._ask(citizen.id, "intake", "", f"submit {number}", submit)
        if moved is None:
            return
        complaint = moved.complaint_id
        self.complaints.append(complaint)
        for _ in range(moves * 4):
            await asyncio.sleep(0.02 + 0.5 * random.random() ** 2)
            chain = world.chain(complaint)
            status = MOVES[chain[-1].transition].target if chain else Status.SUBMITTED
            if status is Status.CLOSED or len(chain) > moves:
                return
            if status is not Status.DOCUMENTED or random.random() < 0.1:
                await self._move(complaint, citizen, status)

    async def _contact(self, citizen: Principal) -> bool:
        """Tell intake how the citizen is reached; whether it is known to have been written."""
        process = self._pick("intake")
        event = CitizenContact(
            id=f"{citizen.id}:1",
            occurred_at=now(),
            citizen_id=citizen.id,
            version=1,
            name="Siti",
            email="siti@warga.example" if self._world.random.random() < 0.8 else None,
            phone=None,
            language="id",
        )
        try:
            if process is None:
                return False
            await process.request(lambda at: at.journal.append(event))
        except UNKNOWN:
            self._world.tell(citizen.id, "contact: outcome unknown")
            return False
        except Taken:
            return True
        return True

    async def reach_everybody(self) -> None:
        """Once the faults have ended, every contact gets written, as intake heals what a fault has left."""
        for citizen in self.citizens:
            for _ in range(100):
                if await self._contact(citizen):
                    break
                await asyncio.sleep(0.2)

    async def _move(self, complaint: str, citizen: Principal, status: Status) -> None:
        random = self._world.random
        legal = [move.transition for move in MOVES.values() if status in move.sources and move.desk is not Desk.NOTIFY]
        illegal = [t for t in _T if t not in (_T.SUBMITTED, _T.ANSWERED)]
        transition = random.choice(illegal if random.random() < 0.08 or not legal else legal)
        if transition is _T.RETURNED and random.random() < 0.5:
            transition = _T.ASSIGNED
        if transition in (_T.CLOSED, _T.DECLINED, _T.REWORK_REQUESTED) and random.random() < 0.4:
            return  # they are detours and ends, and would be half of all moves
        move = MOVES[transition]
        role = random.choice(sorted(move.roles - {Role.SYSTEM}))
        if random.random() < 0.04:
            role = random.choice([r for r in Role if r is not Role.SYSTEM])
        who = citizen if role is Role.CITIZEN else Principal(f"{role.value}-1", role, self._agency(complaint, role))
        work = self._work(transition, complaint, who)
        await self._ask(who.id, move.desk.value, complaint, f"{transition.value} {complaint[:8]}", work)

    def _agency(self, complaint: str, role: Role) -> str | None:
        if role is not Role.AGENCY_OPERATOR:
            return None
        agencies = [e.agency.code for e in self._world.chain(complaint) if hasattr(e, "agency")]
        return agencies[-1] if agencies else PUPR.code

    def _work(self, transition: Transition, complaint: str, who: Principal) -> Callable[..., Any]:
        decide = self._decision(transition, actor(who))

        async def find(process: Process, key: str) -> tuple[Document, Case]:
            match process.service:
                case "intake":
                    return await process.intake.own(key, who)
                case "routing":
                    return await seen(process.complaints, key, who)  # type: ignore[arg-type] # has what it asks
            document = await process.complaints.find(key)
            case = Case.of_document(document)
            if document is None or document["title"] is None or not may_see(case, who):
                raise not_found()
            return document, case

        async def move(process: Process, once: Idempotency | None) -> Moved:
            if who.role not in MOVES[transition].roles:
                raise refused(Refusal.WRONG_ROLE)  # before the desk is asked, as every route does
            return await carry_out(process.journal, lambda key: find(process, key), complaint, who, decide, once)

        return move

    def _decision(self, transition: Transition, by: Any) -> Callable[[Case], Any]:
        random = self._world.random
        agency, report = random.choice(AGENCIES), plain_report()
        evidence = (photo("b", "opd"),)
        table: dict[Transition, Callable[[Case], Event | Refusal]] = {
            _T.RESUBMITTED: lambda case: intake_desk.resubmit(case, by, now(), report),
            _T.REOPENED: lambda case: intake_desk.reopen(case, by, now(), "belum selesai", DEADLINES),
            _T.CLOSED: lambda case: (
                intake_desk.rate(case, by, now(), 4, None)
                if case.status is Status.ANSWERED
                else intake_desk.withdraw(case, by, now(), None)
            ),
            _T.FORWARDED: lambda case: routing_desk.forward(case, by, now(), "lengkap"),
            _T.RETURNED: lambda case: routing_desk.return_(case, by, now(), "incomplete", "kurang lengkap"),
            _T.ASSIGNED: lambda case: routing_desk.assign(case, by, now(), agency, "jalan kota", DEADLINES),
            _T.REWORK_REQUESTED: lambda case: routing_desk.request_rework(case, by, now(), "kurang", DEADLINES),
            _T.DOCUMENTED: lambda case: routing_desk.document(case, by, now(), "sesuai"),
            _T.DECLINED: lambda case: opd_desk.decline(case, by, now(), "bukan kewenangan", None),
            _T.STARTED: lambda case: opd_desk.start(case, by, now(), "Sekretariat"),
            _T.COMPLETED: lambda case: opd_desk.complete(case, by, now(), evidence, "selesai"),
        }
        return table[transition]
