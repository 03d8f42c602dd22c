"""Torture a node: `python -m tests.torture --kills 1000 [--seed N] [--database sqlite,postgresql]`."""

import argparse
import secrets
import shutil
import time
from pathlib import Path

from rich.console import Console

from tests.torture.campaign import Campaign, describe


def main() -> int:
    """Run the campaigns one after the other; what went wrong stays in its folder with the node's log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="in all, divided among the databases")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--database", default="sqlite,postgresql")
    parser.add_argument("--out", type=Path, default=Path("build/torture"))
    arguments = parser.parse_args()
    say = Console(highlight=False, soft_wrap=True).print
    kinds = arguments.database.split(",")
    good = True
    for kind in kinds:
        folder = (arguments.out / f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}").resolve()
        folder.mkdir(parents=True)
        kills = arguments.kills // len(kinds)
        say(f"{kind}: {kills} kills from seed {arguments.seed}, in {folder}")
        outcome = Campaign(folder, kind, kills, arguments.seed, say).run()
        for line in describe(outcome):
            say(line)
        if outcome.wrong:
            good = False
            again = f"--seed {arguments.seed} --kills {kills} --database {kind}"
            say(f"the node's log: {folder / 'node.log'}; again: python -m tests.torture {again}")
        else:
            shutil.rmtree(folder)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
