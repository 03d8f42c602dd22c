"""A rejection note for results that a newer run replaces: a Key Object Selection Document (PS3.3 A.35.4, TID 2010).

The title is (113001, DCM, "Rejected for Quality Reasons"): of the titles that IHE's Imaging Object Change Management
gives a meaning it is the one for objects that are no longer good enough to be shown first and may still be kept. The
others would say that a patient may come to harm (113037), that the worklist entry was wrong (113038), or that the
time to keep them is over (113039). None of the reasons of CID 7011, which are faults of an image, fits; so the note has
no title modifier, and its text says why.
"""

from pydicom import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MammographyCADSRStorage,
)

from dicomnode.reading.findings import StudyAnalysis
from dicomnode.results import codes, content
from dicomnode.results.document import evidence, stand_ins
from dicomnode.results.identity import NOT_FOR_CLINICAL_USE, patient_and_study, referenced_requests, run_uid, stamp
from dicomnode.results.options import Options
from dicomnode.results.report import observer

SERIES_NUMBER = 8006
_NO_IMAGES = frozenset((Comprehensive3DSRStorage, MammographyCADSRStorage, GrayscaleSoftcopyPresentationStateStorage))


def build_rejection_note(study: StudyAnalysis, source: Dataset, options: Options) -> Dataset | None:
    """The note about `options.rejected`, None where there is nothing to reject. source: as for the report."""
    if study.failure or not options.rejected:
        return None
    dataset = patient_and_study(source)
    # Destinations were sent different objects, so their notes differ, and the objects that they name tell them apart.
    role = ["ko", *sorted(item.sop_instance_uid for item in options.rejected)]
    stamp(dataset, study, KeyObjectSelectionDocumentStorage, "/".join(role))
    dataset.Modality = "KO"
    dataset.SeriesInstanceUID = run_uid(study.run, "series", *role)
    dataset.SeriesNumber = SERIES_NUMBER
    dataset.InstanceNumber = 1
    dataset.ReferencedPerformedProcedureStepSequence = []
    requests = referenced_requests(source)
    if requests:
        dataset.ReferencedRequestSequence = requests
    headers = stand_ins(options.rejected, dataset)
    dataset.CurrentRequestedProcedureEvidenceSequence = evidence(headers)
    words = f"Results of an earlier run, replaced by those of this one. {NOT_FOR_CLINICAL_USE}"
    children = [
        *observer(study.engine),
        content.text("CONTAINS", codes.KEY_OBJECT_DESCRIPTION, words),
        *sorted(map(_item, headers), key=lambda item: str(item.ValueType), reverse=True),  # images come first
    ]
    dataset.update(content.container(None, codes.REJECTED, children, template="2010"))
    return dataset


def _item(header: Dataset) -> Dataset:
    refer = content.composite if header.SOPClassUID in _NO_IMAGES else content.image
    return refer("CONTAINS", header)
