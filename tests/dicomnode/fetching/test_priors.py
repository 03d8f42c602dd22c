"""Which earlier studies are wanted, and whose."""

from dataclasses import replace
from datetime import date

import pytest
from pydicom import Dataset

from dicomnode.config.sections import PriorRule
from dicomnode.fetching.priors import Subject, candidates, is_same_patient, period, subject_of
from dicomnode.fetching.remote import Patient, RemoteStudy

ANNA = Patient("A-1", "HOSPITAL", "19600101", "ISO_IR 100")
SUBJECT = Subject(ANNA, date(2026, 3, 1))
RULE = PriorRule(modality="MG", at_most=2, maximum_age_days=365)


def _study(uid: str, day: str, patient: Patient = ANNA, modalities: frozenset[str] | None = None) -> RemoteStudy:
    return RemoteStudy(uid, day, patient, modalities)


def _header(**values: str) -> Dataset:
    header = Dataset()
    for keyword, value in {"PatientID": "A-1", "StudyDate": "20260301", **values}.items():
        setattr(header, keyword, value)
    return header


def test_the_period_ends_the_day_before() -> None:
    """Two studies of one day are never each other's prior; a leap year is 366 days."""
    assert period(RULE, SUBJECT) == ("20250301", "20260228")
    assert period(RULE, Subject(ANNA, date(2024, 3, 1)))[1] == "20240229"


def test_only_what_fits_is_wanted_newest_first() -> None:
    """Whatever the PACS matched: the study itself, one of that day, a too old one, another modality are left out."""
    found = [
        _study("1.1", "20250401"),
        _study("1.2", "20260101", modalities=frozenset({"MG", "SR"})),
        _study("1.3", "20260102", modalities=frozenset({"CT"})),
        _study("1.4", "20260301"),
        _study("1.5", "20240101"),
        _study("1.6", ""),
        _study("1.9", "20260201"),
        *[_study(uid, "20260201") for uid in ("", "../1.7/series?", "1.7\\1.8", "1" * 65, "1.7\x1b[2J")],
    ]
    assert [item.study_instance_uid for item in candidates(RULE, SUBJECT, "1.9", found)] == ["1.2", "1.1"]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"issuer": ""}, True),
        ({"birth_date": ""}, True),
        ({"character_set": "ISO_IR 192"}, True),
        ({"patient_id": "A-2"}, False),
        ({"patient_id": "a-1"}, False),
        ({"issuer": "PRACTICE"}, False),
        ({"birth_date": "19600102"}, False),
    ],
)
def test_a_patient_is_known_by_the_id_and_no_contradiction(change: dict[str, str], *, same: bool) -> None:
    """An ID is one only with its issuer, and two dates of birth are two people."""
    assert is_same_patient(ANNA, replace(ANNA, **change)) is same
    assert bool(candidates(RULE, SUBJECT, "1.9", [_study("1.1", "20250401", replace(ANNA, **change))])) is same


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (_header(PatientID=""), "no patient ID"),
        (_header(PatientID="A*"), "match other IDs"),
        (_header(PatientID="A?1"), "match other IDs"),
        (_header(StudyDate=""), "no study date"),
    ],
)
def test_who_cannot_be_asked_for_is_said(header: Dataset, told: str) -> None:
    """An empty ID or a wildcard would bring the studies of others."""
    found = subject_of(header)
    assert isinstance(found, str)
    assert told in found


def test_a_subject_is_read_from_an_image() -> None:
    """With what is known of the patient."""
    subject = subject_of(_header(PatientBirthDate="19600101", SpecificCharacterSet="ISO_IR 100"))
    assert subject == Subject(Patient("A-1", "", "19600101", "ISO_IR 100"), date(2026, 3, 1))
