"""Lines of the house that import-linter cannot see."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MONGO_SPEAKERS = re.compile(
    r"^(services/\w+/(\w+_)?store\.py|shared/(storage|queries|media_store|limit_store|audit_store)\.py)$"
)
"""Where MongoDB's driver may be imported in services and shared (docs/architecture.md, Layers)."""


def test_only_stores_import_the_database_driver() -> None:
    speakers = {
        str(path.relative_to(ROOT))
        for folder in ("services", "shared")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"^\s*(from|import) (motor|pymongo|bson|gridfs)\b", path.read_text(), re.MULTILINE)
    }
    assert speakers, "the pattern finds nothing any more"
    assert {path for path in speakers if not MONGO_SPEAKERS.match(path)} == set()


def test_importing_connects_to_nothing() -> None:
    """Every module can be imported with no server, no settings and no network call."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for folder in ("services", "shared")
        for path in (ROOT / folder).rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
    ]
    program = "import socket\ndef no(*a, **k): raise SystemExit('a module connected at import')\n"
    program += "socket.socket.connect = no\n" + "\n".join(f"import {module}" for module in modules)
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
