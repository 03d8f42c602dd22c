"""Both acceptors, one after the other."""

import pytest

from tests.support.acceptors import Listening, listening, stock_listening


@pytest.fixture(params=[listening, stock_listening], ids=["own", "pynetdicom"])
def either(request: pytest.FixtureRequest) -> Listening:
    """What listens: the node's own acceptor, and the stock one that stands in for it."""
    found: Listening = request.param
    return found
