"""C-FIND before a PACS that does not answer as it should; real ones are asked in the end-to-end tests."""

import struct
import time
from collections.abc import Iterator

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from dicomnode.config.sections import DestinationSettings
from dicomnode.errors import QueryFailed
from dicomnode.fetching import find
from dicomnode.fetching.find import Caller, Finder
from tests.fuzz.answers import ABORTED, Answer, How, accepted, response
from tests.fuzz.requestor import HostileArchive
from tests.support.waiting import free_port

ACCEPTED = accepted([(1, 0, ExplicitVRLittleEndian)])
PENDING = response(0x8020, 1, 0xFF00)
LONG = struct.pack(">BBI", 4, 0, 0xFFFFFFFF)


def _finder(port: int) -> Finder:
    pacs = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=port, connect_timeout_s=20)
    return Finder(Caller(pacs, "NODE", None), 0.5)


@pytest.mark.parametrize(
    "script",
    [
        [Answer(ACCEPTED[:40])],
        [Answer(ACCEPTED), Answer(PENDING[:-5])],
        [Answer(ACCEPTED), Answer(LONG)],
        [Answer(ACCEPTED), Answer(PENDING, How.ENDLESS)],
        [Answer(ACCEPTED + ABORTED)],
        [Answer(ACCEPTED, How.CLOSING)],
    ],
    ids=["half an acceptance", "half a PDU", "4 GiB", "for ever", "aborted", "closed"],
)
def test_a_pacs_that_does_not_answer_is_not_waited_for(script: list[Answer]) -> None:
    """Also where it has begun to: who waits for the rest of a PDU without end holds up all studies."""
    pacs = HostileArchive()
    pacs.script = script
    started = time.monotonic()
    try:
        with pytest.raises(QueryFailed, match=r"did not answer|cannot be re(ached|ad)"):
            _finder(pacs.port).series("1.2.3")
        assert time.monotonic() - started < 10
    finally:
        pacs.close()


def test_a_list_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is not the PACS's to fill."""

    def answer(_: Event) -> Iterator[tuple[int, Dataset]]:
        item = Dataset()
        item.SeriesInstanceUID = "1.2.3.1"
        while True:
            yield 0xFF00, item

    monkeypatch.setattr(find, "LONGEST_LIST", 20)
    entity, port = AE(ae_title="PACS"), free_port()
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_FIND, answer)])
    try:
        with pytest.raises(QueryFailed, match="more than 20 answers"):
            _finder(port).series("1.2.3")
    finally:
        server.shutdown()
