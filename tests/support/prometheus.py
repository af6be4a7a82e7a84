"""A real Prometheus, with the configuration of this house, on a free port."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deploy.local.ports import LOOPBACK, free_ports

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "deploy/prometheus"
_UNPACKED = ROOT / "build/prometheus"


def program(name: str) -> str:
    """The path of ``prometheus`` or ``promtool``: as installed, or from Debian's package, unpacked in the build folder
    so that nothing is installed. Fails the test where there is neither, and says what to install."""
    if found := shutil.which(name):
        return found
    unpacked = _UNPACKED / "usr/bin" / name
    if not unpacked.exists():
        _UNPACKED.mkdir(parents=True, exist_ok=True)
        fetched = _run("apt-get", "download", "-qq", "prometheus")
        if not fetched and os.getuid() == 0 and _run("apt-get", "update", "-qq"):
            fetched = _run("apt-get", "download", "-qq", "prometheus")
        if not (fetched and all(_run("dpkg-deb", "-x", deb.name, ".") for deb in _UNPACKED.glob("prometheus_*.deb"))):
            pytest.fail(f"{name} is not on PATH. On Debian or Ubuntu: apt-get install prometheus")
    return str(unpacked)


def _run(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, cwd=_UNPACKED, capture_output=True, check=False).returncode == 0


class Prometheus:
    """Asks a running Prometheus."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=10)

    def get(self, path: str, **query: Any) -> Any:
        """The data of an answer of its HTTP API."""
        answer = self._client.get(f"/api/v1/{path}", params=query)
        assert answer.status_code == 200, f"{query}: {answer.text}"
        return answer.json()["data"]

    def samples(self, query: str) -> list[tuple[dict[str, str], float]]:
        """The instant vector of a query, without what is not a number."""
        found = self.get("query", query=query)
        assert found["resultType"] == "vector", query
        values = [(sample["metric"], float(sample["value"][1])) for sample in found["result"]]
        return [(labels, value) for labels, value in values if value == value]

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


@contextmanager
def running_prometheus(folder: Path, services: Mapping[str, str], every: str = "1s") -> Iterator[Prometheus]:
    """Prometheus scraping ``services`` (name to base URL) ``every`` so often, and evaluating the rules as often."""
    shutil.copytree(CONFIG, folder / "config")
    config = yaml.safe_load((CONFIG / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": every, "evaluation_interval": every, "scrape_timeout": every}
    (folder / "config/prometheus.yml").write_text(yaml.safe_dump(config))
    targets = [{"targets": [url.split("//")[1]], "labels": {"service": name}} for name, url in services.items()]
    (folder / "config/targets/local.yml").write_text(yaml.safe_dump(targets))
    address = f"{LOOPBACK}:{free_ports(1)[0]}"
    command = [
        program("prometheus"),
        f"--config.file={folder / 'config/prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        prometheus = Prometheus(f"http://{address}")
        try:
            deadline = time.monotonic() + 30
            while not prometheus.ready():
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                assert time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
                time.sleep(0.1)
            yield prometheus
        finally:
            prometheus.close()
            process.terminate()
