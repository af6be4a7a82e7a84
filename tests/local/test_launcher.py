"""`lapor up`: ready in time, left by a signal with nothing behind it, and ended by the death of a service."""

import contextlib
import os
import signal
import smtplib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from deploy.local import launcher
from deploy.local.servers import Servers
from deploy.local.settings import SERVICES, LocalSettings
from tests.local.watching import appears, ended

READY = "Ready after ([0-9.]+) s"


@contextlib.contextmanager
def up(data: Path, settings: LocalSettings, temporary: Path) -> Iterator[tuple["subprocess.Popen[str]", list[str]]]:
    """A launcher on the ports of `settings`, and the lines that it has written so far."""
    own = {f"LAPOR_{name.upper()}": str(getattr(settings, name)) for name in settings.own_ports()}
    own["TMPDIR"] = str(temporary)
    run = subprocess.Popen(
        [sys.executable, "-m", "deploy.cli", "up", "--data-dir", str(data)],
        env={**os.environ, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: list[str] = []
    with run:
        assert run.stdout
        reader = threading.Thread(target=lines.extend, args=(run.stdout,))
        reader.start()
        try:
            yield run, lines
        finally:
            run.kill()
            reader.join()


@pytest.mark.timeout(240)
def test_up_is_ready_in_time_ends_by_a_signal_and_tells_a_death(tmp_path: Path) -> None:
    settings = LocalSettings().on_free_ports()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with up(tmp_path / "data", settings, temporary) as (run, lines):
        appears(READY, lines, 90)
        below = psutil.Process(run.pid).children(recursive=True)
        for name in SERVICES:
            address = f"http://127.0.0.1:{settings.port_of(name)}"
            assert httpx.get(f"{address}/health/ready").status_code == 200
            assert address in "".join(lines)
        assert "koordinator@lapor.localhost" in "".join(lines)
        assert list(temporary.iterdir()), "what the processes keep for themselves is there"
        run.send_signal(signal.SIGTERM)
        assert run.wait(40) == 0
        assert all(ended(process.pid, 1) for process in below)
        assert list(temporary.iterdir()) == []
    with up(tmp_path / "data", settings, temporary) as (run, lines):
        appears(READY, lines, 60)
        below = psutil.Process(run.pid).children(recursive=True)
        next(process for process in below if "services.sla" in process.cmdline()).kill()
        assert run.wait(40) == 1
        appears("sla has ended .SIGKILL", lines, 5)
        assert all(ended(process.pid, 1) for process in below)


@pytest.mark.timeout(120)
def test_services_are_stopped_started_and_killed_alone(servers: Servers, namespace: str, tmp_path: Path) -> None:
    settings = LocalSettings().model_copy(
        update={"namespace": namespace, "kafka_bootstrap": servers.kafka_bootstrap, "mongo_url": servers.mongo_url}
    )
    with launcher.running_system(tmp_path / "data", settings=settings.on_free_ports()) as system:
        before = system.children["opd"].pid
        system.stop("opd")
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{system.urls['opd']}/health/live")
        assert httpx.get(f"{system.urls['sla']}/health/ready").status_code == 200
        system.start("opd")
        assert system.children["opd"].pid != before
        assert httpx.get(f"{system.urls['opd']}/health/ready").status_code == 200
        assert set(system.memory()) == {"smtp", *SERVICES}
        system.kill("notify")
        system.children.check()
        system.kill("smtp")
        with pytest.raises(ConnectionRefusedError):
            smtplib.SMTP(system.servers.smtp_host, system.servers.smtp_port)
        system.start("smtp", "notify")
        with smtplib.SMTP(system.servers.smtp_host, system.servers.smtp_port) as client:
            assert client.noop()[0] == 250
