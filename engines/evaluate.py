"""Measure a model package: python -m engines.evaluate --package P --images DIR --annotations CSV --json OUT."""

import sys


def main() -> int:
    """The command, or what to install for it."""
    try:
        from engines.evaluation.command import main as command  # noqa: PLC0415 - the message below instead of a trace
    except ModuleNotFoundError as error:
        library = (error.name or "a library").partition(".")[0]
        sys.stderr.write(f"error: {library} is not installed: pip install 'dicomnode[evaluate]'\n")
        return 1
    return command()


if __name__ == "__main__":
    raise SystemExit(main())
