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


def long_rounds(full: bool) -> list[tuple[str, list[Fault]]]:
    """Servers that are down for long."""
    seconds = (60.0, 120.0) if full else (60.0,)
    return [
        (f"{server} down {s:.0f} s", [faults.kill_server(server, s)]) for s in seconds for server in ("mongod", "kafka")
    ]


@dataclass(slots=True)
class Run:
    """What is still to be done on one server of each kind, and what came of the rest. Lanes take from it in turn."""

    given: argparse.Namespace
    rounds_left: deque[tuple[str, list[Fault]]]
    controls_left: deque[Control]
    began: float = field(default_factory=time.monotonic)
    starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    rounds: list[Round] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, given: argparse.Namespace) -> "Run":
        """The whole plan: the seeds, the full disks, servers that are down for long, the controls."""
        rounds = [(f"seed {seed}", faults.plan(seed)) for seed in range(given.first, given.first + given.seeds)]
        if given.seeds:
            rounds += [(f"full disk of {server}", [faults.disk_full(server, 8)]) for server in DISK_MB]
            rounds += long_rounds(given.full)
        return cls(given, deque(rounds), deque(CONTROLS if given.controls else ()))

    @property
    def seconds(self) -> float:
        """How long the run has taken by now."""
        return time.monotonic() - self.began

    def why_not(self, name: str, struck: Sequence[Fault], rig: Rig) -> str | None:
        """Why a round is left out, if it is."""
        if name.startswith("full disk") and not set(struck[0].targets) <= set(rig.disks):
            return "this user may not mount a file system (tmpfs)"
        ends = self.seconds + _LONG_SECONDS + (_CONTROLS_SECONDS if self.given.controls else 0)
        short = self.given.seeds <= DEFAULT_SEEDS and not self.given.full
        if short and name in dict(long_rounds(self.given.full)) and ends > DEFAULT_MINUTES * 60:
            return f"it would not have ended within {DEFAULT_MINUTES} minutes on this machine"
        return None

    async def carry_out(self, campaign: Campaign, name: str, struck: Sequence[Fault], say: Say) -> None:
        """One round."""
        say(name)
        result = await campaign.round(name, struck)
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
            name, struck = run.rounds_left.popleft()
            if why := run.why_not(name, struck, rig):
                run.left_out[name] = why
                continue
            if campaign is None or done % _ROUNDS_OF_A_CAMPAIGN == 0:
                namespace = name.replace(" ", "")
                campaign = await begin(rig, namespace, History(folder / f"history-{namespace}.jsonl"), say)
            await run.carry_out(campaign, name, struck, say)
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
            await run.carry_out(campaign, f"leader {n + 1}", [faults.kill_leading("kafka", 15)], say)
            await run.carry_out(campaign, f"primary {n + 1}", [faults.kill_leading("mongod", 15)], say)


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
    say(f"{'No violation; every control fell' if good else 'NOT GOOD: see above'}. Results: {given.out}")
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
        return asyncio.run(whole(given))
    except CannotRun as why:
        print(why, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
