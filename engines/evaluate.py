"""Measure a model package: python -m engines.evaluate --package P --images DIR --annotations CSV --json OUT."""

from engines.extras import command


def main() -> int:
    """The command, or what to install for it."""
    return command("engines.evaluation.command", "evaluate")


if __name__ == "__main__":
    raise SystemExit(main())
