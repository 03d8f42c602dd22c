"""A node that fetches, without a process of its own, and what it fetches."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread

from dicomnode.assembly import Stores
from dicomnode.receiving.intake import Intake
from storage import retrievals
from storage.lifecycle import RetrievalState, StudyState
from storage.studies import find_study, instances_of
from tests.support import studies
from tests.support.located import located
from tests.support.orthanc import Orthanc
from tests.support.requests import take


@dataclass(frozen=True, slots=True)
class Node:
    """A node without a process of its own."""

    stores: Stores
    intake: Intake
    pull_once: Callable[[], bool]

    def want_missing(self, study: str) -> None:
        """As the evidence of completeness does."""
        with self.stores.database.transaction() as connection:
            retrievals.want_missing(connection, study, 1)

    def outcome(self, kind: retrievals.RetrievalKind) -> tuple[RetrievalState, str]:
        """What came of the last retrieval of that kind."""
        with self.stores.database.transaction() as connection:
            latest = retrievals.list_retrievals(connection, kind=kind)[0]
        return latest.state, latest.outcome

    def files(self, study: str) -> dict[str, Dataset]:
        """What is here of a study, by SOP Instance UID."""
        with self.stores.database.transaction() as connection:
            found = instances_of(connection, study)
        return {item.sop_instance_uid: dcmread(located(self.stores.archive, item.object_key)) for item in found}

    def state(self, study: str) -> StudyState | None:
        """Where a study is on its way."""
        with self.stores.database.transaction() as connection:
            found = find_study(connection, study)
        return None if found is None else found.state


MakeNode = Callable[..., Node]


def put(pacs: Orthanc, images: list[Dataset], folder: Path) -> list[Path]:
    """Store images in the PACS; the files that it was given."""
    paths = studies.write_study(images, folder / str(images[0].StudyInstanceUID))
    for path in paths:
        pacs.store(path)
    return paths


def views(patient: str = "PULL-1", day: str = "20260110", modality: str = "MG") -> list[Dataset]:
    """Four views of one patient, on a day."""
    images = studies.four_views()
    for image in images:
        image.PatientID, image.StudyDate, image.Modality = patient, day, modality
    return images


def fetch_in_vain(here: Node, images: list[Dataset], told: str) -> None:
    """Of these images one is here; the others do not come, and why is said."""
    take(here.intake, images[0])
    here.want_missing(images[0].StudyInstanceUID)
    assert here.pull_once()
    state, reason = here.outcome(retrievals.RetrievalKind.MISSING)
    assert state is RetrievalState.WAITING
    assert re.search(told, reason), reason
    assert len(here.files(images[0].StudyInstanceUID)) == 1


def fetch(here: Node, images: list[Dataset]) -> None:
    """Of these images one is here; the others come as they are."""
    take(here.intake, images[0])
    here.want_missing(images[0].StudyInstanceUID)
    assert here.pull_once()
    told = f"{len(images) - 1} images fetched"
    assert here.outcome(retrievals.RetrievalKind.MISSING) == (RetrievalState.DONE, told)
    found = here.files(images[0].StudyInstanceUID)
    assert [found[image.SOPInstanceUID] for image in images] == images
