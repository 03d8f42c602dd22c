"""Somebody else's validator on one file, as a test uses it."""

import os
from pathlib import Path

import pytest

from dicomnode.validation import validator_named, why_harmless


def complaints(name: str, path: Path) -> list[str]:
    """What a validator says that is not allowed; where it is not installed the test skips visibly, and fails in CI."""
    validator = validator_named(name)
    if reason := validator.missing():
        absent = pytest.fail if os.environ.get("DICOMNODE_REQUIRE_VALIDATORS") else pytest.skip
        absent(f"{name}: {reason} (package {validator.package})")
    return [line for line in validator.lines(path) if not why_harmless(name, line)]
