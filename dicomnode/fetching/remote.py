"""What a PACS has, in the words of any protocol that it can be asked by."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydicom import Dataset

from dicomnode.attributes import number, text, texts
from dicomnode.errors import QueryFailed


@dataclass(frozen=True, slots=True)
class Patient:
    """Whose studies are looked for. issuer, birth_date: "" where not known. character_set: of the patient ID."""

    patient_id: str
    issuer: str
    birth_date: str
    character_set: str


@dataclass(frozen=True, slots=True)
class RemoteStudy:
    """A study that a PACS has. date: YYYYMMDD. modalities: None where the PACS does not tell."""

    study_instance_uid: str
    date: str
    patient: Patient
    modalities: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class RemoteSeries:
    """A series that a PACS has. instances: their number, None where the PACS does not count."""

    series_instance_uid: str
    modality: str
    instances: int | None


@dataclass(frozen=True, slots=True)
class RemoteInstance:
    """An instance that a PACS has."""

    sop_instance_uid: str
    sop_class_uid: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Instances of one series to fetch. is_whole: whether these are all that the series has."""

    study_instance_uid: str
    series_instance_uid: str
    instances: Sequence[RemoteInstance]
    is_whole: bool


class Pacs(Protocol):
    """Asks a PACS, and fetches. Every question raises QueryFailed."""

    def studies(self, patient: Patient, first_date: str, last_date: str) -> list[RemoteStudy]:
        """Studies of a patient ID between two dates (YYYYMMDD), both included."""
        ...

    def series(self, study_instance_uid: str) -> list[RemoteSeries]:
        """The series of a study."""
        ...

    def instances(self, study_instance_uid: str, series_instance_uid: str) -> list[RemoteInstance]:
        """The instances of a series."""
        ...

    def retrieve(self, wanted: Wanted) -> None:
        """Have instances come into the archive. Raises RetrievalFailed when the PACS says that it did not send all."""
        ...


def count_by_modality(pacs: Pacs, study_instance_uid: str) -> Mapping[str, int]:
    """Number of instances of the study's series by modality. Raises QueryFailed, also where the PACS does not count."""
    counts: Counter[str] = Counter()
    for series in pacs.series(study_instance_uid):
        if series.instances is None:
            raise QueryFailed("the PACS does not tell the number of a series' instances")
        counts[series.modality] += series.instances
    return counts


def read_study(item: Dataset) -> RemoteStudy:
    """A study as a PACS describes it, in C-FIND or QIDO-RS."""
    return RemoteStudy(
        text(item, "StudyInstanceUID"),
        text(item, "StudyDate"),
        read_patient(item),
        frozenset(filter(None, texts(item, "ModalitiesInStudy"))) or None,
    )


def read_patient(header: Dataset) -> Patient:
    """Whose object it is, or whose study."""
    return Patient(
        text(header, "PatientID"),
        text(header, "IssuerOfPatientID"),
        text(header, "PatientBirthDate"),
        next(iter(texts(header, "SpecificCharacterSet")), ""),
    )


def read_series(item: Dataset) -> RemoteSeries:
    """A series as a PACS describes it."""
    count = number(item, "NumberOfSeriesRelatedInstances")
    return RemoteSeries(text(item, "SeriesInstanceUID"), text(item, "Modality"), None if count is None else int(count))


def read_instance(item: Dataset) -> RemoteInstance:
    """An instance as a PACS describes it."""
    return RemoteInstance(text(item, "SOPInstanceUID"), text(item, "SOPClassUID"))
