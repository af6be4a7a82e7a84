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
    unseen = {
        name: found.seeds
        for name, found in explore_controls(CONTROLS, _ENOUGH).items()
        if not any(v.startswith(CONTROLS[name][1]) for seed in found.violations.values() for v in seed)
    }
    assert not unseen


def test_the_same_seed_tells_the_same_story_in_any_process() -> None:
    seeds = [argument for seed in (3, 7, 33, 120) for argument in ("--seed", str(seed))]
    first, second = run(*seeds, hash_seed="1"), run(*seeds, hash_seed="2")
    assert first.returncode == 0, first.stdout + first.stderr
    assert first.stdout == second.stdout
    assert first.stdout.count("\n") > 100
    assert first.stdout.count("the faults end") == 4


def test_a_failing_seed_is_replayed_with_its_story_and_what_it_violates() -> None:
    found = explore_controls(["at-most-once"], _ENOUGH)["at-most-once"]
    seed, violations = next(iter(found.violations.items()))
    assert f".venv/bin/python -m tests.simulation --seed {seed}" in found.failing()
    replayed = run("--seed", str(seed), "--control", "at-most-once")
    assert replayed.returncode == 1
    assert "citizen-0  submit 0: yes" in replayed.stdout
    assert replayed.stdout.rstrip().endswith(violations[-1])
