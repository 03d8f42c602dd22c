"""Fetching over mutual TLS."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.support.certificates import issue
from tests.support.orthanc import Orthanc, running_orthanc
from tests.support.pulling import MakeNode, fetch, fetch_in_vain, put, views


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The hospital's own."""
    return trustme.CA()


@pytest.fixture(scope="module")
def secured(
    tmp_path_factory: pytest.TempPathFactory, pacs: Orthanc, authority: trustme.CA, node_port: int
) -> Iterator[Orthanc]:
    """One more, that speaks TLS alone."""
    folder = tmp_path_factory.mktemp("secured")
    with running_orthanc(
        folder, node_port=node_port, ae_title=pacs.ae_title, tls=issue(authority, "pacs", folder)
    ) as running:
        yield running


@pytest.mark.parametrize("method", ["move", "get"])
def test_all_of_it_goes_over_tls(
    tmp_path: Path, secured: Orthanc, authority: trustme.CA, node: MakeNode, method: str
) -> None:
    """C-FIND, and what brings the images; both ends show a certificate."""
    images = views()
    put(secured, images, tmp_path)
    fetch(node(method, tls=issue(authority, "node", tmp_path).settings(), port=secured.dicom_port), images)


def test_a_pacs_asks_a_stranger_nothing(
    tmp_path: Path, secured: Orthanc, authority: trustme.CA, node: MakeNode
) -> None:
    """A certificate of another authority opens no association, and that is said."""
    stranger = issue(trustme.CA(), "stranger", tmp_path).settings()
    ours = issue(authority, "node", tmp_path).authority
    here = node("get", tls=stranger.model_copy(update={"authorities": ours}), port=secured.dicom_port)
    fetch_in_vain(here, views(), "ORTHANC at 127.0.0.1:[0-9]+ cannot be reached")
