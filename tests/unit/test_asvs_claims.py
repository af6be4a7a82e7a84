"""What docs/asvs.md says is nowhere in the services: looked for in their code."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = [path for folder in ("services", "shared") for path in (ROOT / folder).rglob("*.py")]


def lines(pattern: str) -> list[str]:
    """Where code says so."""
    found = re.compile(pattern)
    return [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in CODE
        for line in path.read_text().splitlines()
        if found.search(line)
    ]


def test_no_service_starts_programs_or_evaluates_text() -> None:
    assert lines(r"\bimport asyncio$"), "the search finds nothing any more"
    assert lines(r"\b(subprocess|os\.system|os\.popen|create_subprocess)\b") == []
    assert lines(r"(?<![\w.])(eval|exec|__import__)\(|\b(pickle|marshal|shelve)\.|yaml\.load\(") == []


def test_no_service_follows_redirects() -> None:
    assert lines(r"httpx\.AsyncClient\("), "the search finds nothing any more"
    assert lines(r"follow_redirects\s*=\s*True") == []
