"""Rules over a whole study: rejection notes, repeats, and raw data beside the image made from it."""

from collections.abc import Sequence

import pytest
from pydicom import Dataset
from pydicom.uid import DigitalMammographyXRayImageStorageForProcessing, KeyObjectSelectionDocumentStorage

from dicomnode.reading.selection import SelectionPolicy, select
from tests.dicomnode.results.samples import digital_header, four_views

LAST_ONLY = SelectionPolicy(accept_repeats=False)


def code(value: str) -> Dataset:
    """A DCM code."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", "meaning"
    return item


def note(title: str, rejected: Sequence[Dataset]) -> Dataset:
    """A Key Object Selection over some images."""
    header = Dataset()
    header.SOPClassUID = KeyObjectSelectionDocumentStorage
    header.SOPInstanceUID = "1.2.9"
    header.Modality = "KO"
    header.ConceptNameCodeSequence = [code(title)]
    study, series = Dataset(), Dataset()
    series.ReferencedSOPSequence = []
    for image in rejected:
        reference = Dataset()
        reference.ReferencedSOPInstanceUID = image.SOPInstanceUID
        series.ReferencedSOPSequence.append(reference)
    study.ReferencedSeriesSequence = [series]
    header.CurrentRequestedProcedureEvidenceSequence = [study]
    return header


def taken(number: int, time: str, **attributes: object) -> Dataset:
    """A left MLO of a certain time."""
    header = digital_header(number=number)
    header.AcquisitionDate, header.AcquisitionTime = "20261101", time
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    return header


def rules(headers: Sequence[Dataset], policy: SelectionPolicy = LAST_ONLY) -> dict[str, str]:
    """Rule by SOP Instance UID of what is excluded."""
    return {str(item.header.SOPInstanceUID): item.rule for item in select(headers, policy)[1]}


@pytest.mark.parametrize(
    ("title", "words"),
    [("113001", "quality"), ("113037", "patient safety"), ("113038", "worklist"), ("113039", "retention")],
)
def test_what_a_rejection_note_names_is_not_analysed(title: str, words: str) -> None:
    """The technologist threw it away; it is still in the study."""
    views = four_views()
    chosen, excluded = select([*views, note(title, views[1:2])], SelectionPolicy())
    assert chosen == [views[0], *views[2:]]
    assert excluded[0].rule == "rejected_by_note"
    assert words in excluded[0].reason
    assert excluded[1].rule == "not_an_image"


def test_other_key_objects_reject_nothing() -> None:
    """A note for the referring provider (113002) is praise."""
    views = four_views()
    assert select([*views, note("113002", views)], SelectionPolicy())[0] == views


def test_repeats_are_all_analysed_unless_policy_says_no() -> None:
    """Two exposures of a view are two chances to see."""
    first, second = taken(1, "101500"), taken(2, "101900")
    assert rules([second, first], SelectionPolicy()) == {}
    assert rules([second, first]) == {first.SOPInstanceUID: "earlier_repeat"}


def test_the_order_of_repeats_without_times_is_the_instance_number() -> None:
    """Content Date and Time, then Instance Number, where a device writes no Acquisition Time."""
    first, second = digital_header(number=1), digital_header(number=2)
    assert rules([first, second]) == {first.SOPInstanceUID: "earlier_repeat"}


def test_other_views_and_partial_views_are_no_repeats() -> None:
    """Parts of a large breast, another side, another modifier or an unknown view."""
    axillary = taken(5, "101800")
    axillary.ViewCodeSequence[0].ViewModifierCodeSequence = [code("399011000")]
    unknown = [taken(number, "101900", ImageLaterality="") for number in (6, 7)]
    parts = [taken(number, "101500", PartialView="YES") for number in (8, 9)]
    assert rules([*four_views(), axillary, *unknown, *parts]) == {}


@pytest.mark.parametrize("linked", [True, False])
def test_raw_data_is_no_loss_beside_its_presentation(linked: bool) -> None:
    """The reason says so, whether the image names its source or is the same view of the same side."""
    raw, image = digital_header("L", "MLO", 1), digital_header("L", "CC" if linked else "MLO", 2)
    raw.SOPClassUID = DigitalMammographyXRayImageStorageForProcessing
    if linked:
        source = Dataset()
        source.ReferencedSOPInstanceUID = raw.SOPInstanceUID
        image.SourceImageSequence = [source]
    _, (exclusion,) = select([raw, image], SelectionPolicy())
    assert exclusion.rule == "for_processing"
    assert exclusion.reason.endswith("the image for presentation made from it is taken instead.")


def test_raw_data_alone_is_a_loss() -> None:
    """A study of raw data only, or with another view, says that nothing was seen of it."""
    raw, other = digital_header("L", "MLO", 1), digital_header("R", "MLO", 2)
    raw.SOPClassUID = DigitalMammographyXRayImageStorageForProcessing
    _, (exclusion,) = select([raw, other], SelectionPolicy())
    assert exclusion.reason.endswith("only images for presentation are analysed.")
