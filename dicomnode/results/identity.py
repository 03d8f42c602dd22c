"""Whose results these are and which run made them: what every result object begins with.

Everything comes from the source header or from the run, but for the machine's time zone; nothing is random and no clock
is read, so a repeated run writes the same bytes.
"""

import re
import unicodedata
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from importlib.metadata import version

from pydicom import DataElement, Dataset, config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicomnode.attributes import flag, items, numbers, text, texts
from dicomnode.reading.findings import RunIdentity, StudyAnalysis
from dicomnode.results import codes
from dicomnode.results.content import code_item
from engines.base import EngineDescription

MANUFACTURER = "dicomnode"
VERSION = version("dicomnode")
NOT_FOR_CLINICAL_USE = "Research software. Not for clinical use."
_NAMESPACE = uuid.UUID("6a1d7c52-0c0e-5f0a-9d8e-3b1c6f2a7e44")  # ours, once drawn
PATIENT_AND_STUDY = (  # the type 2 attributes of C.7.1.1 and C.7.2.1
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
_OPTIONAL = ("IssuerOfPatientID", "PatientBirthTime", "StudyDescription", "TimezoneOffsetFromUTC")
_OPTIONAL_ITEMS = {  # what tells two patients or two orders of one number apart; the first attribute must be there
    "IssuerOfPatientIDQualifiersSequence": ("UniversalEntityID", "UniversalEntityIDType"),
    "OtherPatientIDsSequence": ("PatientID", "IssuerOfPatientID", "TypeOfPatientID"),
    "IssuerOfAccessionNumberSequence": ("LocalNamespaceEntityID", "UniversalEntityID", "UniversalEntityIDType"),
}
_PACKAGE = "package SHA-256"
_LONGEST = {"LO": 64, "SH": 16}
_CONTROLS = frozenset(("Cc", "Cs", "Zl", "Zp"))  # no text; an ideographic space or a joiner is part of a name
_SHORTEST_NAME = 6
_IDENTIFIERS = frozenset(("PatientID", "IssuerOfPatientID", "AccessionNumber", "StudyID"))
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_OFFSET = re.compile(r"([+-])(0\d|1[0-4])([0-5]\d)")  # -1200 to +1400 (C.12.1)


def derived_uid(*parts: str) -> str:
    """A UID that depends on the parts alone, below 2.25 (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(parts)).int}"


def run_uid(run: RunIdentity, *role: str) -> str:
    """UID of one thing that a run makes. role: which thing."""
    return derived_uid("run", run.key, *role)


def device_uid(engine: EngineDescription | None) -> str:
    """UID of the "device": a new one when the weights change."""
    return derived_uid("device", engine.weights_sha256 if engine else "none")


def source_header(study: StudyAnalysis) -> Dataset | None:
    """The header that patient and study are copied from; None where no file of the study could be read."""
    headers = [*study.headers_analysed, *(item.header for item in study.not_analysed)]
    return next((header for header in headers if text(header, "StudyInstanceUID")), None)


def copied(header: Dataset, keyword: str) -> str:
    """A source attribute in a form that is valid in its VR; "" where it cannot be.

    Identifiers stay as they are even if too long: a shortened accession number may be another patient's.
    """
    given = text(header, keyword)
    value = "".join(character for character in given if unicodedata.category(character) not in _CONTROLS)
    vr = dictionary_VR(keyword)
    if vr == "DA":
        return valid_date(value)
    if vr == "TM":
        return valid_time(value)
    if keyword == "PatientSex":
        return value if value in {"M", "F", "O"} else ""
    if keyword == "TimezoneOffsetFromUTC":
        return value if _OFFSET.fullmatch(value) else ""
    return value if keyword in _IDENTIFIERS else value[: _LONGEST.get(vr)].strip()


def valid_date(value: str) -> str:
    """The date if it is one, else ""."""
    try:
        return datetime.strptime(value, "%Y%m%d").strftime("%Y%m%d")  # noqa: DTZ007  a date has no time zone
    except ValueError:
        return ""


def valid_time(value: str) -> str:
    """The time if it is one, else ""."""
    return value if _TIME.fullmatch(value) else ""


def put(dataset: Dataset, keyword: str, value: str) -> None:
    """Set an attribute without pydicom's opinion on its form, which is the source's."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    dataset.add(DataElement(tag, dictionary_VR(keyword), value, validation_mode=config.IGNORE))


def patient_and_study(header: Dataset) -> Dataset:
    """Patient and General Study of the source (C.7.1.1, C.7.2.1), in UTF-8."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    for keyword in PATIENT_AND_STUDY:
        put(dataset, keyword, copied(header, keyword))
    for keyword in _OPTIONAL:
        if copied(header, keyword):
            put(dataset, keyword, copied(header, keyword))
    for keyword, inner in _OPTIONAL_ITEMS.items():
        found = [_item(item, inner) for item in items(header, keyword) if copied(item, inner[0])]
        if found:
            setattr(dataset, keyword, found)
    _carry_deidentification(header, dataset)
    put(dataset, "StudyInstanceUID", text(header, "StudyInstanceUID"))
    return dataset


def _item(source: Dataset, keywords: Sequence[str]) -> Dataset:
    item = Dataset()
    for keyword in keywords:
        if copied(source, keyword):
            put(item, keyword, copied(source, keyword))
    if "TypeOfPatientID" in keywords and "TypeOfPatientID" not in item:
        item.TypeOfPatientID = "TEXT"  # type 1 (C.7.1.1), and older devices leave it out
    return item


def _carry_deidentification(header: Dataset, dataset: Dataset) -> None:
    """Results over a patient without identity are such themselves, and say by which method (C.7.1.1)."""
    if flag(header, "PatientIdentityRemoved") != "YES":
        return
    dataset.PatientIdentityRemoved = "YES"
    methods = [method[:64] for method in texts(header, "DeidentificationMethod") if method]
    meanings = [copied(code, "CodeMeaning") for code in items(header, "DeidentificationMethodCodeSequence")]
    dataset.DeidentificationMethod = methods or [meaning for meaning in meanings if meaning] or ["Not stated"]


def carry_lossiness(header: Dataset, dataset: Dataset) -> None:
    """Say of an image what was said of its source: once lossy, always lossy (C.7.6.1.1.5)."""
    if flag(header, "LossyImageCompression") != "01":
        return
    dataset.LossyImageCompression = "01"
    ratios = numbers(header, "LossyImageCompressionRatio")
    if ratios:
        dataset.LossyImageCompressionRatio = [f"{ratio:.6g}" for ratio in ratios]


def stamp(dataset: Dataset, study: StudyAnalysis, sop_class_uid: str, role: str, about: str = "") -> None:
    """Make a dataset this run's: instance, series times, equipment and file meta information.

    role: as in run_uid; about: what its series is about, where a list would show others that are called alike.
    """
    dataset.SOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = run_uid(study.run, role)
    moment = local_moment(study.run.created_at, text(dataset, "TimezoneOffsetFromUTC"))
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f")
    dataset.InstanceCreationDate = dataset.SeriesDate = dataset.ContentDate = date
    dataset.InstanceCreationTime = dataset.SeriesTime = dataset.ContentTime = time
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = MANUFACTURER
    dataset.DeviceSerialNumber = serial_number(study.engine)
    dataset.SoftwareVersions = VERSION
    dataset.SeriesDescription = series_description(study, moment, about)
    dataset.ContributingEquipmentSequence = [contributing_equipment(study)]
    dataset.file_meta = _file_meta(dataset)


def local_moment(moment: datetime, offset: str) -> datetime:
    """The moment in the time zone that the source's times are in. offset: as "+0100" (C.12.1).

    Most sources do not say, and mean the hospital's, which the machine's stands for.
    """
    match = _OFFSET.fullmatch(offset)
    if match is None:
        return moment.astimezone()
    shift = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return moment.astimezone(timezone(-shift if match[1] == "-" else shift))


def serial_number(engine: EngineDescription | None) -> str:
    """What stands for a serial number: the beginning of the weights' digest."""
    return engine.weights_sha256[:16] if engine else "none"


def series_description(study: StudyAnalysis, moment: datetime, about: str = "") -> str:
    """Says that this is AI output and not for clinical use, and in a list which is current; at most 64 characters (LO).

    moment: of the run, as its reader tells time; about: as for `stamp`.
    """
    ending = ": AI output, not for clinical use"
    room = _LONGEST["LO"] - len(ending)
    state = _state(study, moment)
    package = study.engine.package if study.engine else MANUFACTURER
    left = room - sum(len(part) + 2 for part in (about, state) if part)
    if left < min(len(package), _SHORTEST_NAME):
        package = ""  # a letter of its name tells nothing
    return ", ".join(part for part in (about, package[: max(left, 0)], state) if part)[:room] + ending


def _state(study: StudyAnalysis, moment: datetime) -> str:
    if study.failure:
        return "not evaluated"
    return f"update {moment:%d %b %H:%M}" if study.earlier else ""


def contributing_equipment(study: StudyAnalysis) -> Dataset:
    """The algorithm as contributing equipment (C.12.1.1.5)."""
    engine = study.engine
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(codes.PROCESSING_EQUIPMENT)]
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = engine.package[:64] if engine else MANUFACTURER
    item.DeviceSerialNumber = serial_number(engine)
    item.SoftwareVersions = engine.version[:64] if engine else VERSION
    item.DeviceUID = device_uid(engine)
    item.ContributionDateTime = study.run.created_at.strftime("%Y%m%d%H%M%S.%f%z")
    item.ContributionDescription = (
        f"AI detection, {engine.backend} {engine.precision}, weights SHA-256 {engine.weights_sha256}"
        f", {_PACKAGE} {study.run.package_sha256}"
        if engine
        else "AI detection could not be started"
    )
    return item


def package_sha256(equipment: Dataset) -> str:
    """The same read back: digest of the package's manifest, "" where results of before do not tell."""
    return text(equipment, "ContributionDescription").partition(f", {_PACKAGE} ")[2]


def _file_meta(dataset: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(derived_uid("implementation"))
    meta.ImplementationVersionName = f"DICOMNODE_{VERSION}"[:16]
    return meta


def referenced_requests(header: Dataset) -> list[Dataset]:
    """The orders that the source fulfils, as SR documents name them (C.17.2)."""
    requests = items(header, "ReferencedRequestSequence") or items(header, "RequestAttributesSequence")
    return [_request(header, request) for request in requests]


def _request(header: Dataset, request: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedStudySequence = []
    item.RequestedProcedureCodeSequence = []
    put(item, "StudyInstanceUID", text(request, "StudyInstanceUID") or text(header, "StudyInstanceUID"))
    put(item, "AccessionNumber", copied(request, "AccessionNumber") or copied(header, "AccessionNumber"))
    for keyword in (
        "PlacerOrderNumberImagingServiceRequest",
        "FillerOrderNumberImagingServiceRequest",
        "RequestedProcedureID",
        "RequestedProcedureDescription",
    ):
        put(item, keyword, copied(request, keyword))
    return item
