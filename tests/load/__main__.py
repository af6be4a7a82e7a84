"""``python -m tests.load [row ...]``: measures the rows of the bench, one after the other, and writes what it found."""

import argparse
import os
import sys
from pathlib import Path

from tests.load.bench import Bench
from tests.load.rows import ROWS

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument(
        "rows", nargs="*", metavar="row", help=f"of: {', '.join(row.name for row in ROWS)}; all if none"
    )
    parser.add_argument("--quick", action="store_true", default=bool(os.environ.get("QUICK")), help="a smoke run")
    parser.add_argument("--full", action="store_true", default=bool(os.environ.get("FULL")), help="the largest numbers")
    parser.add_argument(
        "--resume", action="store_true", default=bool(os.environ.get("RESUME")), help="only rows without"
    )
    parser.add_argument("--page", action="store_true", help="write the page again from what was measured")
    given = parser.parse_args()
    unknown = sorted(set(given.rows) - {row.name for row in ROWS})
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}")
    bench = Bench(Path("build"), "quick" if given.quick else "full" if given.full else "usual")
    if given.page:
        bench.write_page(ROWS)
        sys.exit(0)
    sys.exit(bench.run([row for row in ROWS if not given.rows or row.name in given.rows], ROWS, resume=given.resume))
