"""What a row of the bench is: a name, and a run that gives measurements. The runner knows nothing else of it."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

Say = Callable[[str], None]
Size = Literal["quick", "usual", "full"]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much a run measures, where it may put data, and how it tells of its progress."""

    size: Size
    folder: Path
    say: Say

    @property
    def quick(self) -> bool:
        """A smoke run: small numbers, whose figures mean nothing."""
        return self.size == "quick"

    def pick(self, quick: float, usual: float, full: float | None = None) -> float:
        """A number by the size of the run."""
        return quick if self.quick else full if self.size == "full" and full is not None else usual


@dataclass(frozen=True, slots=True)
class Spread:
    """Values of the same thing, each from a run of its own."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(tuple(values))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def document(self) -> dict[str, Any]:
        """As it stands in the results."""
        values = [_rounded(value) for value in self.values]
        return {"median": _rounded(self.median), "min": min(values), "max": max(values), "values": values}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of ours beside that of a floor or peer. ``wanted`` says what the ratio (or, without a ratio, the
    figure itself) should be; ``met`` is None where nothing is asked."""

    what: str
    unit: str
    ours: Spread
    against: Spread | None = None
    against_name: str = "floor"
    wanted: str = ""
    met: bool | None = None

    @property
    def ratio(self) -> float | None:
        """Our median by the other's."""
        return self.ours.median / self.against.median if self.against and self.against.median else None

    def document(self) -> dict[str, Any]:
        """As it stands in the results."""
        return {
            "what": self.what,
            "unit": self.unit,
            "ours": self.ours.document(),
            "against": self.against.document() if self.against else None,
            "against_name": self.against_name if self.against else None,
            "ratio": _rounded(self.ratio) if self.ratio is not None else None,
            "wanted": self.wanted,
            "met": self.met,
        }


def compare(
    what: str,
    unit: str,
    ours: Sequence[float],
    floor: Sequence[float],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    against_name: str = "floor",
) -> Comparison:
    """Our figures beside the floor's, and whether the ratio of the medians is what is wanted."""
    comparison = Comparison(what, unit, Spread.of(ours), Spread.of(floor), against_name)
    return _judged(comparison, comparison.ratio, at_least, at_most, "x")


def figure(
    what: str, unit: str, ours: Sequence[float], *, at_least: float | None = None, at_most: float | None = None
) -> Comparison:
    """A figure that is judged by itself."""
    comparison = Comparison(what, unit, Spread.of(ours))
    return _judged(comparison, comparison.ours.median, at_least, at_most, f" {unit}")


def _judged(
    comparison: Comparison, value: float | None, at_least: float | None, at_most: float | None, unit: str
) -> Comparison:
    wanted, met = "", None
    if value is not None and at_least is not None:
        wanted, met = f">= {at_least:g}{unit}", value >= at_least
    if value is not None and at_most is not None:
        wanted, met = f"<= {at_most:g}{unit}", value <= at_most
    return Comparison(
        comparison.what, comparison.unit, comparison.ours, comparison.against, comparison.against_name, wanted, met
    )


@dataclass(frozen=True, slots=True)
class Series:
    """Points for a plot: ``lines`` by name, over ``x``."""

    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    lines: Mapping[str, Sequence[float | None]]


@dataclass(slots=True)
class Measured:
    """What a row gives. ``proofs`` are checks of what was done, by what they say; ``cpu`` is the CPU time of each
    process per run, in seconds; ``notes`` are sentences for the page."""

    comparisons: list[Comparison]
    proofs: dict[str, bool] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    cpu: dict[str, dict[str, float]] = field(default_factory=dict)
    series: list[Series] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As it stands in the results."""
        return {
            "comparisons": [comparison.document() for comparison in self.comparisons],
            "proofs": self.proofs,
            "facts": self.facts,
            "cpu_seconds": self.cpu,
            "series": [asdict(series) for series in self.series],
            "notes": self.notes,
        }


class Row(Protocol):
    """One row of the bench. ``title`` says what is measured, ``how`` against what and how."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def how(self) -> str: ...

    def run(self, effort: Effort) -> Measured:
        """Measure. What it needs it starts, and stops at the end; whatever it raises, the other rows go on."""


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
