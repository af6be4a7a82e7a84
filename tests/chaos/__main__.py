"""``make chaos``: rounds of faults on real processes, then the controls, then the results.

What strikes whom and when, and which ways complaints go, follows from the seeds; processes and their timing do not, so
the same seed is the same plan and not the same run.
"""

import argparse
import asyncio
import random
import shutil
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.local.errors import CannotRun
from deploy.local.launcher import ending_on_signals
from tests.chaos import faults, report
from tests.chaos.campaign import Campaign, Round, Say, begin
from tests.chaos.controls import CONTROLS, Control, Verdict, carry_out
from tests.chaos.faults import Fault
from tests.chaos.history import History
from tests.chaos.rig import DISK_MB, Rig, replicated_rig, running_rig

ROOT = Path(__file__).parents[2]
DEFAULT_SEEDS = 5
DEFAULT_MINUTES = 10
"""How long the run without any options may take: long outages are left out of it where the machine is too slow."""
_LONG_SECONDS, _CONTROLS_SECONDS = 110, 160
"""What a round with a server that is down for a minute takes, and all controls."""
_ROUNDS_OF_A_CAMPAIGN = 10
"""Then the next begins on empty databases and topics: everything is read and judged again after each round."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A round to be carried out. ``disk`` is the server whose disk it fills, if it does; a ``long`` one is left out of
    the default run where the machine is too slow for it."""

    name: str
    faults: Sequence[Fault]
    disk: str | None = None
    long: bool = False


def plan(first: int, seeds: int, full: bool) -> list[Planned]:
    """The seeds, the full disks, servers that are down for long; nothing without seeds."""
    rounds = [Planned(f"seed {seed}", faults.plan(seed)) for seed in range(first, first + seeds)]
    if seeds:
        rounds += [Planned(f"full disk of {name}", [faults.disk_full(name, 8)], disk=name) for name in DISK_MB]
        rounds += [
            Planned(f"{server} down {seconds:.0f} s", [faults.kill_server(server, seconds)], long=True)
            for seconds in ((60.0, 120.0) if full else (60.0,))
            for server in ("mongod", "kafka")
        ]
    return rounds


@dataclass(slots=True)
class Run:
    """What is still to be done on one server of each kind, and what came of the rest. Lanes take from it in turn."""

    given: argparse.Namespace
    rounds_left: deque[Planned]
    controls_left: deque[Control]
    began: float = field(default_factory=time.monotonic)
    starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    rounds: list[Round] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, given: argparse.Namespace) -> "Run":
        """All rounds and controls."""
        rounds = plan(given.first, given.seeds, given.full)
        return cls(given, deque(rounds), deque(CONTROLS if given.controls else ()))

    @property
    def seconds(self) -> float:
        """How long the run has taken by now."""
        return time.monotonic() - self.began

    def why_not(self, planned: Planned, rig: Rig) -> str | None:
        """Why a round is left out, if it is."""
        if planned.disk and planned.disk not in rig.disks:
            return "this user may not mount a file system (tmpfs)"
        ends = self.seconds + _LONG_SECONDS + (_CONTROLS_SECONDS if self.given.controls else 0)
        short = self.given.seeds <= DEFAULT_SEEDS and not self.given.full
        if short and planned.long and ends > DEFAULT_MINUTES * 60:
            return f"it would not have ended within {DEFAULT_MINUTES} minutes on this machine"
        return None

    async def carry_out(self, campaign: Campaign, planned: Planned, say: Say) -> None:
        """One round."""
        say(planned.name)
        result = await campaign.round(planned.name, planned.faults)
        self.rounds.append(result)
        say(f"  {result.complaints} complaints, {len(result.violations)} violations")
        report.write(self.summary(), self.given.out)  # so that a long run that is cut off has not been for nothing

    def summary(self) -> dict[str, Any]:
        """What has come of it by now."""
        given = self.given
        options = {"SEEDS": given.seeds, "FULL": int(given.full), "JOBS": given.jobs if given.jobs > 1 else 0}
        how = {
            "command": " ".join(["make chaos", *(f"{name}={value}" for name, value in options.items() if value)]),
            "first_seed": given.first,
            "minutes": round(self.seconds / 60, 1),
            "rounds_left": len(self.rounds_left),
        }
        return report.summary(self.rounds, self.verdicts, self.left_out, how)


async def lane(run: Run, folder: Path, say: Say) -> None:
    """Go through rounds and controls on a system of its own, until nothing is left."""
    async with AsyncExitStack() as stack:
        async with run.starting:  # one after the other: two could be given the same ports
            rig = await stack.enter_async_context(running_rig(folder))
        say("The system is up")
        campaign: Campaign | None = None
        done = 0
        while run.rounds_left:
            planned = run.rounds_left.popleft()
            if why := run.why_not(planned, rig):
                run.left_out[planned.name] = why
                continue
            if campaign is None or done % _ROUNDS_OF_A_CAMPAIGN == 0:
                namespace = planned.name.replace(" ", "")
                campaign = await begin(rig, namespace, History(folder / f"history-{namespace}.jsonl"), say)
            await run.carry_out(campaign, planned, say)
            done += 1
        while run.controls_left:
            control = run.controls_left.popleft()
            history = History(folder / f"history-{control.mutant}.jsonl")
            run.verdicts.append(await carry_out(rig, control, history, say))


async def replicated(run: Run, folder: Path, say: Say) -> None:
    """The rounds on three servers of each kind."""
    async with replicated_rig(folder) as rig:
        say("The system is up on three brokers and three mongods")
        campaign = await begin(rig, "replicated", History(folder / "history-replicated.jsonl"), say)
        for n in range(run.given.replicated):  # one after the other, so that two of three are there at any moment
            for name, server in (("leader", "kafka"), ("primary", "mongod")):
                planned = Planned(f"{name} {n + 1}", [faults.kill_leading(server, 15)])
                await run.carry_out(campaign, planned, say)


async def whole(given: argparse.Namespace) -> int:
    """The whole run; the exit code."""
    run = Run.of(given)

    def saying(who: str = "") -> Say:
        return lambda text: print(f"{run.seconds:7.1f}  {who}{text}", flush=True)

    if run.rounds_left or run.controls_left:
        lanes = [(n, f"[{n}] " if given.jobs > 1 else "") for n in range(1, given.jobs + 1)]
        await asyncio.gather(*(lane(run, given.folder / f"system-{n}", saying(who)) for n, who in lanes))
    say = saying()
    if given.replicated:
        await replicated(run, given.folder, say)
    else:
        run.left_out["three brokers and three mongods"] = "asked for by REPLICAS=3, or by FULL=1"
    result = run.summary()
    report.write(result, given.out)
    report.write_page(result, given.page)
    print(report.tables(result))
    good = report.good(result)
    controls = "every control fell" if given.controls else "no control was run"
    say(f"{f'No violation; {controls}' if good else 'NOT GOOD: see above'}. Results: {given.out}")
    return 0 if good else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, default=DEFAULT_SEEDS, help="rounds of two faults each")
    parser.add_argument("--first", type=int, default=None, help="the first seed; drawn if it is not given")
    parser.add_argument("--jobs", type=int, default=1, help="systems at a time, each with rounds of its own")
    parser.add_argument("--full", action="store_true", help="servers down for 120 s as well")
    parser.add_argument("--replicated", type=int, default=0, help="rounds on three brokers and three mongods")
    parser.add_argument("--no-controls", dest="controls", action="store_false")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "chaos", help="emptied first")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "chaos.md", help="whose tables are written anew")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "chaos.json")
    given = parser.parse_args(arguments)
    if given.full and not given.replicated:
        given.replicated = 3
    if given.first is None:
        given.first = random.SystemRandom().randrange(1000)
    shutil.rmtree(given.folder, ignore_errors=True)
    given.folder.mkdir(parents=True)
    try:
        with ending_on_signals():  # and everything is stopped, and the disks are given back
            return asyncio.run(whole(given))
    except CannotRun as why:
        print(why, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"Stopped. What had come of it by then: {given.out}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
