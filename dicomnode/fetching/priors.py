"""Which earlier studies are wanted beside a new one, by rule. Knows no network."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from pydicom import Dataset

from dicomnode.attributes import text
from dicomnode.config.sections import PriorRule
from dicomnode.fetching.remote import Patient, RemoteStudy, read_patient
from storage.archive import UID_PATTERN

WILDCARDS = frozenset("*?\\")  # PS3.4 C.2.2.2: as a key such an ID would match other patients


@dataclass(frozen=True, slots=True)
class Subject:
    """The patient and day of a study that wants priors."""

    patient: Patient
    day: date


def subject_of(header: Dataset) -> Subject | str:
    """Read it from an image of the study, or say why nobody can be asked for priors."""
    patient = read_patient(header)
    if not patient.patient_id:
        return "the images have no patient ID"
    if WILDCARDS & set(patient.patient_id):
        return "the patient ID has characters that match other IDs too"
    try:
        day = date.fromisoformat(text(header, "StudyDate"))
    except ValueError:
        return "the images have no study date"
    return Subject(patient, day)


def period(rule: PriorRule, subject: Subject) -> tuple[str, str]:
    """First and last day of a prior, YYYYMMDD: earlier than the study itself, and not too old."""
    first, last = subject.day - timedelta(days=rule.maximum_age_days), subject.day - timedelta(days=1)
    return f"{first:%Y%m%d}", f"{last:%Y%m%d}"


def candidates(
    rule: PriorRule, subject: Subject, study_instance_uid: str, found: Sequence[RemoteStudy]
) -> list[RemoteStudy]:
    """Those of what a PACS found that may be priors, newest first. Neither its matching nor its UIDs are relied on."""
    first, last = period(rule, subject)
    fitting = [
        study
        for study in found
        if UID_PATTERN.fullmatch(study.study_instance_uid)
        and study.study_instance_uid != study_instance_uid
        and first <= study.date <= last
        and is_same_patient(subject.patient, study.patient)
        and (study.modalities is None or rule.modality in study.modalities)
    ]
    return sorted(fitting, key=lambda study: (study.date, study.study_instance_uid), reverse=True)


def is_same_patient(one: Patient, other: Patient) -> bool:
    """The same ID, and no contradiction in issuer or date of birth where both are known."""
    contradicts = any(a and b and a != b for a, b in ((one.issuer, other.issuer), (one.birth_date, other.birth_date)))
    return one.patient_id == other.patient_id and not contradicts
