"""From annotated images to a model package in one command: python -m engines.training --data DIR --out DIR."""

import os

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # read when torch is imported: spinning threads cost a shared machine most

from engines.extras import command

if __name__ == "__main__":
    raise SystemExit(command("engines.training.command", "train"))
