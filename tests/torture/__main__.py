"""Torture a node: `python -m tests.torture --kills 1000 [--seed N] [--database sqlite,postgresql]`."""

import argparse
import math
import secrets
import shutil
import time
from pathlib import Path

from rich.console import Console

from tests.torture.campaign import Campaign, describe
from tests.torture.shape import Shape

KILLS_EACH = 100


def main() -> int:
    """Run the campaigns one after the other; what went wrong stays in its folder with the node's log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help=f"in all, in campaigns of {KILLS_EACH}")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the first campaign")
    parser.add_argument("--database", default="sqlite,postgresql")
    parser.add_argument("--out", type=Path, default=Path("build/torture"))
    arguments = parser.parse_args()
    kinds = arguments.database.split(",")
    count = max(len(kinds), round(arguments.kills / KILLS_EACH))
    kills = math.ceil(arguments.kills / count)
    runs = [(kinds[number % len(kinds)], arguments.seed + number) for number in range(count)]
    return 1 if sum(not _run(arguments.out, kind, kills, seed) for kind, seed in runs) else 0


def _run(out: Path, kind: str, kills: int, seed: int) -> bool:
    """One campaign; whether all was well."""
    say = Console(highlight=False, soft_wrap=True).print
    folder = (out / f"{kind}-{seed}-{time.strftime('%Y%m%d-%H%M%S')}").resolve()
    folder.mkdir(parents=True)
    shape = Shape.of(seed)
    say(f"{kind}: {kills} kills from seed {seed}, in {folder}\nthe node: {shape}")
    outcome = Campaign(folder, kind, kills, seed, shape, say).run()
    for line in describe(outcome):
        say(line)
    if not outcome.wrong:
        shutil.rmtree(folder)
        return True
    again = f"--seed {seed} --kills {kills} --database {kind}"
    say(f"the node's log: {folder / 'node.log'}; again: python -m tests.torture {again}")
    return False


if __name__ == "__main__":
    raise SystemExit(main())
