"""The containers' installation: its secrets, and the demo on it from the first build to the last container removed."""

import os
import subprocess
from pathlib import Path

import pytest

from deploy.compose.make_secrets import make_secrets

ROOT = Path(__file__).parents[2]
with_containers = pytest.mark.skipif(
    os.environ.get("LAPOR_TEST_BACKEND") != "containers", reason="LAPOR_TEST_BACKEND=containers runs it, with Docker"
)


def test_each_installation_has_secrets_of_its_own_and_keeps_them(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "other", "one"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        make_secrets(folder)
        contents.append({file.name: file.read_bytes() for file in folder.iterdir()})
    one, other, again = contents
    assert set(one) == {
        "audit-key",
        "code-key",
        "credentials.json",
        "lapor_notify_client_secret",
        "pseudonym-key",
        "signing-key.pem",
        "tracking-key",
    }
    assert again == one
    assert not set(one.values()) & set(other.values())


def test_secrets_are_kept_from_others_on_the_host_by_their_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_secrets(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o644}  # the containers' user reads them


@pytest.mark.containers
@pytest.mark.timeout(900)
@with_containers
def test_the_demo_runs_in_containers_and_leaves_none() -> None:
    done = subprocess.run(["sh", "deploy/compose/run.sh", "demo"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "All of it was seen." in done.stdout
    for kind in ("container", "volume", "network"):
        left = subprocess.check_output(["docker", kind, "ls", "--quiet", "--filter", "name=lapor-demo-"])
        assert not left, f"{kind}s are left"
