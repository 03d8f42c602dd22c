"""Which images of a study are analysed: one small rule after the other, and the first that objects is the reason."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pydicom import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    BreastTomosynthesisImageStorage,
    DigitalMammographyXRayImageStorageForProcessing,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    ParametricMapStorage,
    SegmentationStorage,
    SurfaceSegmentationStorage,
)

from dicomnode.attributes import flag, number, text, texts
from dicomnode.images.mammography import is_digitised_film, is_mammogram, read_view, read_view_modifiers
from dicomnode.reading.study_rules import (
    are_of_several_patients,
    earlier_repeats,
    has_presentation_twin,
    rejected_by_note,
)

MAGNIFIED = 1.25  # contact views are estimated at up to about 1.1, magnification stands give 1.5 to 2
RAW = "The image is raw data for processing"
REPEATED = "The same view was taken again later, and only the last is analysed."
SEVERAL_PATIENTS = "The images of this study name several patients, and nobody can tell here whose it is."
_LOSSY = frozenset((JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K))
_LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"  # younger than some dictionaries
_MAPS = frozenset((SegmentationStorage, SurfaceSegmentationStorage, ParametricMapStorage, _LABEL_MAP))


@dataclass(frozen=True, slots=True)
class SelectionPolicy:
    """What a model may be given. modalities: of the images that its package was made for."""

    accept_digitised_film: bool = False
    accept_lossy: bool = True
    modalities: tuple[str, ...] = ("MG",)
    accept_implants: bool = False
    accept_partial_views: bool = True
    accept_repeats: bool = True
    accept_synthetic_2d: bool = True


@dataclass(frozen=True, slots=True)
class Exclusion:
    """An image that is not analysed. rule: name of the rule; reason: one plain sentence for the report."""

    header: Dataset
    rule: str
    reason: str


Rule = Callable[[Dataset, SelectionPolicy], str]


def select(headers: Sequence[Dataset], policy: SelectionPolicy) -> tuple[list[Dataset], list[Exclusion]]:
    """Headers of the images to analyse, and the others with the reason; both in the order given."""
    rejected = rejected_by_note(headers)
    found: dict[int, Exclusion] = {}
    for header in headers:
        reason = rejected.get(text(header, "SOPInstanceUID"), "")
        exclusion = Exclusion(header, "rejected_by_note", reason) if reason else _first_objection(header, policy)
        if exclusion is not None:
            found[id(header)] = exclusion
    chosen = [header for header in headers if id(header) not in found]
    if not policy.accept_repeats:
        found |= {id(header): Exclusion(header, "earlier_repeat", REPEATED) for header in earlier_repeats(chosen)}
        chosen = [header for header in chosen if id(header) not in found]
    if are_of_several_patients(chosen):  # one image of somebody else's would be reported as this patient's
        found |= {id(header): Exclusion(header, "several_patients", SEVERAL_PATIENTS) for header in chosen}
        chosen = []
    excluded = [_with_its_twin(found[id(header)], chosen) for header in headers if id(header) in found]
    return chosen, excluded


def _with_its_twin(exclusion: Exclusion, chosen: Sequence[Dataset]) -> Exclusion:
    """Raw data is no loss to the reader where the image made from it is analysed."""
    if exclusion.rule != for_processing.__name__ or not has_presentation_twin(exclusion.header, chosen):
        return exclusion
    return replace(exclusion, reason=f"{RAW}; the image for presentation made from it is taken instead.")


def _first_objection(header: Dataset, policy: SelectionPolicy) -> Exclusion | None:
    breast = is_breast_image(header)
    rules = (*RULES, *(MAMMOGRAPHY_RULES if breast else ()), *PIXEL_RULES, *(VIEW_RULES if breast else ()))
    for rule in rules:
        reason = rule(header, policy)
        if reason:
            return Exclusion(header, rule.__name__, reason)
    return None


def is_breast_image(header: Dataset) -> bool:
    """Whether it shows a breast by X-rays, on whatever kind of object."""
    return is_mammogram(header) or flag(header, "Modality") == "MG"


def is_image(header: Dataset) -> bool:
    """Whether the object holds a picture of the patient, unlike a report, a presentation state or a segmentation."""
    return bool(number(header, "Rows")) and flag(header, "SOPClassUID") not in _MAPS


def not_an_image(header: Dataset, _policy: SelectionPolicy) -> str:
    """Reports, presentation states, raw data, segmentations: the node's own results too, when they come back."""
    return "" if is_image(header) else "This object is not an image."


def other_modality(header: Dataset, policy: SelectionPolicy) -> str:
    """For mammograms the SOP class counts, for all else Modality."""
    modality = "MG" if is_mammogram(header) else flag(header, "Modality")
    if modality in policy.modalities:
        return ""
    return f"Images of modality {modality or 'unknown'} are not analysed."


def several_frames(header: Dataset, _policy: SelectionPolicy) -> str:
    """Multi-frame images need findings that name their frame."""
    return "Images with more than one frame are not analysed." if (number(header, "NumberOfFrames") or 1) > 1 else ""


def localizer(header: Dataset, _policy: SelectionPolicy) -> str:
    """A scout image of CT, MR or PET, by value 3 of Image Type (PS3.3 C.8.2.1.1.1)."""
    is_localizer = "LOCALIZER" in (value.upper() for value in texts(header, "ImageType")[2:])
    return "Localizer images are not analysed." if is_localizer else ""


def not_greyscale(header: Dataset, _policy: SelectionPolicy) -> str:
    """Colour means a screen copy or a printed summary."""
    return "Colour images are not analysed." if (number(header, "SamplesPerPixel") or 1) > 1 else ""


def burned_in_annotation(header: Dataset, _policy: SelectionPolicy) -> str:
    """Marks in the pixels look like findings."""
    return "The image has annotations burned in." if flag(header, "BurnedInAnnotation") == "YES" else ""


def lossy_pixels(header: Dataset, policy: SelectionPolicy) -> str:
    """Lossy now, or once upon a time; the flag may never be taken back (PS3.3 C.7.6.1.1.5)."""
    meta = getattr(header, "file_meta", None)
    now = meta is not None and flag(meta, "TransferSyntaxUID") in _LOSSY
    if policy.accept_lossy or not (now or flag(header, "LossyImageCompression") == "01"):
        return ""
    return "The image was compressed with loss, and the model was not validated on such images."


def for_processing(header: Dataset, _policy: SelectionPolicy) -> str:
    """Raw detector values need a model of their own; the presentation twin is analysed."""
    if flag(header, "SOPClassUID") != DigitalMammographyXRayImageStorageForProcessing:
        return ""
    return f"{RAW}; only images for presentation are analysed."


def contradicting_intent(header: Dataset, _policy: SelectionPolicy) -> str:
    """The SOP class says for presentation and the intent says for processing: a window would be applied to raw data."""
    if flag(header, "PresentationIntentType") != "FOR PROCESSING":
        return ""
    return "The image says both that it is for presentation and that it is raw data for processing."


def synthetic_2d(header: Dataset, policy: SelectionPolicy) -> str:
    """A single image computed from tomosynthesis, told by its image type (PS3.3 C.8.11.7.1.4)."""
    if policy.accept_synthetic_2d or "GENERATED_2D" not in texts(header, "ImageType"):
        return ""
    return "The image was computed from tomosynthesis, which this node is not configured to analyse."


def tomosynthesis(header: Dataset, _policy: SelectionPolicy) -> str:
    """A tomosynthesis object, even with one frame, keeps its geometry in functional groups."""
    if flag(header, "SOPClassUID") != BreastTomosynthesisImageStorage:
        return ""
    return "Tomosynthesis images are not analysed."


def digitised_film(header: Dataset, policy: SelectionPolicy) -> str:
    """Scanned film is let in by explicit configuration only."""
    if policy.accept_digitised_film or not is_digitised_film(header):
        return ""
    return "The image is digitised film or a secondary capture, which this node is not configured to analyse."


def other_kind_of_mammogram(header: Dataset, _policy: SelectionPolicy) -> str:
    """Modality MG on a SOP class that is no mammogram, for instance computed radiography."""
    if is_mammogram(header) or is_digitised_film(header):
        return ""
    return "The image is not a digital mammogram for presentation."


def quality_control(header: Dataset, _policy: SelectionPolicy) -> str:
    """Phantoms."""
    return "The image is a quality control image." if flag(header, "QualityControlImage") == "YES" else ""


def specimen(header: Dataset, _policy: SelectionPolicy) -> str:
    """Excised tissue."""
    return "The image shows a specimen." if read_view(header) == "SPECIMEN" else ""


def magnification_view(header: Dataset, _policy: SelectionPolicy) -> str:
    """Said by the view modifier or seen from the magnification factor."""
    factor = number(header, "EstimatedRadiographicMagnificationFactor") or 1.0
    magnified = "magnification" in read_view_modifiers(header) or factor > MAGNIFIED
    return "Magnification views are not analysed." if magnified else ""


def spot_compression_view(header: Dataset, _policy: SelectionPolicy) -> str:
    """Only a part of the breast, pressed flat."""
    return "Spot compression views are not analysed." if "spot compression" in read_view_modifiers(header) else ""


def implant(header: Dataset, policy: SelectionPolicy) -> str:
    """Breasts with implants, displaced or not, unless the model was made for them."""
    present = flag(header, "BreastImplantPresent") == "YES" or "implant displaced" in read_view_modifiers(header)
    return "Breasts with implants are not analysed." if present and not policy.accept_implants else ""


def partial_view(header: Dataset, policy: SelectionPolicy) -> str:
    """One of several exposures of a breast too large for the detector."""
    if policy.accept_partial_views or flag(header, "PartialView") != "YES":
        return ""
    return "Partial views are not analysed."


# In order: what it is, then how it is made, then what it shows. The order decides which reason is told.
RULES: tuple[Rule, ...] = (not_an_image, other_modality)
MAMMOGRAPHY_RULES: tuple[Rule, ...] = (
    for_processing,
    contradicting_intent,
    tomosynthesis,
    synthetic_2d,
    digitised_film,
    other_kind_of_mammogram,
)
PIXEL_RULES: tuple[Rule, ...] = (several_frames, localizer, not_greyscale, burned_in_annotation, lossy_pixels)
VIEW_RULES: tuple[Rule, ...] = (
    quality_control,
    specimen,
    magnification_view,
    spot_compression_view,
    implant,
    partial_view,
)
