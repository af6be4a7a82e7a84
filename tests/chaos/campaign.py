"""Rounds: load, faults one after the other, recovery, rest, verdict."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.chaos import effects, evidence
from tests.chaos.checker import Matter, Violation, check
from tests.chaos.clients import Clients, Load
from tests.chaos.effects import Disturbance
from tests.chaos.evidence import Evidence
from tests.chaos.faults import Fault
from tests.chaos.history import History
from tests.chaos.rig import Rig

Say = Callable[[str], None]

RECOVERED_WITHIN = 90.0
REST_WITHIN = 90.0
NOT_DELAYED_SECONDS = 12.0
"""How long a case may take to the next desk while poison lies in the topics; without it it takes some 0.3 s, and a
machine of two busy cores may take seconds."""


@dataclass(slots=True)
class Struck:
    """A fault that has struck, and the seconds from its end until a complaint could be filed and forwarded and no group
    was behind; None if that did not come."""

    fault: Fault
    disturbance: Disturbance
    recovery_seconds: float | None


@dataclass(slots=True)
class Round:
    """What came of one round."""

    name: str
    complaints: int = 0
    requests: int = 0
    unknown: int = 0
    refused: int = 0
    struck: list[Struck] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    repeats: list[effects.Repeat] = field(default_factory=list)
    rest_seconds: float = 0.0
    gave_up: list[str] = field(default_factory=list)


class Campaign:
    """Rounds on one rig, in one namespace after the other. The history and what was seen before are kept per
    namespace."""

    def __init__(self, rig: Rig, seed: str, history: History, say: Say) -> None:
        self._rig, self._say = rig, say
        self._chance = random.Random(seed)
        self.history = history
        self.clients = Clients(rig, self.history, self._chance)
        self.disturbances: list[Disturbance] = []
        self._known: set[tuple[str, str]] = set()
        self._mails: set[str] = set()

    async def round(
        self, name: str, faults: Sequence[Fault], *, per_second: float = 1.3, most: int = 60, rest: float = REST_WITHIN
    ) -> Round:
        """Carry out one round and judge it."""
        result = Round(name)
        before = len(self.history.attempts)
        self.clients.crew.name_round(name)
        load = Load(self.clients, self._chance, per_second=per_second, most=most)
        running = asyncio.create_task(load.run())
        await asyncio.sleep(self._chance.uniform(2, 4))
        for fault in faults:
            result.struck.append(await self._strike(fault))
            result.violations += self._delays(name, fault)
            await asyncio.sleep(self._chance.uniform(0.5, 2))
        await asyncio.gather(*self._rig.later)
        self._rig.later.clear()
        result.complaints = await load.finish()
        await running
        await self._judge(result, rest)
        attempts = self.history.attempts[before:]
        result.requests = len(attempts)
        result.unknown = sum(a.status is None for a in attempts)
        result.refused = sum(a.status in (503, 429) for a in attempts)
        result.gave_up, self.clients.gave_up = self.clients.gave_up, []
        return result

    async def _strike(self, fault: Fault) -> Struck:
        self._say(f"  {fault.kind}: {fault.detail}")
        began_at = datetime.now(UTC)
        struck_at = await fault.strike(self._rig)
        ended, ended_at = time.monotonic(), datetime.now(UTC)
        disturbance = Disturbance(fault.kind, fault.targets, struck_at or began_at, ended_at)
        self.disturbances.append(disturbance)
        recovered = await self._recovered(ended)
        self._say(f"    recovered in {recovered:.1f} s" if recovered is not None else "    did not recover")
        return Struck(fault, disturbance, recovered)

    async def _recovered(self, since: float) -> float | None:
        """Seconds from ``since`` until a complaint is filed and forwarded and its citizen sees it, and each group has
        taken all that was published until then; the load goes on."""
        deadline = since + RECOVERED_WITHIN
        try:
            async with asyncio.timeout(RECOVERED_WITHIN):
                await self.clients.complaint(path=("forwarded",), calm=True)
                where = (self._rig.kafka_bootstrap, self._rig.namespace)
                until = await evidence.ends(*where)
                while time.monotonic() < deadline:
                    if not any((await evidence.lag(*where, until)).values()):
                        return time.monotonic() - since
                    await asyncio.sleep(0.2)
        except Exception as error:  # noqa: BLE001 - the reason is told; the verdict is that it did not recover
            self._say(f"    {error!r}")
        return None

    def _delays(self, name: str, fault: Fault) -> list[Violation]:
        if fault.kind != "poison messages":
            return []
        slow = [(move, s) for round_, move, s in self.history.hops if round_ == name and s > NOT_DELAYED_SECONDS]
        return [Violation("P6", f"{name} {move}", f"{move} was delayed by {s:.1f} s beside poison") for move, s in slow]

    async def _judge(self, result: Round, rest_within: float) -> None:
        began = time.monotonic()
        waiting = await self._rest(rest_within)
        result.rest_seconds = time.monotonic() - began
        if waiting:
            result.violations.append(Violation("rest", result.name, "; ".join(waiting)))
        found = await self._check(await self._gather())
        if found:  # the reads are not one moment: what is wrong must still be wrong a little later
            await asyncio.sleep(5)
            again = {(v.prop, v.subject) for v in await self._check(await self._gather())}
            found = [v for v in found if (v.prop, v.subject) in again]
        for violation in found:
            if (violation.prop, violation.subject) not in self._known:
                self._known.add((violation.prop, violation.subject))
                result.violations.append(violation)
        for violation in result.violations[:12]:
            self._say(f"  VIOLATION {violation.prop}: {violation.what}")
        repeats = effects.repeats(self._evidence.mails, self.disturbances)
        result.repeats = [repeat for repeat in repeats if repeat.message_id not in self._mails]
        self._mails |= {repeat.message_id for repeat in repeats}

    async def _rest(self, within: float) -> tuple[str, ...]:
        """Wait until nothing is on its way and nothing changes; what still is after ``within`` seconds."""
        deadline = time.monotonic() + within
        last: evidence.Rest | None = None
        waiting: tuple[str, ...] = ("the stores and topics cannot be read",)
        while time.monotonic() < deadline:
            try:
                rig = self._rig
                horizon = datetime.now(UTC) + timedelta(seconds=4)
                seen = await evidence.look(rig.mongo_url, rig.kafka_bootstrap, rig.namespace, horizon)
            except Exception as error:  # noqa: BLE001 - a server may still be starting
                waiting, last = (repr(error),), None
            else:
                waiting = seen.waiting or (() if seen == last else ("something still changes",))
                if not waiting:
                    return ()
                last = seen
            await asyncio.sleep(1.5)
        return waiting

    async def _gather(self) -> Evidence:
        rig = self._rig
        return await evidence.gather(rig.mongo_url, rig.kafka_bootstrap, rig.namespace, rig.system.servers.mail_dir)

    async def _check(self, found: Evidence) -> list[Violation]:
        self._evidence = found
        matter = Matter(self.history, found, datetime.now(UTC), self.disturbances)
        return await asyncio.to_thread(check, matter)  # beside it other systems may be under load


async def begin(
    rig: Rig, seed: str, history: History, say: Say, dressed: Mapping[str, tuple[str, ...]] | None = None
) -> Campaign:
    """A campaign in a namespace of its own, everybody signed in."""
    await rig.renew(seed, dressed)
    campaign = Campaign(rig, seed, history, say)
    await campaign.clients.assemble()
    return campaign
