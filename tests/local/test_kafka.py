"""A broker starts with what Java has learnt of it on this machine, and without it where that cannot be used."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from deploy.local import kafka, ports
from deploy.local.jars import VERSION
from deploy.local.processes import Child, Children

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def jars(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """The machine's own jars in a cache folder that has nothing else."""
    folder = tmp_path_factory.mktemp("cache")
    mine = folder / "lapor" / f"kafka-{VERSION}"
    mine.mkdir(parents=True)
    for jar in kafka.program():
        os.symlink(jar, mine / jar.name)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CACHE_HOME", str(folder))
        yield sorted(mine.glob("*.jar"))


@contextmanager
def broker(folder: Path, jars: list[Path]) -> Iterator[Child]:
    """One that serves."""
    port, controller = ports.free_ports(2)
    with Children(folder / "logs") as children:
        [child] = kafka.start(children, [kafka.Broker(folder / "kafka", port, controller)], jars)
        yield child


def mapped(child: Child) -> set[str]:
    """The files that the process has in its memory."""
    return {one.path for one in psutil.Process(child.pid).memory_maps()}


def test_what_hinders_learning_is_told_and_hinders_nothing_else(
    jars: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(kafka, "WITHIN", 0.0)
    assert kafka.program(said.append) == jars
    assert [line.partition(":")[0] for line in said] == [
        "Letting Java learn how Kafka starts, this once",
        "  It did not, so Kafka starts more slowly",
    ]
    assert {path.suffix for path in jars[0].parent.iterdir()} == {".jar"}, "something half done was left"


def test_it_is_learnt_once_and_used_and_a_damaged_cache_is_not(jars: list[Path], tmp_path: Path) -> None:
    said: list[str] = []
    assert kafka.program(said.append) == jars
    assert kafka.program(said.append) == jars
    assert said == ["Letting Java learn how Kafka starts, this once"]
    cache = kafka.cache_of(jars)
    assert {path.name for path in jars[0].parent.iterdir()} == {cache.name, *(jar.name for jar in jars)}
    with broker(tmp_path / "whole", jars) as child:
        assert str(cache) in mapped(child)
        assert "aot" not in child.tail(100)

    content = bytearray(cache.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4096] = bytes(byte ^ 0x55 for byte in content[middle : middle + 4096])
    cache.write_bytes(content)
    with broker(tmp_path / "damaged", jars) as child:
        assert str(cache) not in mapped(child)
        assert "Checksum verification failed" in child.tail(100)
