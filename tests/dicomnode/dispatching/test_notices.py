"""Performed procedure steps and availability notices, sent as a modality or a PACS sends them, hold a study back."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
import structlog
from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import InstanceAvailabilityNotification, ModalityPerformedProcedureStep

from dicomnode.assembly import Stores
from dicomnode.config.sections import CompletenessSettings, ModelSettings, NodeSettings
from dicomnode.dispatching.dispatch import Dispatcher
from dicomnode.dispatching.evidence import Announcements
from dicomnode.dispatching.notices import Notices
from dicomnode.network.dimse import N_CREATE_RQ, N_SET_RQ
from dicomnode.network.normalized import Request
from dicomnode.receiving.intake import Intake
from dicomnode.receiving.receiver import Receiver
from storage.database import Database
from tests.support.requests import take
from tests.support.studies import mammogram

RAW = "1.2.840.10008.5.1.4.1.1.1.2.1"


@contextmanager
def _association(stores: Stores, intake: Intake) -> Iterator[Association]:
    settings = NodeSettings(host="127.0.0.1", port=0, allow_any_calling_ae_title=True)
    receiver = Receiver(settings, intake, on_notice=Notices(stores.database).take)
    receiver.open()
    entity = AE(ae_title="MODALITY")
    entity.add_requested_context(ModalityPerformedProcedureStep)
    entity.add_requested_context(InstanceAvailabilityNotification)
    association = entity.associate("127.0.0.1", receiver.port, ae_title="DICOMNODE")
    try:
        assert len(association.accepted_contexts) == 2
        yield association
        association.release()
    finally:
        receiver.close()


@pytest.fixture
def peer(stores: Stores, intake: Intake) -> Iterator[Association]:
    """A peer that may send either kind of notice."""
    with _association(stores, intake) as association:
        yield association


@pytest.fixture
def images() -> list[Dataset]:
    """Two views of study 1.2.3."""
    return [mammogram("1.2.3", "1.2.3.1", laterality) for laterality in "RL"]


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _references(images: Sequence[Dataset], availability: str = "") -> list[Dataset]:
    more = {"InstanceAvailability": availability} if availability else {}
    return [
        _item(ReferencedSOPClassUID=image.SOPClassUID, ReferencedSOPInstanceUID=image.SOPInstanceUID, **more)
        for image in images
    ]


def _step(status: str, images: Sequence[Dataset] = (), studies: Sequence[str] = ("1.2.3",)) -> Dataset:
    """What an MPPS N-CREATE carries."""
    step = _item(PerformedProcedureStepStatus=status, Modality="MG")
    step.ScheduledStepAttributesSequence = [_item(StudyInstanceUID=uid) for uid in studies]
    step.PerformedSeriesSequence = _series(images)
    return step


def _series(images: Sequence[Dataset]) -> list[Dataset]:
    return [_item(SeriesInstanceUID="1.2.3.1", ReferencedImageSequence=_references(images))] if images else []


def _available(images: Sequence[Dataset], availability: str = "ONLINE", study: str = "1.2.3") -> Dataset:
    series = _item(SeriesInstanceUID="1.2.3.1", ReferencedSOPSequence=_references(images, availability))
    return _item(StudyInstanceUID=study, ReferencedSeriesSequence=[series])


def _create(peer: Association, dataset: Dataset, uid: str, sop_class: str = ModalityPerformedProcedureStep) -> int:
    status, _ = peer.send_n_create(dataset, sop_class, uid)
    return int(status.Status)


def _set(peer: Association, dataset: Dataset, uid: str) -> int:
    status, _ = peer.send_n_set(dataset, ModalityPerformedProcedureStep, uid)
    return int(status.Status)


@pytest.fixture
def is_queued(stores: Stores) -> Callable[..., bool]:
    """Whether the study is taken as complete, quiet as it is; another database stands for another process."""

    def ask(database: Database = stores.database) -> bool:
        evidence = [Announcements(database, frozenset({"MG"}))]
        quiet = CompletenessSettings(quiet_s=1e-9)
        return Dispatcher(database, quiet, [ModelSettings(package="x")], 3, evidence).do_one_round()

    return ask


IsQueued = Callable[..., bool]


def test_a_study_waits_for_its_step_and_for_the_images_of_it(
    peer: Association, intake: Intake, images: list[Dataset], is_queued: IsQueued
) -> None:
    """In progress, then completed with two images of which one is here, then both."""
    uid = generate_uid()
    assert _create(peer, _step("IN PROGRESS"), uid) == 0x0000
    take(intake, images[0])
    assert not is_queued()
    over = _item(PerformedProcedureStepStatus="COMPLETED", PerformedSeriesSequence=_series(images))
    assert _set(peer, over, uid) == 0x0000
    assert not is_queued()
    take(intake, images[1])
    assert is_queued()


def test_a_step_may_be_told_series_by_series(
    peer: Association, intake: Intake, images: list[Dataset], is_queued: IsQueued
) -> None:
    """The last list of series is the one that counts, and one that ends without any leaves it as it was."""
    uid = generate_uid()
    assert _create(peer, _step("IN PROGRESS", images[:1]), uid) == 0x0000
    assert _set(peer, _item(PerformedSeriesSequence=_series(images)), uid) == 0x0000
    take(intake, images[0])
    assert _set(peer, _item(PerformedProcedureStepStatus="DISCONTINUED"), uid) == 0x0000
    assert not is_queued()
    take(intake, images[1])
    assert is_queued()


def test_a_study_waits_for_what_is_available(
    peer: Association, intake: Intake, images: list[Dataset], is_queued: IsQueued
) -> None:
    """Not for what is not, and not for raw data of which none is ever sent here."""
    raw, gone = mammogram("1.2.3", "1.2.3.1"), mammogram("1.2.3", "1.2.3.1")
    raw.SOPClassUID = RAW
    notify = InstanceAvailabilityNotification
    assert _create(peer, _available([*images, raw]), generate_uid(), notify) == 0x0000
    assert _create(peer, _available([gone], "UNAVAILABLE"), generate_uid(), notify) == 0x0000
    take(intake, images[0])
    assert not is_queued()
    take(intake, images[1])
    assert is_queued()


def test_what_was_announced_outlives_the_process(
    stores: Stores, peer: Association, intake: Intake, images: list[Dataset], is_queued: IsQueued
) -> None:
    """Another process on the same database, as after a crash, waits too."""
    assert _create(peer, _available(images), generate_uid(), InstanceAvailabilityNotification) == 0x0000
    take(intake, images[0])
    again = Database.open(stores.database.url)
    assert not is_queued(again)
    take(intake, images[1])
    assert is_queued(again)
    again.close()


def test_the_deadline_is_above_a_step_that_never_ends(
    stores: Stores, peer: Association, intake: Intake, images: list[Dataset]
) -> None:
    """A modality that was switched off holds no study for ever."""
    assert _create(peer, _step("IN PROGRESS"), generate_uid()) == 0x0000
    take(intake, images[0])
    overdue = CompletenessSettings(quiet_s=3600, deadline_s=1e-9)
    evidence = [Announcements(stores.database, frozenset({"MG"}))]
    assert Dispatcher(stores.database, overdue, [ModelSettings(package="x")], 3, evidence).do_one_round()


def test_a_step_for_two_studies_counts_no_images(
    peer: Association, intake: Intake, images: list[Dataset], is_queued: IsQueued
) -> None:
    """Nobody says which is of which study; that it goes on is true of both."""
    uid = generate_uid()
    assert _create(peer, _step("IN PROGRESS", images, ("1.2.3", "1.2.4")), uid) == 0x0000
    take(intake, images[0])
    assert not is_queued()
    assert _set(peer, _item(PerformedProcedureStepStatus="COMPLETED"), uid) == 0x0000
    assert is_queued()


def test_what_contradicts_the_standard_is_refused(peer: Association, images: list[Dataset]) -> None:
    """With its status, and the association lives on."""
    uid, notify = generate_uid(), InstanceAvailabilityNotification
    assert _create(peer, _step("COMPLETED"), uid) == 0x0106
    assert _create(peer, _item(Modality="MG"), uid) == 0x0120
    assert _create(peer, _step("IN PROGRESS", studies=()), uid) == 0x0120
    assert _create(peer, _available(images, study=""), uid, notify) == 0x0120
    assert _set(peer, _step("COMPLETED"), uid) == 0x0112
    assert _create(peer, _step("IN PROGRESS"), uid) == 0x0000
    assert _create(peer, _step("IN PROGRESS"), uid) == 0x0111
    assert _set(peer, _item(PerformedProcedureStepStatus="FINISHED"), uid) == 0x0106
    assert _set(peer, _item(PerformedProcedureStepStatus="COMPLETED"), uid) == 0x0000
    assert _set(peer, _item(PerformedProcedureStepStatus="COMPLETED"), uid) == 0x0110
    status, _ = peer.send_n_set(_available(images), notify, uid)
    assert status.Status == 0x0211


def test_a_notice_without_a_uid_gets_one(stores: Stores, peer: Association, images: list[Dataset]) -> None:
    """N-CREATE leaves it to us where the peer gives none."""
    status, _ = peer.send_n_create(_available(images), InstanceAvailabilityNotification, None)
    assert status.Status == 0x0000
    with stores.database.transaction() as connection:
        (uid,) = connection.exec_driver_sql("SELECT notice_uid FROM notices").scalars().all()
    assert uid.startswith("2.25.")


def test_a_database_that_is_away_is_no_success(stores: Stores, intake: Intake, images: list[Dataset]) -> None:
    """The peer keeps the notice and sends it again."""
    with structlog.testing.capture_logs(), _association(stores, intake) as peer:
        with stores.database.transaction() as connection:
            connection.exec_driver_sql("ALTER TABLE announced RENAME TO elsewhere")
        assert _create(peer, _available(images), generate_uid(), InstanceAvailabilityNotification) == 0x0110


HOSTILE = ["", "x" * 60_000, "1.2\x1b[2J", "1.2\x001"]


@pytest.mark.parametrize("uid", HOSTILE)
def test_what_is_no_uid_is_not_noted(stores: Stores, images: list[Dataset], uid: str) -> None:
    """Neither a notice of that name nor one of such a study, and the log has no more of it than of a UID."""
    take = Notices(stores.database).take
    with structlog.testing.capture_logs() as lines:
        named = take(Request(N_CREATE_RQ, ModalityPerformedProcedureStep, uid, _step("IN PROGRESS")))
        changed = take(Request(N_SET_RQ, ModalityPerformedProcedureStep, uid, _step("COMPLETED")))
        study = take(Request(N_CREATE_RQ, ModalityPerformedProcedureStep, "1.9", _step("IN PROGRESS", studies=[uid])))
    assert (named.status, changed.status, study.status) == (0x0117, 0x0117, 0x0106 if uid else 0x0120)
    assert len(str(lines)) < 2000
    images[0].SOPInstanceUID = uid
    announced = Request(N_CREATE_RQ, InstanceAvailabilityNotification, "1.8", _available(images))
    with structlog.testing.capture_logs() as lines:
        assert take(announced).status == 0x0000
    assert lines[0]["announced"] == 1  # the other one, which can come
