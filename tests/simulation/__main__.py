"""``python -m tests.simulation --seed 4711``: run a seed again and print its story; ``--seeds 1000``: run many."""

import argparse
import sys
import time

from tests.simulation.controls import CONTROLS
from tests.simulation.many import explore_all
from tests.simulation.run import prepare, simulate


def main() -> int:
    """The exit code is 1 where a property was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, action="append", help="print the story of this seed; may be repeated")
    parser.add_argument("--seeds", type=int, help="run so many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--control", choices=sorted(CONTROLS), help="with --seed: break this promise")
    given = parser.parse_args()
    failed = False
    if given.seed:
        prepare()
    for seed in given.seed or ():
        outcome = simulate(seed, CONTROLS[given.control][0] if given.control else None, telling=True)
        print(f"seed {seed}")
        print("\n".join(outcome.story))
        print("\n".join(outcome.verdict.violations) or "no violation")
        failed = failed or bool(outcome.verdict.violations)
    if given.seeds:
        began = time.perf_counter()
        found = explore_all(range(given.first, given.first + given.seeds))
        print(found.failing())
        print(", ".join(f"{name} {number}" for name, number in sorted(found.counts.items())))
        print(f"{time.perf_counter() - began:.1f} s")
        failed = failed or bool(found.violations)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
