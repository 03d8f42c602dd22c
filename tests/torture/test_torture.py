"""The fault run in short; `make torture` is the long one."""

from pathlib import Path

import pytest

from tests.support.postgres import PostgresUnavailable, find_binaries
from tests.torture.campaign import Campaign, describe
from tests.torture.shape import Shape

KILLS = 12
SEED = 12  # the faults are a full disk and a standstill of a worker; a restart of the database and one of a sender
PLAIN = Shape()
WITH_MORE = Shape(senders=2, tls=True, commitment="require", durability="none", abreast=4)


@pytest.mark.parametrize(("kind", "shape"), [("sqlite", PLAIN), ("postgresql", WITH_MORE)])
def test_nothing_is_lost_or_doubled(tmp_path: Path, kind: str, shape: Shape) -> None:
    """Receiver, workers and sender are killed, and more goes wrong; every instance and result is there once."""
    if kind == "postgresql":
        try:
            find_binaries()
        except PostgresUnavailable as reason:
            pytest.skip(str(reason))
    outcome = Campaign(tmp_path / "node", kind, KILLS, SEED, shape, say=lambda _: None).run()
    assert not outcome.wrong, "\n".join([*describe(outcome), f"the node's log: {tmp_path / 'node' / 'node.log'}"])
    assert outcome.results >= outcome.studies > 0
