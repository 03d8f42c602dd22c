"""Somebody else's validator on one file, as a test uses it."""

from pathlib import Path

import pytest

from dicomnode.validation import validator_named, why_harmless


def complaints(name: str, path: Path) -> list[str]:
    """What a validator says that is not allowed; skips visibly where it is not installed."""
    validator = validator_named(name)
    if validator.missing():
        pytest.skip(f"{name}: {validator.missing()} (package {validator.package})")
    return [line for line in validator.lines(path) if not why_harmless(name, line)]
