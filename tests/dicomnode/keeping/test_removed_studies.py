"""What comes of a study that was removed, or is being removed, is neither lost nor analysed alone."""

from collections.abc import Callable

import pytest
from pydicom import Dataset

from dicomnode.assembly import Stores
from dicomnode.errors import RefusedInstance
from dicomnode.keeping.retention import Retention
from dicomnode.receiving.intake import Intake
from storage import outbox
from storage.archive import Archive
from storage.lifecycle import StudyState
from storage.studies import find_instance
from tests.support.requests import take
from tests.support.roles import MG, ON_EACH_STORE, analyse, deliver, retention_of, study_in

Receive = Callable[..., Dataset]


@ON_EACH_STORE
def test_a_late_image_of_a_removed_study_is_kept_and_not_analysed_alone(
    delivered: Stores, images: list[Dataset], receive: Receive
) -> None:
    """Its report says that the rest is gone; the whole study sent again is analysed, into the very same objects."""
    with delivered.database.transaction() as connection:
        sent = {item.sop_instance_uid for item in outbox.deliveries_of_study(connection, "1.2.3")}
    retention_of(delivered).do_one_round()
    late = receive("1.2.3")
    analyse(delivered)
    (report,) = deliver(delivered)
    assert "2 images of it were removed from this node, 1 came since" in report.to_json()
    assert study_in(delivered).state is StudyState.FAILED
    intake = Intake(delivered.database, delivered.archive, 50_000_000, MG)
    for image in images:
        take(intake, image)
    analyse(delivered)
    again = deliver(delivered)
    assert study_in(delivered).state is StudyState.DONE
    referenced = str([item.to_json() for item in again])
    assert all(str(image.SOPInstanceUID) in referenced for image in (late, *images))
    assert not sent & {item.SOPInstanceUID for item in again}, "the late image makes it another run"


@ON_EACH_STORE
def test_the_whole_study_sent_again_gives_the_same_objects(delivered: Stores, images: list[Dataset]) -> None:
    """A removed study that is routed again is an ordinary study, and adds nothing at the destination."""
    with delivered.database.transaction() as connection:
        sent = {item.sop_instance_uid for item in outbox.deliveries_of_study(connection, "1.2.3")}
    retention_of(delivered).do_one_round()
    intake = Intake(delivered.database, delivered.archive, 50_000_000, MG)
    for image in images:
        take(intake, image)
    analyse(delivered)
    assert {item.SOPInstanceUID for item in deliver(delivered)} == sent


def test_an_image_whose_study_is_being_removed_is_asked_to_come_again(
    delivered: Stores, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0xA700 while the files go; a moment later it is taken."""
    intake = Intake(delivered.database, delivered.archive, 50_000_000, MG)
    statuses = []

    def in_between(*_: object) -> None:
        monkeypatch.undo()
        with pytest.raises(RefusedInstance) as caught:
            receive("1.2.3")
        statuses.append(caught.value.status)
        raise KeyboardInterrupt

    monkeypatch.setattr(Retention, "_finish", in_between)
    with pytest.raises(KeyboardInterrupt):
        retention_of(delivered).do_one_round()
    assert statuses == [0xA700]
    retention_of(delivered).do_one_round()
    assert take(intake, receive("1.2.5", modality="CT")).instance.study_instance_uid == "1.2.5"
    assert receive("1.2.3").StudyInstanceUID == "1.2.3"


@ON_EACH_STORE
def test_an_image_whose_file_went_before_its_row_came_is_not_acknowledged(
    delivered: Stores, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender that repeats an image in that moment is asked for it again, and no row is left without a file."""
    image = images[0]
    with delivered.database.transaction() as connection:
        known = find_instance(connection, image.SOPInstanceUID)
    intake = Intake(delivered.database, delivered.archive, 50_000_000, MG)
    keep = Archive.keep

    def removed_after_keeping(*args: object, **options: object) -> object:
        stored = keep(*args, **options)  # type: ignore[arg-type]  # as it was called
        monkeypatch.undo()
        assert retention_of(delivered).do_one_round()
        return stored

    monkeypatch.setattr(Archive, "keep", removed_after_keeping)
    with pytest.raises(RefusedInstance, match="send it again") as caught:
        take(intake, image)
    assert caught.value.status == 0xA700
    with delivered.database.transaction() as connection:
        assert find_instance(connection, image.SOPInstanceUID) is None
    assert take(intake, image).instance == known
