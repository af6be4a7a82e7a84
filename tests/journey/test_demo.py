"""The first command of the README, as a newcomer runs it: its exit code, what it showed, and that it left nothing
behind."""

import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from shared.sop import Transition

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(420)
@pytest.mark.parametrize("options", [(), ("--secure",)], ids=["open", "locked"])
def test_the_demo_carries_five_complaints_through_and_stops_all_that_it_started(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    data = tmp_path / "demo"
    run = subprocess.run(
        [sys.executable, "-m", "deploy.cli", "demo", "--data-dir", str(data), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    for transition in Transition:
        assert re.search(rf"^\s*[1-9]\d*\s+lapor\.{re.escape(transition.topic)}$", run.stdout, re.MULTILINE), transition
    assert "All of it was seen." in run.stdout
    left = [
        process.cmdline() for process in psutil.process_iter(["cmdline"]) if str(data) in str(process.info["cmdline"])
    ]
    assert left == []
