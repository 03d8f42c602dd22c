"""What a PACS does not give, or the node does not take, is said, and what there is stays."""

import re
from pathlib import Path

import pytest

from storage import retrievals
from storage.lifecycle import RetrievalState
from tests.support.orthanc import DICOMWEB, Orthanc, running_orthanc
from tests.support.pulling import MakeNode, fetch_in_vain, put, views
from tests.support.requests import encoded, take
from tests.support.waiting import wait_until


def test_what_the_node_refuses_of_a_move_is_said(tmp_path: Path, pacs: Orthanc, node: MakeNode) -> None:
    """A partial failure: what can be had is here, the rest is counted, tried again, and given up in the end.

    Orthanc gives a C-MOVE up at the first image that is refused, so the second attempt asks for each by itself.
    """
    images = views()
    images[2].ImageComments = "x" * 10_000
    put(pacs, images, tmp_path)
    here = node("move", maximum_bytes=len(encoded(images[2])) - 5_000, max_attempts=2)
    take(here.intake, images[0])
    here.want_missing(images[0].StudyInstanceUID)
    assert here.pull_once()
    state, reason = here.outcome(retrievals.RetrievalKind.MISSING)
    assert state is RetrievalState.WAITING
    assert re.match("[123] of 3 images did not come: C-MOVE: ORTHANC at .* answered 0x", reason), reason
    wait_until(here.pull_once, "the second attempt is due")
    state, reason = here.outcome(retrievals.RetrievalKind.MISSING)
    assert state is RetrievalState.DEAD
    assert re.match("1 of [123] images did not come: C-MOVE", reason), reason
    assert set(here.files(images[0].StudyInstanceUID)) == {images[n].SOPInstanceUID for n in (0, 1, 3)}


@pytest.mark.parametrize(
    ("method", "options", "told"),
    [
        ("move", {"ae_title": "NOBODY"}, "C-MOVE: ORTHANC at .* answered 0x"),
        ("get", {"port": 1}, "ORTHANC at 127.0.0.1:1 cannot be reached"),
        ("dicomweb", {"url": "http://127.0.0.1:1/dicom-web"}, "cannot be reached"),
    ],
    ids=["unknown destination", "PACS away", "web server away"],
)
def test_what_cannot_be_had_is_said(
    tmp_path: Path, pacs: Orthanc, node: MakeNode, method: str, options: dict[str, object], told: str
) -> None:
    """The reason stays with the retrieval, and the study with what it has."""
    images = views()
    put(pacs, images, tmp_path)
    fetch_in_vain(node(method, **options), images, told)


def test_a_wrong_password_is_said(tmp_path: Path, node: MakeNode) -> None:
    """And is not in what is said."""
    with running_orthanc(tmp_path / "locked", plugins=[DICOMWEB], users={"dicomnode": "right"}) as locked:
        url = f"http://127.0.0.1:{locked.http_port}/dicom-web"
        here = node("dicomweb", url=url, user="dicomnode", password="wr0ng")  # noqa: S106  of nobody
        fetch_in_vain(here, views(), r"dicom-web answered 401 \(user or password is wrong\)$")
