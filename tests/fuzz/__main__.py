"""Send anything to anything that listens, asks or reads: `python -m tests.fuzz --inputs 100000 [--kind tls]`."""

import argparse
import logging
import secrets
import tempfile
import warnings
from pathlib import Path

import structlog
from rich.console import Console

from tests.fuzz.run import KINDS, fuzz


def main() -> int:
    """Run until all inputs are through, or one has broken something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="in all, shared out among the kinds")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--kind", choices=KINDS, help="only this one, with all inputs")
    arguments = parser.parse_args()
    say = Console(highlight=False, soft_wrap=True).print
    # What the node logs of it, and pydicom warns of, is not looked at here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    warnings.simplefilter("ignore")
    memory = Path("/dev/shm")  # noqa: S108  the folder made in it is private
    for name, kind in KINDS.items():
        if arguments.kind not in (None, name):
            continue
        number = arguments.inputs if arguments.kind else round(arguments.inputs * kind.share)
        say(f"{name}: {number} inputs from seed {arguments.seed}")
        with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
            found = fuzz(kind, Path(folder), number, arguments.seed, say)
        ends = ", ".join(f"{count} x {end}" for end, count in sorted(found.ends.items()))
        say(f"{name}: {found.inputs} inputs, none broke it; {ends}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
