"""Measure everything and write docs/benchmarks.md with its two plots.

    python -m benchmarks.run [--runs 5] [--work FOLDER] [--only NAME ...] [--small]

Ours and the others take turns in one run, so that a ratio holds when the machine's speed drifts; each figure is the
median of the runs. Reports of one fleet are compared cell by cell before a time counts. `--small` is for trying the
suite out.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import cases, write
from benchmarks.bench import Bench


def main() -> None:
    """The command line of the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "storemon-bench")
    parser.add_argument("--only", nargs="*", choices=list(cases.CASES), default=list(cases.CASES))
    parser.add_argument("--small", action="store_true", help="a tenth of every fleet; nothing is written to docs/")
    options = parser.parse_args()
    bench = Bench(options.work, options.runs, 10 if options.small else 1)
    for name in options.only:
        print(f"{name} ...", file=sys.stderr, flush=True)
        for row in cases.CASES[name](bench):
            bench.rows.append(row)
            print("  " + write.line(row), file=sys.stderr, flush=True)
    if not options.small and list(options.only) == list(cases.CASES):
        write.document(bench)


if __name__ == "__main__":
    main()
