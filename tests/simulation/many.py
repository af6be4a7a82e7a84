"""Many seeds on all the machine's cores."""

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from shared.pieces import pieces
from tests.simulation.controls import CONTROLS
from tests.simulation.run import prepare, simulate

T = TypeVar("T")
_CHUNK = 100


@dataclass
class Findings:
    """What a number of seeds have shown. ``violations`` by seed."""

    seeds: int = 0
    violations: dict[int, list[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Findings") -> None:
        """Take in those of other seeds."""
        self.seeds += other.seeds
        self.violations |= other.violations
        self.counts += other.counts

    def properties(self) -> set[str]:
        """The names of the properties that were violated."""
        return {violation[:2] for violations in self.violations.values() for violation in violations}

    def failing(self) -> str:
        """For people: which seeds failed and how each is seen again."""
        lines = [f"{len(self.violations)} of {self.seeds} seeds violate a property"]
        for seed, found in sorted(self.violations.items())[:5]:
            lines += [f"seed {seed}: {found[0]}" + (f" (and {len(found) - 1} more)" if found[1:] else "")]
            lines += [f"    .venv/bin/python -m tests.simulation --seed {seed}"]
        return "\n".join(lines)


def explore(seeds: Iterable[int], control: str | None = None, *, until: frozenset[str] | None = None) -> Findings:
    """Run seeds one after the other; ``until``: no further than until all these properties have been violated."""
    found = Findings()
    plan = CONTROLS[control][0] if control else None
    for seed in seeds:
        outcome = simulate(seed, plan)
        found.seeds += 1
        found.counts += outcome.counts
        if outcome.verdict.violations:
            found.violations[seed] = outcome.verdict.violations
            if until and until <= found.properties():
                break
    return found


def explore_all(seeds: range) -> Findings:
    """Run seeds in as many operating-system processes as there are cores."""
    total = Findings()
    for part in spread(explore, pieces(seeds, _CHUNK)):
        total.add(part)
    return total


def explore_controls(names: Iterable[str], most: int) -> dict[str, Findings]:
    """Run each control until the checker has seen all that it must, or for ``most`` seeds."""
    wanted = list(names)
    return dict(zip(wanted, spread(_control, [(name, most) for name in wanted]), strict=True))


def _control(given: tuple[str, int]) -> Findings:
    name, most = given
    return explore(range(most), name, until=CONTROLS[name][1])


def spread(work: Callable[[T], Findings], parts: Iterable[T]) -> Iterator[Findings]:
    """The results of ``work`` for each part, in order, each from a fresh process: what a part leaves behind goes with
    it, and need not be looked for by the garbage collector. They are forked from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context, initializer=prepare, max_tasks_per_child=1) as pool:
        yield from pool.map(work, parts)
