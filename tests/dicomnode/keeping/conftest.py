"""A study that was analysed, its results delivered."""

from collections.abc import Callable

import pytest
from pydicom import Dataset

from dicomnode.assembly import Stores
from tests.support.roles import analyse, deliver

Receive = Callable[..., Dataset]


@pytest.fixture
def images(receive: Receive) -> list[Dataset]:
    """The two images of study 1.2.3, which have been received."""
    return [receive("1.2.3"), receive("1.2.3", laterality="L")]


@pytest.fixture
def delivered(stores: Stores, images: list[Dataset]) -> Stores:
    """Stores with that study analysed, its results delivered."""
    assert len(images) == 2
    analyse(stores)
    assert deliver(stores)
    return stores
