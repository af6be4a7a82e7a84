"""Runs the rows one after the other and keeps what they give: each row's results are merged into one file at once, so
that a run that was broken off is taken up where it ended."""

import json
import subprocess
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.local.launcher import ending_on_signals
from shared.events import now
from tests.load import machine, page
from tests.load.row import Effort, Row, Size


class Bench:
    """The results of one size of run. A smoke run's stay in ``build`` and never touch the page.

    What the page was written from is kept beside it, so that a row can be measured anew where nobody has measured the
    others; without them there is no page to publish, and what there is stays in ``build``.
    """

    def __init__(self, build: Path, size: Size, published: Path = Path("docs/bench.md")) -> None:
        self._size: Size = size
        self._folder = build / ("bench-quick" if size == "quick" else "bench")
        self._results = build / ("bench-quick.json" if size == "quick" else "bench.json")
        self._page = self._folder / "bench.md"
        self._published = None if size == "quick" else published
        self._published_results = published.with_suffix("") / "results.json"
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """Progress, with the minutes since the start."""
        passed = time.monotonic() - self._began
        print(f"[{int(passed // 60):3}:{int(passed % 60):02}] {text}", flush=True)

    def run(self, rows: Sequence[Row], order: Sequence[Row], *, resume: bool = False) -> int:
        """Measure ``rows``; the exit code: 0 if each was measured and all that it did was proved."""
        self._folder.mkdir(parents=True, exist_ok=True)
        failed = []
        with ending_on_signals():
            for row in rows:
                if resume and self._has(row.name):
                    self.say(f"{row.name}: measured already at this commit")
                    continue
                if not self._measure(row):
                    failed.append(row.name)
                self.write_page(order)
        place = self._page_for(self.results(), order)
        self.say(f"Results: {self._results}; page: {place}" + (f"; FAILED: {', '.join(failed)}" if failed else ""))
        return 1 if failed else 0

    def _measure(self, row: Row) -> bool:
        self.say(f"{row.name}: {row.title}")
        about = machine.facts()
        if said := machine.warning(about):
            self.say(f"  WARNING: {said}")
        began = time.monotonic()
        try:
            measured = row.run(Effort(self._size, self._folder, self.say))
        except Exception:  # noqa: BLE001 - whatever happened to one row, the others can be measured
            self.say(f"{row.name} could not be measured:\n{traceback.format_exc()}")
            return False
        document = {
            "title": row.title,
            "how": row.how,
            **measured.document(),
            "size": self._size,
            "measured_at": now().isoformat(),
            "seconds": round(time.monotonic() - began, 1),
            "commit": commit(),
            "machine": about,
        }
        self._keep(row.name, document)
        for comparison in document["comparisons"]:
            self.say(f"  {in_words(comparison)}")
        for what, proved in document["proofs"].items():
            self.say(f"  {'proved' if proved else 'NOT PROVED'}: {what}")
        return all(measured.proofs.values())

    def results(self) -> dict[str, Any]:
        """All rows' results so far, by name."""
        return _read(self._results) or (_read(self._published_results) if self._published else {})

    def _keep(self, name: str, document: dict[str, Any]) -> None:
        _write(self._results, self.results() | {name: document})

    def _has(self, name: str) -> bool:
        found = self.results().get(name)
        return bool(found and found["commit"] == commit() != "unknown" and all(found["proofs"].values()))

    def write_page(self, order: Sequence[Row]) -> None:
        """Write the page and its plots, and what they were written from if it is published."""
        results = self.results()
        place = self._page_for(results, order)
        page.write(place, results, order)
        if place == self._published:
            _write(self._published_results, results)

    def _page_for(self, results: dict[str, Any], order: Sequence[Row]) -> Path:
        """Where the page belongs: it is published once every row has been measured."""
        if self._published and all(row.name in results for row in order):
            return self._published
        return self._page


def _read(file: Path) -> dict[str, Any]:
    rows: dict[str, Any] = json.loads(file.read_text())["rows"] if file.exists() else {}
    return rows


def _write(file: Path, rows: dict[str, Any]) -> None:
    unfinished = file.with_suffix(".part")
    unfinished.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    unfinished.rename(file)


def commit() -> str:
    """The commit that is checked out; `unknown` outside a repository."""
    told = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    return told.stdout.strip() or "unknown"


def in_words(comparison: dict[str, Any]) -> str:
    """One comparison on one line."""
    ours, against = comparison["ours"], comparison["against"]
    text = f"{comparison['what']}: {ours['median']:g} {comparison['unit']} ({ours['min']:g}-{ours['max']:g})"
    if against:
        spread = f"({against['min']:g}-{against['max']:g})"
        text += f" against {against['median']:g} {spread} of the {comparison['against_name']}: {comparison['ratio']:g}x"
    if comparison["met"] is not None:
        text += f" [wanted {comparison['wanted']}: {'met' if comparison['met'] else 'NOT MET'}]"
    return text
