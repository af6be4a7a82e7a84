"""Writes the lock files: every package that pyproject.toml asks for, and theirs, at the versions installed here.

Run as `make lock` after a package was added or upgraded in `.venv`. What runs in production is in requirements.lock;
what the embedded servers and the tests need besides is in requirements-dev.lock.
"""

import importlib.metadata
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parents[1]


def closure(requirements: Iterable[str]) -> dict[str, str]:
    """Name -> installed version of all that `requirements` need, directly or not, on this platform.

    Raises importlib.metadata.PackageNotFoundError when one of them is not installed.
    """
    pinned: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    open_ends = [Requirement(text) for text in requirements]
    while open_ends:
        wanted = open_ends.pop()
        for extra in {"", *wanted.extras}:
            if (wanted.name, extra) in seen:
                continue
            seen.add((wanted.name, extra))
            found = importlib.metadata.distribution(wanted.name)
            pinned[canonicalize_name(found.name)] = found.version
            needs = (Requirement(text) for text in found.requires or [])
            open_ends += [need for need in needs if not need.marker or need.marker.evaluate({"extra": extra})]
    return pinned


def write(path: Path, pinned: dict[str, str]) -> None:
    """One `name==version` a line, sorted; the file is left alone if that is what it says."""
    text = "".join(f"{name}=={version}\n" for name, version in sorted(pinned.items()))
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    print(f"{path.name}: {len(pinned)} packages")


if __name__ == "__main__":
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    runtime = closure(project["dependencies"])
    extras = closure(text for group in project["optional-dependencies"].values() for text in group)
    write(HERE / "requirements.lock", runtime)
    write(HERE / "requirements-dev.lock", {name: v for name, v in extras.items() if name not in runtime})
