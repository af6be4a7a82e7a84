"""Secrets as mounted files: found in their folder, and the environment goes before them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHOW = "from shared.settings import ServiceSettings; print(ServiceSettings().mongo_url)"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, "mongodb://from-file"), ({"LAPOR_MONGO_URL": "mongodb://from-environment"}, "mongodb://from-environment")],
)
def test_a_setting_may_be_a_file(tmp_path: Path, environment: dict[str, str], expected: str) -> None:
    (tmp_path / "lapor_mongo_url").write_text("mongodb://from-file\n")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LAPOR_")}
    # A process of its own: the folder is read once, when the settings are defined.
    shown = subprocess.run(
        [sys.executable, "-c", SHOW],
        env=inherited | {"LAPOR_SECRETS_DIR": str(tmp_path)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == expected
