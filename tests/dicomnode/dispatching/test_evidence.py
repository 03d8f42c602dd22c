"""A quiet study waits while something says that more will come, and never beyond its deadline."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from dicomnode.assembly import Stores
from dicomnode.config.sections import CompletenessSettings, DestinationSettings, ModelSettings, NodeSettings
from dicomnode.dispatching.dispatch import Dispatcher
from dicomnode.dispatching.evidence import Evidence, OpenAssociations, PacsHasMore
from dicomnode.errors import QueryFailed
from dicomnode.fetching.find import Caller
from dicomnode.fetching.remote import count_by_modality
from dicomnode.fetching.retrieve import DimsePacs
from dicomnode.receiving.intake import Intake
from dicomnode.receiving.receiver import Receiver
from tests.support.raw_association import raw_association
from tests.support.requests import encoded
from tests.support.studies import mammogram
from tests.support.waiting import free_port, wait_until

Receive = Callable[..., Dataset]
MAMMOGRAM = "1.2.840.10008.5.1.4.1.1.1.2"
QUIET = CompletenessSettings(quiet_s=1e-9)
OVERDUE = CompletenessSettings(quiet_s=3600, deadline_s=1e-9)


def _dispatcher(stores: Stores, *evidence: Evidence, settings: CompletenessSettings = QUIET) -> Dispatcher:
    return Dispatcher(stores.database, settings, [ModelSettings(package="mammo-mass")], 3, evidence)


def test_a_study_waits_for_the_association_that_sends_it(stores: Stores, intake: Intake) -> None:
    """Over a real association: queued only when that ends, or when it goes on to another study."""
    arriving = OpenAssociations()
    receiver = Receiver(
        NodeSettings(host="127.0.0.1", port=0, allow_any_calling_ae_title=True), intake, arriving=arriving
    )
    receiver.open()
    dispatcher = _dispatcher(stores, arriving)
    try:
        with raw_association(receiver.port, MAMMOGRAM, "1.2.840.10008.1.2.1") as sender:
            for study in ("1.2.3", "1.2.4"):
                image = mammogram(study, f"{study}.1")
                assert sender.store(image.SOPInstanceUID, encoded(image)).status == 0
                assert dispatcher.do_one_round() is (study == "1.2.4")  # the first is through when the second comes
                assert not dispatcher.do_one_round()
            sender.release()
        wait_until(dispatcher.do_one_round, "the second study is queued after the release")
    finally:
        receiver.close()


def test_the_deadline_is_above_all_evidence(stores: Stores, receive: Receive) -> None:
    """An association that is never closed holds a study no longer than that."""
    receive("1.2.3")
    arriving = OpenAssociations()
    arriving.note("an association", "1.2.3")
    assert not _dispatcher(stores, arriving).do_one_round()
    assert _dispatcher(stores, arriving, settings=OVERDUE).do_one_round()


def test_a_study_waits_for_what_the_pacs_still_has(stores: Stores, receive: Receive) -> None:
    """Only images of the models' modalities count, and the PACS is not asked in every round."""
    receive("1.2.3")
    asked: list[str] = []

    def count(study: str) -> Mapping[str, int]:
        asked.append(study)
        return {"MG": 2, "SR": 5}

    dispatcher = _dispatcher(stores, PacsHasMore(stores.database, count, frozenset({"MG"}), 3600))
    assert not dispatcher.do_one_round()
    assert not dispatcher.do_one_round()
    assert asked == ["1.2.3"]
    receive("1.2.3", laterality="L")
    assert dispatcher.do_one_round()


def test_a_pacs_that_cannot_be_asked_holds_nothing_up(stores: Stores, receive: Receive) -> None:
    """No evidence is no reason to wait."""
    receive("1.2.3")

    def count(study: str) -> Mapping[str, int]:
        raise QueryFailed(study)

    assert _dispatcher(stores, PacsHasMore(stores.database, count, frozenset({"MG"}), 3600)).do_one_round()


def test_what_a_pacs_that_cannot_be_asked_may_have_is_still_fetched(stores: Stores, receive: Receive) -> None:
    """The study goes on, and is to lack nothing in the end because the PACS was away for a moment."""
    receive("1.2.3")
    told: list[str] = []

    def count(study: str) -> Mapping[str, int]:
        raise QueryFailed(study)

    evidence = PacsHasMore(
        stores.database, count, frozenset({"MG"}), 3600, lambda study: told.append(study.study_instance_uid)
    )
    assert _dispatcher(stores, evidence).do_one_round()
    assert told == ["1.2.3"]


def _series(modality: str, number: int | None) -> Dataset:
    series = Dataset()
    series.QueryRetrieveLevel = "SERIES"
    series.SeriesInstanceUID = "1.2.3"
    series.Modality = modality
    series.NumberOfSeriesRelatedInstances = number
    return series


@contextmanager
def _pacs(*answers: tuple[int, Dataset | None]) -> Iterator[DestinationSettings]:
    """A PACS that gives these answers to C-FIND and keeps the query to itself."""

    def find(_event: Event) -> Iterator[tuple[int, Dataset | None]]:
        yield from answers

    port = free_port()
    entity = AE(ae_title="PACS")
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_FIND, find)])
    try:
        yield DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=port, connect_timeout_s=5)
    finally:
        server.shutdown()


def _count(pacs: DestinationSettings) -> Mapping[str, int]:
    finder = DimsePacs(Caller(pacs, "DICOMNODE", None), pacs.connect_timeout_s, 1.0, "DICOMNODE")
    return count_by_modality(finder, "1.2.3")


def test_series_are_counted_by_modality() -> None:
    """Two series of one modality are added up."""
    with _pacs((0xFF00, _series("MG", 2)), (0xFF00, _series("MG", 3)), (0xFF00, _series("SR", 1))) as pacs:
        assert _count(pacs) == {"MG": 5, "SR": 1}


@pytest.mark.parametrize(
    ("answers", "told"),
    [([(0xA700, None)], "0xA700"), ([(0xFF00, _series("MG", None))], "does not tell")],
)
def test_an_answer_that_is_none_is_said(answers: list[tuple[int, Dataset | None]], told: str) -> None:
    """A failure status, and a PACS that does not count."""
    with _pacs(*answers) as pacs, pytest.raises(QueryFailed, match=told):
        _count(pacs)


def test_a_pacs_that_is_away_is_said_in_time() -> None:
    """The dispatcher is not held up for long."""
    nobody = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port(), connect_timeout_s=1)
    started = time.monotonic()
    with pytest.raises(QueryFailed, match="cannot be reached"):
        _count(nobody)
    assert time.monotonic() - started < 5


def test_what_the_pacs_has_more_of_is_told_once_for_each_answer(stores: Stores, receive: Receive) -> None:
    """So that it can be fetched; not in every round, and not when nothing is missing."""
    receive("1.2.3")
    receive("1.2.4")
    told: list[str] = []
    counts = {"1.2.3": {"MG": 2}, "1.2.4": {"MG": 1}}
    evidence = PacsHasMore(
        stores.database,
        counts.__getitem__,
        frozenset({"MG"}),
        3600,
        lambda study: told.append(study.study_instance_uid),
    )
    dispatcher = _dispatcher(stores, evidence)
    assert dispatcher.do_one_round()
    assert not dispatcher.do_one_round()
    assert told == ["1.2.3"]


def test_of_a_study_that_another_took_nothing_is_remembered(stores: Stores, receive: Receive) -> None:
    """Of two dispatchers one queues it; what held it back at the other is forgotten."""
    receive("1.2.3")
    arriving = OpenAssociations()
    arriving.note("an association", "1.2.3")
    held_back = _dispatcher(stores, arriving)
    assert not held_back.do_one_round()
    assert held_back._waiting
    assert _dispatcher(stores).do_one_round()
    assert not held_back.do_one_round()
    assert not held_back._waiting
