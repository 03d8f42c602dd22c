"""C-MOVE and C-GET against a PACS that fails in the ways of the standard; a real one in the end-to-end tests."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicomnode.assembly import Stores
from dicomnode.config.sections import DestinationSettings
from dicomnode.errors import QueryFailed, RetrievalFailed
from dicomnode.fetching.fetched import Fetched
from dicomnode.fetching.find import Caller
from dicomnode.fetching.remote import RemoteInstance, Wanted
from dicomnode.fetching.retrieve import UIDS_AT_ONCE, DimsePacs
from dicomnode.receiving.intake import Intake
from storage.studies import find_instance
from tests.support.destination import ControlledArchive
from tests.support.studies import mammogram
from tests.support.waiting import free_port

MAMMOGRAM = "1.2.840.10008.5.1.4.1.1.1.2"
WANTED = Wanted("1.2.3", "1.2.3.1", [RemoteInstance("1.2.3.1.1", MAMMOGRAM)], is_whole=True)


class Pacs:
    """Answers C-MOVE. is_unknown: the destination; silent_s: before anything; images: sent to the archive, slowly.

    requests: identifier and destination of each.
    """

    def __init__(
        self, *, is_unknown: bool = False, silent_s: float = 0.0, images: int = 0, archive_port: int = 1
    ) -> None:
        self._is_unknown = is_unknown
        self._silent_s = silent_s
        self._images = images
        self._archive_port = archive_port
        self.requests: list[tuple[Dataset, str]] = []

    def _move(self, event: Event) -> Iterator[object]:
        self.requests.append((event.identifier, str(event.move_destination)))
        time.sleep(self._silent_s)
        if self._is_unknown:
            yield None, None  # how pynetdicom is told so
            return
        image = mammogram("1.2.3", "1.2.3.1")
        yield "127.0.0.1", self._archive_port, {"contexts": [build_context(MAMMOGRAM, ExplicitVRLittleEndian)]}
        yield self._images
        for _ in range(self._images):
            time.sleep(0.15)
            yield 0xFF00, image

    @contextmanager
    def listening(self, timeout_s: float = 20.0, fetched: Fetched | None = None) -> Iterator[DimsePacs]:
        """It, seen from the node."""
        port = free_port()
        entity = AE(ae_title="PACS")
        entity.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
        server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_MOVE, self._move)])
        settings = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=port)
        try:
            yield DimsePacs(Caller(settings, "DICOMNODE", None), 20.0, timeout_s, "DICOMNODE", fetched)
        finally:
            server.shutdown()


@contextmanager
def _answering(
    *answers: tuple[int, Dataset | None], fetched: Fetched | None = None, timeout_s: float = 20.0
) -> Iterator[DimsePacs]:
    """A PACS that says this to every C-FIND and C-GET; to the latter first how many images it has."""

    def answer(event: Event) -> Iterator[object]:
        if event.event is evt.EVT_C_GET:
            yield len(answers)
        yield from answers

    port = free_port()
    entity = AE(ae_title="PACS")
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
    entity.add_supported_context(MAMMOGRAM, ExplicitVRLittleEndian, scu_role=True, scp_role=True)
    handlers = [(evt.EVT_C_FIND, answer), (evt.EVT_C_GET, answer)]
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    settings = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=port)
    try:
        yield DimsePacs(Caller(settings, "DICOMNODE", None), 20.0, timeout_s, "DICOMNODE", fetched)
    finally:
        server.shutdown()


def _described(number: int) -> Dataset:
    item = Dataset()
    item.SOPInstanceUID, item.SOPClassUID = f"1.2.3.1.{number}", MAMMOGRAM
    return item


def test_many_answers_are_all_taken() -> None:
    """Each in its turn, however many come at once."""
    with _answering(*((0xFF00, _described(number)) for number in range(1500))) as pacs:
        found = pacs.instances("1.2.3", "1.2.3.1")
    assert [item.sop_instance_uid for item in found] == [f"1.2.3.1.{number}" for number in range(1500)]


@pytest.mark.parametrize("status", [0xA700, 0xC001, 0xFE00])
def test_a_search_that_fails_half_way_has_found_nothing(status: int) -> None:
    """Failed or cancelled: part of a list is no list."""
    with (
        _answering((0xFF00, _described(1)), (status, None)) as pacs,
        pytest.raises(QueryFailed, match=f"answered 0x{status:04X} to C-FIND"),
    ):
        pacs.instances("1.2.3", "1.2.3.1")


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([(0xFE00, None)], r"answered 0xFE00 \(cancelled"),
        ([(0xA702, None)], r"answered 0xA702 \(it is out of resources"),
        ([(0xC000, None)], "answered 0xC000"),
    ],
    ids=["cancelled", "out of resources", "unable to process"],
)
def test_what_came_before_a_get_failed_is_kept(
    stores: Stores, intake: Intake, answers: list[tuple[int, Dataset | None]], told: str
) -> None:
    """The first image is stored, and what became of the rest is said."""
    image = mammogram("1.2.3", "1.2.3.1")
    with (
        _answering((0xFF00, image), *answers, fetched=Fetched(intake, "PACS")) as pacs,
        pytest.raises(RetrievalFailed, match=f"C-GET: PACS at .* {told}"),
    ):
        pacs.retrieve(WANTED)
    with stores.database.transaction() as connection:
        assert find_instance(connection, image.SOPInstanceUID) is not None


def test_images_without_end_are_not_waited_for(intake: Intake) -> None:
    """Beyond the time limit the association is cut, between two images too."""
    images = [(0xFF00, mammogram("1.2.3", "1.2.3.1"))] * 200
    with (
        _answering(*images, fetched=Fetched(intake, "PACS"), timeout_s=0.3) as pacs,
        pytest.raises(RetrievalFailed, match=r"needs more than 0\.3 s|did not answer"),  # with one that took long
    ):
        pacs.retrieve(WANTED)


def test_what_the_node_refuses_of_a_get_is_said(intake: Intake) -> None:
    """Its UID is not the one that the request announced; the PACS counts it as failed."""
    image = mammogram("1.2.3", "1.2.3.1")
    del image.StudyInstanceUID
    with (
        _answering((0xFF00, image), fetched=Fetched(intake, "PACS")) as pacs,
        pytest.raises(RetrievalFailed, match=r"answered 0xB000 \(some could not be sent, 1 failed\)|0xA702"),
    ):
        pacs.retrieve(WANTED)


def test_an_unknown_destination_is_said_as_what_it_is() -> None:
    """0xA801: an administrator must name this node at the PACS."""
    with (
        Pacs(is_unknown=True).listening() as pacs,
        pytest.raises(RetrievalFailed, match=r"answered 0xA801 \(it does not know this node's AE title"),
    ):
        pacs.retrieve(WANTED)


def test_a_service_that_is_not_offered_is_said(intake: Intake) -> None:
    """This one knows no C-GET, and no C-FIND."""
    with (
        Pacs().listening(fetched=Fetched(intake, "PACS")) as pacs,
        pytest.raises(RetrievalFailed, match="does not offer C-GET"),
    ):
        pacs.retrieve(WANTED)


def test_a_series_is_asked_for_whole_or_by_its_instances() -> None:
    """To this node, never too many at once."""
    pacs = Pacs()
    many = [RemoteInstance(f"1.2.3.1.{number}", MAMMOGRAM) for number in range(UIDS_AT_ONCE + 1)]
    with pacs.listening() as listening:
        listening.retrieve(WANTED)
        listening.retrieve(Wanted("1.2.3", "1.2.3.1", many, is_whole=False))
    (whole, to), (first, _), (last, _) = pacs.requests
    assert to == "DICOMNODE"
    assert (whole.QueryRetrieveLevel, whole.SeriesInstanceUID) == ("SERIES", "1.2.3.1")
    assert "SOPInstanceUID" not in whole
    assert (first.QueryRetrieveLevel, len(first.SOPInstanceUID)) == ("IMAGE", UIDS_AT_ONCE)
    assert last.SOPInstanceUID == f"1.2.3.1.{UIDS_AT_ONCE}"


def test_a_pacs_that_says_nothing_is_not_waited_for() -> None:
    """Beyond the time limit the association is cut."""
    with Pacs(silent_s=2.0).listening(timeout_s=0.5) as pacs:
        started = time.monotonic()
        with pytest.raises(RetrievalFailed, match="nothing came for too long"):
            pacs.retrieve(WANTED)
        assert time.monotonic() - started < 1.8


def test_a_pacs_that_does_not_end_is_not_waited_for() -> None:
    """However often it says that it goes on."""
    with (
        ControlledArchive().listening() as archive,
        Pacs(images=40, archive_port=archive.port).listening(timeout_s=1.0) as pacs,
    ):
        with pytest.raises(RetrievalFailed, match="needs more than 1 s"):
            pacs.retrieve(WANTED)
        assert 0 < len(archive.requests) < 30
