"""Rules that need the whole study: rejection notes, whose it is, repeats, and the two forms of one exposure."""

from collections.abc import Mapping, Sequence

from pydicom import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from dicomnode.attributes import codes, flag, items, number, referenced_instances, text
from dicomnode.images.mammography import read_laterality, read_view, read_view_modifiers

REJECTION_NOTES: Mapping[str, str] = {  # PS3.16 CID 7011, IHE Imaging Object Change Management
    "113001": "for quality reasons",
    "113037": "for patient safety reasons",
    "113038": "for an incorrect worklist entry",
    "113039": "because its retention has expired",
}

EVIDENCE = "CurrentRequestedProcedureEvidenceSequence"

_View = tuple[str, str, frozenset[str]]


def rejected_by_note(headers: Sequence[Dataset]) -> dict[str, str]:
    """Reason by SOP Instance UID of what a Key Object Selection in the study says is rejected."""
    reasons: dict[str, str] = {}
    for note in headers:
        if flag(note, "SOPClassUID") != KeyObjectSelectionDocumentStorage:
            continue
        for title in codes(note, "ConceptNameCodeSequence"):
            if title in REJECTION_NOTES:
                reason = f"The image was rejected {REJECTION_NOTES[title]}."
                reasons |= dict.fromkeys(referenced_instances(note, EVIDENCE), reason)
    return reasons


def are_of_several_patients(headers: Sequence[Dataset]) -> bool:
    """Whether two of them name other patient IDs, or other dates of birth; what is not said contradicts nothing."""
    return any(
        len({text(header, keyword) for header in headers} - {""}) > 1 for keyword in ("PatientID", "PatientBirthDate")
    )


def earlier_repeats(chosen: Sequence[Dataset]) -> list[Dataset]:
    """Images whose view of the same side was taken again later; partial views complement and do not repeat."""
    by_view: dict[_View, list[Dataset]] = {}
    for header in chosen:
        view = _view_of(header)
        if view is not None and flag(header, "PartialView") != "YES":
            by_view.setdefault(view, []).append(header)
    return [header for same in by_view.values() for header in sorted(same, key=_taken)[:-1]]


def _view_of(header: Dataset) -> _View | None:
    laterality, view = read_laterality(header), read_view(header)
    return (laterality, view, read_view_modifiers(header)) if laterality and view else None


def _taken(header: Dataset) -> tuple[str, str, float]:
    date = text(header, "AcquisitionDate") or text(header, "ContentDate")
    time = text(header, "AcquisitionTime") or text(header, "ContentTime")
    return date, time, number(header, "InstanceNumber") or 0.0


def has_presentation_twin(raw: Dataset, chosen: Sequence[Dataset]) -> bool:
    """Whether an image to analyse was made from this raw one: it says so, or shows the same view of the same side."""
    uid, view = text(raw, "SOPInstanceUID"), _view_of(raw)
    return any(
        uid in [text(source, "ReferencedSOPInstanceUID") for source in items(header, "SourceImageSequence")]
        or (view is not None and _view_of(header) == view)
        for header in chosen
    )
