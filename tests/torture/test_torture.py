"""The fault run in short; `make torture` is the long one."""

from pathlib import Path

import pytest

from tests.support.postgres import PostgresUnavailable, find_binaries
from tests.torture.campaign import Campaign, describe

KILLS = 12
# With this one the faults are a full disk and a standstill of a worker; with that one an archive that is away and a
# restart of the database.
SEEDS = {"sqlite": 9, "postgresql": 1}


@pytest.mark.parametrize("kind", SEEDS)
def test_nothing_is_lost_or_doubled(tmp_path: Path, kind: str) -> None:
    """Receiver, workers and sender are killed, and more goes wrong; every instance and result is there once."""
    if kind == "postgresql":
        try:
            find_binaries()
        except PostgresUnavailable as reason:
            pytest.skip(str(reason))
    outcome = Campaign(tmp_path / "node", kind, KILLS, SEEDS[kind], say=lambda _: None).run()
    assert not outcome.wrong, "\n".join([*describe(outcome), f"the node's log: {tmp_path / 'node' / 'node.log'}"])
    assert outcome.results >= outcome.studies > 0
