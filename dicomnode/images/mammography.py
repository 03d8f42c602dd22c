"""Laterality and view of a mammogram. Codes: PS3.16 CID 4014 and CID 4015, SCT and the retired SRT and SNM3."""

from typing import Literal

from pydicom import Dataset
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from dicomnode.attributes import codes, flag, items, texts

Laterality = Literal["L", "R"]

_MAMMOGRAMS = (DigitalMammographyXRayImageStorageForPresentation, DigitalMammographyXRayImageStorageForProcessing)

VIEW_OF_CODE = {
    "399162004": "CC",
    "R-10242": "CC",
    "399368009": "MLO",
    "R-10226": "MLO",
    "399260004": "ML",
    "R-10224": "ML",
    "399352003": "LM",
    "R-10228": "LM",
    "399099002": "LMO",
    "R-10230": "LMO",
    "399196006": "FB",
    "R-10244": "FB",
    "399188001": "SIO",
    "R-102D0": "SIO",
    "441555000": "ISO",
    "R-40AAA": "ISO",
    "399192008": "XCCL",
    "R-1024A": "XCCL",
    "399101009": "XCCM",
    "R-1024B": "XCCM",
    "399265009": "XCC",
    "R-102CF": "XCC",
    "127457009": "SPECIMEN",
    "G-8310": "SPECIMEN",
}
VIEW_POSITIONS = frozenset(("CC", "MLO", "ML", "LM", "LMO", "FB", "SIO", "ISO", "XCC", "XCCL", "XCCM"))  # C.8.11.7

MODIFIER_OF_CODE = {
    "399163009": "magnification",
    "R-102D6": "magnification",
    "399055006": "spot compression",
    "R-102D7": "spot compression",
    "399209000": "implant displaced",
    "R-102D5": "implant displaced",
    "399161006": "cleavage",
    "R-102D2": "cleavage",
    "399011000": "axillary tail",
    "R-102D1": "axillary tail",
}


def is_mammogram(header: Dataset) -> bool:
    """Whether the SOP class says mammogram; Modality alone does not."""
    return flag(header, "SOPClassUID") in _MAMMOGRAMS


def is_digitised_film(header: Dataset) -> bool:
    """Whether this is a scanned film mammogram: Secondary Capture with Modality MG, as in CBIS-DDSM."""
    return flag(header, "SOPClassUID") == SecondaryCaptureImageStorage and flag(header, "Modality") == "MG"


def read_laterality(header: Dataset) -> Laterality | None:
    """Side of the breast, None where the file does not say: Image Laterality, Frame Laterality, then Laterality."""
    for value in (flag(header, "ImageLaterality"), *_frame_lateralities(header), flag(header, "Laterality")):
        if value == "L":
            return "L"
        if value == "R":
            return "R"
        if value:
            return None
    return None


def _frame_lateralities(header: Dataset) -> list[str]:
    return [
        flag(anatomy, "FrameLaterality")
        for group in items(header, "SharedFunctionalGroupsSequence")
        for anatomy in items(group, "FrameAnatomySequence")
    ]


def read_view(header: Dataset) -> str | None:
    """View as "CC", "MLO" and so on: View Code Sequence, then View Position; None where the file does not say.

    Digitised film of CBIS-DDSM carries it in Patient Orientation, where nothing of the kind belongs.
    """
    for code in codes(header, "ViewCodeSequence"):
        if code in VIEW_OF_CODE:
            return VIEW_OF_CODE[code]
    position = flag(header, "ViewPosition")
    if position in VIEW_POSITIONS:
        return position
    if is_digitised_film(header):
        orientation = flag(header, "PatientOrientation")
        return orientation if orientation in {"CC", "MLO"} else None
    return None


def read_view_modifiers(header: Dataset) -> frozenset[str]:
    """Known view modifiers of CID 4015."""
    found = [code for view in items(header, "ViewCodeSequence") for code in codes(view, "ViewModifierCodeSequence")]
    return frozenset(MODIFIER_OF_CODE[code] for code in found if code in MODIFIER_OF_CODE)


def read_patient_orientation(header: Dataset) -> tuple[str, str] | None:
    """Direction of the rows and of the columns (PS3.3 C.7.6.1.1.1), None where it is not a proper one."""
    values = tuple(value.upper() for value in texts(header, "PatientOrientation"))
    if len(values) != 2 or not all(value and set(value) <= set("APRLHF") for value in values):  # noqa: PLR2004  a pair
        return None
    return values[0], values[1]
