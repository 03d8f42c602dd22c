"""What images are called: as a radiologist does, and never two alike."""

from dataclasses import replace

from pydicom import Dataset

from dicomnode.reading.findings import Remark, ResultKind
from dicomnode.results.build import build_results
from dicomnode.results.naming import image_name, names_of
from dicomnode.results.tracking import track
from tests.dicomnode.results.samples import digital_header, disc_detection, film_header, run_over


def test_names_of_images() -> None:
    """Side and view, else the numbers in the study, else the UID."""
    assert image_name(digital_header("R", "MLO")) == "right MLO"
    assert image_name(film_header("L", "CC")) == "left CC"
    header = Dataset()
    header.SOPInstanceUID = "1.2.3"
    assert image_name(header) == "instance 1.2.3"
    header.SeriesNumber, header.InstanceNumber = 2, 5
    assert image_name(header) == "series 2 image 5"


def test_what_is_not_known_of_a_breast_is_part_of_its_name() -> None:
    """A finding without a side, or on an unknown view, is not read as if it had one."""
    sideless, viewless = digital_header("L", "MLO"), digital_header("L", "MLO")
    del sideless.ImageLaterality, viewless.ViewCodeSequence
    assert (image_name(sideless), image_name(viewless)) == ("MLO, side unknown", "left, view unknown")
    viewless.Modality, viewless.SOPClassUID = "DX", "1.2.840.10008.5.1.4.1.1.1.1"
    assert image_name(viewless) == "left"


def test_a_view_that_there_is_twice_is_told_apart() -> None:
    """By its numbers, else by its UID; what is there once keeps its short name."""
    first, again, third, other = (digital_header("R", "CC", number) for number in (1, 2, 3, 4))
    other.ImageLaterality = "L"
    assert names_of([first, again, other]) == {
        first.SOPInstanceUID: "right CC, series 1 image 1",
        again.SOPInstanceUID: "right CC, series 1 image 2",
        other.SOPInstanceUID: "left CC",
    }
    again.InstanceNumber = 1
    del third.InstanceNumber
    assert list(names_of([first, again, third]).values()) == [
        "right CC, instance 1.2.3.4.5.1",
        "right CC, instance 1.2.3.4.5.2",
        "right CC, instance 1.2.3.4.5.3",
    ]


def test_a_finding_names_the_image_that_it_is_on() -> None:
    """Of two right CC views a reader must know which shows it; a name that is used once stays short."""
    found = [disc_detection()]
    views = [(digital_header("R", "CC", number), found) for number in (1, 2)] + [(digital_header("R", "MLO", 3), found)]
    assert [finding.identifier for finding in track(run_over(views))] == [
        "Finding 1 (right CC, series 1 image 1)",
        "Finding 2 (right CC, series 1 image 2)",
        "Finding 3 (right MLO)",
    ]


def test_a_side_in_doubt_is_told_wherever_the_side_is() -> None:
    """Who reads only the finding's line, the outline's label or the list of series, reads that too."""
    study = run_over(
        [(digital_header("L", view, number), [disc_detection()]) for number, view in enumerate(("CC", "MLO"))]
    )
    doubt = Remark("mirrored_pixels", "Its side may be wrong.", doubts_side=True)
    study = replace(study, analysed=(replace(study.analysed[0], remarks=(doubt,)), study.analysed[1]))
    assert [finding.identifier for finding in track(study)] == [
        "Finding 1 (left CC, side in doubt)",
        "Finding 2 (left MLO)",
    ]
    first = build_results(study, frozenset({ResultKind.SEGMENTATION}))[0].dataset
    assert first.SegmentSequence[0].SegmentLabel == "Finding 1 (left CC, side in doubt)"
    assert first.SeriesDescription.startswith("left CC, side in doubt, ")
