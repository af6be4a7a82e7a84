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
from collections.abc import Sequence
from pathlib import Path

from deploy.local.errors import CannotRun
from tests.chaos import faults, report
from tests.chaos.campaign import Campaign, Round, begin
from tests.chaos.controls import CONTROLS, Verdict, carry_out
from tests.chaos.faults import Fault
from tests.chaos.history import History
from tests.chaos.rig import replicated_rig, running_rig

ROOT = Path(__file__).parents[2]
DEFAULT_SEEDS = 5
DEFAULT_MINUTES = 10
"""How long the run without any options may take: long outages are left out of it where the machine is too slow."""
_LONG_SECONDS, _CONTROLS_SECONDS = 110, 160
"""What a round with a server that is down for a minute takes, and all controls."""


def long_rounds(full: bool) -> list[tuple[str, list[Fault]]]:
    """Servers that are down for long."""
    seconds = (60.0, 120.0) if full else (60.0,)
    return [
        (f"{server} down {s:.0f} s", [faults.kill_server(server, s)]) for s in seconds for server in ("mongod", "kafka")
    ]


def planned(given: argparse.Namespace, disks: Sequence[str]) -> list[tuple[str, list[Fault]]]:
    """The rounds on one server of each kind."""
    rounds = [(f"seed {seed}", faults.plan(seed)) for seed in range(given.first, given.first + given.seeds)]
    if given.seeds:
        rounds += [(f"full disk of {server}", [faults.disk_full(server, 8)]) for server in disks]
    return rounds


async def run(given: argparse.Namespace) -> int:
    """The whole run; the exit code."""
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f}  {text}", flush=True)

    folder: Path = given.folder
    rounds: list[Round] = []
    verdicts: list[Verdict] = []
    left_out: dict[str, str] = {}

    async def go_through(campaign: Campaign, plan: Sequence[tuple[str, list[Fault]]]) -> None:
        for name, struck in plan:
            say(name)
            result = await campaign.round(name, struck)
            rounds.append(result)
            say(f"  {result.complaints} complaints, {len(result.violations)} violations")

    if given.seeds or given.controls:
        async with running_rig(folder) as rig:
            say("The system is up")
            if not rig.disks:
                left_out["full disks"] = "this user may not mount a file system (tmpfs)"
            if plan := planned(given, list(rig.disks)):
                history = History(folder / "history.jsonl")
                campaign = await begin(rig, f"seed{given.first}", history, say)
                await go_through(campaign, plan)
                for name, struck in long_rounds(given.full):
                    ends = time.monotonic() - began + _LONG_SECONDS + (_CONTROLS_SECONDS if given.controls else 0)
                    if given.seeds <= DEFAULT_SEEDS and not given.full and ends > DEFAULT_MINUTES * 60:
                        left_out[name] = f"it would not have ended within {DEFAULT_MINUTES} minutes on this machine"
                    else:
                        await go_through(campaign, [(name, struck)])
            for control in CONTROLS if given.controls else ():
                history = History(folder / f"history-{control.mutant}.jsonl")
                verdicts.append(await carry_out(rig, control, history, say))
    if given.replicated:
        async with replicated_rig(folder) as rig:
            say("The system is up on three brokers and three mongods")
            campaign = await begin(rig, "replicated", History(folder / "history-replicated.jsonl"), say)
            for n in range(given.replicated):  # one after the other, so that two of three are there at any moment
                await go_through(campaign, [(f"leader {n + 1}", [faults.kill_leading("kafka", 15)])])
                await go_through(campaign, [(f"primary {n + 1}", [faults.kill_leading("mongod", 15)])])
    else:
        left_out["three brokers and three mongods"] = "asked for by REPLICAS=3, or by FULL=1"
    how = {
        "command": f"make chaos SEEDS={given.seeds}{' FULL=1' if given.full else ''}",
        "first_seed": given.first,
        "minutes": round((time.monotonic() - began) / 60, 1),
    }
    result = report.summary(rounds, verdicts, left_out, how)
    report.write(result, given.out, given.page)
    print(report.tables(result))
    good = report.good(result)
    say(f"{'No violation; every control fell' if good else 'NOT GOOD: see above'}. Results: {given.out}")
    return 0 if good else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, default=DEFAULT_SEEDS, help="rounds of two faults each")
    parser.add_argument("--first", type=int, default=None, help="the first seed; drawn if it is not given")
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
        return asyncio.run(run(given))
    except CannotRun as why:
        print(why, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
