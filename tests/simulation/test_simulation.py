"""Nothing acknowledged is lost and nothing happens twice, under thousands of seeded storms of faults; and whoever says
so is shown to notice when it is not true."""

import os
import subprocess
import sys

import pytest

from tests.simulation.controls import CONTROLS
from tests.simulation.many import explore_all, explore_controls

SEEDS = int(os.environ.get("SEEDS", "10000"))
_ENOUGH = 300
"""Within so many seeds each control is seen."""


def run(*arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    """The command that replays a seed, in an operating-system process of its own."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONHASHSEED": hash_seed}, timeout=60
    )


@pytest.mark.timeout(60 + SEEDS)
def test_no_seed_violates_a_property() -> None:
    found = explore_all(range(SEEDS))
    assert not found.violations, found.failing()
    assert found.seeds == SEEDS
    if SEEDS >= 100:
        for fault in ("crashes", "refused", "done,", "cut", "duplicated", "outages", "rebalances", "poison"):
            assert found.counts[fault], f"{fault} never happened"
        assert found.counts["events"] > 5 * SEEDS


@pytest.mark.timeout(600)
def test_each_broken_promise_is_noticed() -> None:
    seen = {name: found.properties() for name, found in explore_controls(CONTROLS, _ENOUGH).items()}
    assert not {
        name: sorted(CONTROLS[name][1] - seen[name]) for name in CONTROLS if not CONTROLS[name][1] <= seen[name]
    }
    assert {rule for _, rules in CONTROLS.values() for rule in rules} == {f"P{number}" for number in range(9)}


def test_the_same_seed_tells_the_same_story_in_any_process_and_after_any_other() -> None:
    seeds = (3, 7, 33, 120, 68, 82, 479)  # in the last three a death resets several connections at once
    there, back = stories(seeds, hash_seed="1"), stories(seeds[::-1], hash_seed="2")
    assert [story.split(maxsplit=1)[0] for story in there] == [str(seed) for seed in seeds]
    assert there == back[::-1]
    assert all(story.count("the faults end") == 1 and story.count("\n") > 20 for story in there)


def stories(seeds: tuple[int, ...], *, hash_seed: str) -> list[str]:
    """What is told of each seed, where one process runs all of them."""
    told = run(*(argument for seed in seeds for argument in ("--seed", str(seed))), hash_seed=hash_seed)
    assert told.returncode == 0, told.stdout + told.stderr
    return ("\n" + told.stdout.rstrip()).split("\nseed ")[1:]


def test_a_failing_seed_is_replayed_with_its_story_and_what_it_violates() -> None:
    found = explore_controls(["at-most-once"], _ENOUGH)["at-most-once"]
    seed, violations = next(iter(found.violations.items()))
    assert f".venv/bin/python -m tests.simulation --seed {seed}" in found.failing()
    replayed = run("--seed", str(seed), "--control", "at-most-once")
    assert replayed.returncode == 1
    assert "citizen-0  submit 0: yes" in replayed.stdout
    assert replayed.stdout.rstrip().endswith(violations[-1])
