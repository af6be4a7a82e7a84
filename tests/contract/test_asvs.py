"""The table of docs/asvs.md names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (\d+\.\d[^|]*?) \| ([^|]+?) \| ([^|]+?) \| ([^|]+?) \|$", re.MULTILINE)
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def test_each_test_that_is_named_exists() -> None:
    rows = ROW.findall((ROOT / "docs/asvs.md").read_text())
    assert len(rows) > 100, "the pattern finds no rows any more"
    missing = []
    for number, _, met, shown in rows:
        named = NAMED.findall(shown)
        if not named and shown != "-":
            missing.append(f"{number}: {shown} is neither a test nor -")
        for path, name in named:
            file = ROOT / path
            if not file.exists() or not re.search(rf"^(async )?def {name}", file.read_text(), re.MULTILINE):
                missing.append(f"{number}: {path}::{name}")
        if not re.match(r"yes|partly|no\b|operator", met):
            missing.append(f"{number}: says neither yes nor no")
    assert missing == []
