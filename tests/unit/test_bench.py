"""The bench's own parts: what a wrong one would let it claim."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.load import machine
from tests.load.bench import Bench
from tests.load.generator import closed_loop, quantile
from tests.load.row import Effort, Measured, Series, compare, figure
from tests.load.wire import Lost, pool, request


def test_the_ratio_is_of_the_medians_and_decides() -> None:
    better = compare("rate", "/s", [90, 150, 160], [100, 90, 110], at_least=1.5)
    assert better.ratio == 1.5
    assert better.met
    assert not compare("rate", "/s", [149, 149, 149], [100, 100, 100], at_least=1.5).met
    assert not compare("p99", "ms", [101], [100], at_most=1.0).met
    assert figure("lag", "s", [4.9], at_most=5).met
    assert figure("lag", "s", [5.1], at_most=5).met is False
    assert figure("memory", "MiB", [5.1]).met is None


def test_quantiles_are_values_that_were_measured() -> None:
    ordered = [float(n) for n in range(1, 101)]
    assert [quantile(ordered, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50.0, 95.0, 99.0, 100.0]
    assert quantile([7.0], 0.99) == 7.0


@dataclass(frozen=True)
class Pretended:
    """A row that measures nothing."""

    name: str
    proved: bool = True
    title: str = "Pretended"
    how: str = "Not at all."

    def run(self, effort: Effort) -> Measured:
        if self.name == "broken":
            raise TimeoutError("it did not come to its end")
        series = [Series("Something", "s", "records", [0.0, 1.0], {"lag": [3.0, 0.0]})]
        cpu = {"ours 1": {"intake": 1.0, "machine": 2.0, "wall": 2.0}}
        return Measured([compare("rate", "/s", [3], [2], at_least=1)], {"proved": self.proved}, {}, cpu, series)


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "others_share", lambda _: 0.0)  # it would wait for seconds to find out
    monkeypatch.setattr(machine, "pace", lambda: 12.3)


@pytest.mark.usefixtures("idle")
def test_each_row_is_kept_at_once_and_the_others_stay(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "build", "usual", tmp_path / "docs" / "bench.md")
    rows = (Pretended("one"), Pretended("broken"), Pretended("two", proved=False))
    assert bench.run(rows, rows) == 1
    assert rows_in(tmp_path / "build" / "bench.json") == ["one", "two"]
    assert bench.run(rows[:1], rows) == 0
    assert rows_in(tmp_path / "build" / "bench.json") == ["one", "two"]
    page = (tmp_path / "build" / "bench" / "bench.md").read_text()
    assert "1.50x" in page
    assert "Not measured yet: broken" in page
    assert "not so: proved" in page
    drawn = {plot.name for plot in (tmp_path / "build" / "bench" / "bench").glob("*.svg")}
    assert drawn == {"ratios.svg", "cpu-one.svg", "cpu-two.svg", "one-1.svg", "two-1.svg"}
    assert not (tmp_path / "docs").exists(), "a page without all rows is not published"


@pytest.mark.usefixtures("idle")
def test_one_row_is_measured_anew_where_the_others_were_measured_elsewhere(tmp_path: Path) -> None:
    published = tmp_path / "docs" / "bench.md"
    rows = (Pretended("one"), Pretended("two"))
    assert Bench(tmp_path / "there" / "build", "usual", published).run(rows, rows) == 0
    assert "Not measured" not in published.read_text()
    changed = (rows[0], Pretended("two", how="In another way."))
    assert Bench(tmp_path / "here" / "build", "usual", published).run(changed[1:], changed) == 0
    assert rows_in(tmp_path / "here" / "build" / "bench.json") == ["one", "two"]
    assert "Not at all." in published.read_text()
    assert "12.3 million turns" in published.read_text()
    assert "In another way." in published.read_text()
    assert rows_in(published.with_suffix("") / "results.json") == ["one", "two"]


def rows_in(file: Path) -> list[str]:
    return sorted(json.loads(file.read_text())["rows"])


@pytest.mark.usefixtures("idle")
def test_a_run_that_finds_all_measured_names_the_page_that_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = tmp_path / "docs" / "bench.md"
    bench, row = Bench(tmp_path / "build", "usual", published), Pretended("one")
    assert bench.run([row], [row]) == 0
    capsys.readouterr()
    assert bench.run([row], [row], resume=True) == 0
    told = capsys.readouterr().out
    assert "measured already" in told
    assert f"page: {published}" in told


@pytest.mark.usefixtures("idle")
def test_a_smoke_run_leaves_the_page_and_the_results_alone(tmp_path: Path) -> None:
    published = tmp_path / "docs" / "bench.md"
    row = Pretended("one")
    assert Bench(tmp_path / "build", "quick", published).run([row], [row]) == 0
    assert not published.exists()
    assert not (tmp_path / "build" / "bench.json").exists()


def test_how_fast_the_machine_is_does_not_depend_on_the_moment() -> None:
    first, second = machine.pace(), machine.pace()
    assert 1 < first < 1000, "million turns a second of any machine and any Python"
    assert max(first, second) < 3 * min(first, second)


def test_a_busy_machine_is_told() -> None:
    assert not machine.warning({"busy_before": 0.02})
    assert "busy" in machine.warning({"busy_before": 0.6})


class Server:
    """Answers each request in pieces, with its own number; closes the connection at the request that says so."""

    def __init__(self) -> None:
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            self.requests += 1
            if body == b"leave":
                break
            answer = b'{"complaint_id":"%036d"}' % self.requests
            whole = b"HTTP/1.1 201 Created\r\ncontent-length: %d\r\nx: y\r\n\r\n%b" % (len(answer), answer)
            for piece in (whole[:10], whole[10:40], whole[40:]):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.001)
        writer.close()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


async def test_the_generator_counts_what_the_server_answered() -> None:
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with listening:
        load = await closed_loop(url, 4, lambda: request("POST", "/", b"{}"), 0.2)
    assert load.statuses[201] == server.requests == len(load.latencies) == len(set(load.complaints)) > 0
    assert load.refused == 0
    assert load.latencies == sorted(load.latencies)


async def test_a_closed_connection_is_an_error_and_the_next_request_gets_a_new_one() -> None:
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with listening, pool(url, 1) as connections:
        with pytest.raises(Lost):
            await connections.send(request("POST", "/", b"leave"))
        answer: tuple[int, Any] = await connections.send(request("POST", "/", b"{}"))
        assert answer[0] == 201
