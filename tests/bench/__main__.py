"""Run the benchmark: `python -m tests.bench --out build/bench.json [--only receiving,study]`."""

import argparse
import tempfile
from pathlib import Path

from rich.console import Console

from tests.bench import backends, queueing, receiving, study, turnaround
from tests.bench.table import Board

PARTS = {
    "receiving": receiving.measure,
    "queueing": queueing.measure,
    "turnaround": turnaround.measure,
    "backends": backends.measure,
    "study": study.measure,
}


def main() -> int:
    """Measure, print the table, write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    board = Board()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    # Beside the result and not in /tmp, which may be memory: what is measured includes a disk.
    with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.out.parent) as folder:
        for name in arguments.only.split(","):
            console.print(f"measuring {name} …")
            PARTS[name](board, Path(folder).resolve() / name, console.print)
    board.show(console)
    board.write(arguments.out)
    console.print(f"numbers: {arguments.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
