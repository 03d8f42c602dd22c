"""Send anything to a receiver: `python -m tests.fuzz --inputs 100000 [--seed N]`."""

import argparse
import secrets
import tempfile
from pathlib import Path

from rich.console import Console

from tests.fuzz.run import fuzz


def main() -> int:
    """Run until all inputs are through, or one has broken it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    arguments = parser.parse_args()
    say = Console(highlight=False, soft_wrap=True).print
    say(f"{arguments.inputs} inputs from seed {arguments.seed}")
    memory = Path("/dev/shm")  # noqa: S108  the folder made in it is private
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        found = fuzz(Path(folder), arguments.inputs, arguments.seed, say)
    answers = ", ".join(f"{count} x 0x{status:04X}" for status, count in sorted(found.answers.items()))
    say(f"{found.inputs} inputs, none broke it; answers to C-STORE: {answers}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
