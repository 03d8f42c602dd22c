"""Reports about regions in volumes, read back."""

from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset

from dicomnode.reading.findings import ResultKind, StudyAnalysis
from dicomnode.results.regions import track_regions
from dicomnode.results.volume_report import region_sentence
from dicomnode.results.wording import verdict
from tests.support.phantom_ct import chest, grid, series
from tests.support.volumes import analyse, ct_lung, objects


@pytest.fixture(scope="module")
def lungs(tmp_path_factory: pytest.TempPathFactory) -> StudyAnalysis:
    """The shipped model on a chest of known size."""
    where = grid()
    return analyse(series(where, chest(where)), tmp_path_factory.mktemp("chest"), ct_lung())


def content(dataset: Dataset, meaning: str) -> list[Dataset]:
    """All content items of that concept name, in any depth."""
    found = []
    for item in dataset.get("ContentSequence", []):
        name = item.get("ConceptNameCodeSequence")
        found += [item] if name and name[0].CodeMeaning == meaning else []
        found += content(item, meaning)
    return found


def test_both_lungs_are_measured(lungs: StudyAnalysis) -> None:
    """Volume and longest diameter of the ellipsoids to the size of a voxel, density exactly."""
    (report,) = objects(lungs, ResultKind.REPORT)
    volumes = [float(item.MeasuredValueSequence[0].NumericValue) for item in content(report, "Volume")]
    assert volumes == pytest.approx([4 / 3 * np.pi * 40 * 50 * 70, 4 / 3 * np.pi * 40 * 50 * 60], rel=0.02)
    diameters = [float(item.MeasuredValueSequence[0].NumericValue) for item in content(report, "Long Axis")]
    assert diameters == pytest.approx([140, 120], abs=8)
    densities = [
        (item.ContentSequence[0].ConceptCodeSequence[0].CodeMeaning, float(item.MeasuredValueSequence[0].NumericValue))
        for item in content(report, "Attenuation Coefficient")
    ]
    assert densities == [("Mean", -850), ("Standard Deviation", 0), ("Mean", -830), ("Standard Deviation", 0)]


def test_highdicom_reads_the_groups(lungs: StudyAnalysis) -> None:
    """Another reader finds volumetric groups whose segments are those of the segmentation, by number and by UID."""
    (report,), (segmentation,) = (objects(lungs, kind) for kind in (ResultKind.REPORT, ResultKind.SEGMENTATION))
    groups = hd.sr.Comprehensive3DSR.from_dataset(report).content.get_volumetric_roi_measurement_groups()
    segments = {int(item.SegmentNumber): item for item in segmentation.SegmentSequence}
    assert len(groups) == len(segments) == 2
    for group in groups:
        referenced = group.referenced_segment
        assert referenced.referenced_sop_instance_uid == segmentation.SOPInstanceUID
        (number,) = referenced.referenced_segment_numbers
        assert segments[number].TrackingUID == group.tracking_uid
        assert segments[number].TrackingID == group.tracking_identifier
        assert segments[number].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == group.finding_type.meaning == "Lung"
        assert segments[number].SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Anatomical Structure"


def test_the_evidence_has_every_slice_and_the_segmentation(lungs: StudyAnalysis) -> None:
    """Whatever the report refers to stands in its evidence, with the series that it is in (PS3.3 C.17.2)."""
    (report,), (segmentation,) = (objects(lungs, kind) for kind in (ResultKind.REPORT, ResultKind.SEGMENTATION))
    evidence = {
        instance.ReferencedSOPInstanceUID: of_series.SeriesInstanceUID
        for of_study in report.CurrentRequestedProcedureEvidenceSequence
        for of_series in of_study.ReferencedSeriesSequence
        for instance in of_series.ReferencedSOPSequence
    }
    slices = lungs.volumes[0].stack.headers
    assert evidence == {
        **{header.SOPInstanceUID: header.SeriesInstanceUID for header in slices},
        segmentation.SOPInstanceUID: segmentation.SeriesInstanceUID,
    }
    (source, _) = content(report, "Source series for segmentation")
    assert slices[0].SeriesInstanceUID == source.UID


def test_the_image_library_says_where_each_slice_lies(lungs: StudyAnalysis) -> None:
    """Position and orientation of every slice, and the frame of reference that they are in."""
    (report,) = objects(lungs, ResultKind.REPORT)
    slices = lungs.volumes[0].stack.headers
    for letter, index in (("X", 0), ("Y", 1), ("Z", 2)):
        said = [
            float(item.MeasuredValueSequence[0].NumericValue)
            for item in content(report, f"Image Position (Patient) {letter}")
        ]
        assert said == pytest.approx([header.ImagePositionPatient[index] for header in slices])
    for part, start in (("Row", 0), ("Column", 3)):
        items = content(report, f"Image Orientation (Patient) {part} X")
        assert [float(item.MeasuredValueSequence[0].NumericValue) for item in items] == [1 - start / 3] * len(slices)
    assert {item.UID for item in content(report, "Frame of Reference UID")} == {slices[0].FrameOfReferenceUID}


def test_the_outcome_in_words(lungs: StudyAnalysis) -> None:
    """Regions in series, each in a line with its sizes, and that nobody judged them."""
    outcome = verdict(lungs)
    assert outcome.code.value == "111242"
    assert outcome.sentence == "2 regions in 1 of 1 analysed series."
    assert outcome.remarks[0] == (
        "Regions are outlined and measured by a fixed rule. Whether they are normal is not judged."
    )
    sentences = [region_sentence(region) for region in track_regions(lungs)]
    assert sentences[0] == "Region 1 (series 3): Lung, 582.4 ml, longest 142.5 mm, mean -850 HU."


def test_a_score_is_told_where_there_is_one(lungs: StudyAnalysis) -> None:
    """An engine that judges has its score in the report, as detectors of images do."""
    (volume,) = lungs.volumes
    scored = replace(lungs, volumes=(replace(volume, regions=(replace(volume.regions[0], score=0.75),)),))
    (report,) = objects(scored, ResultKind.REPORT)
    (certainty,) = content(report, "Certainty of Finding")
    assert float(certainty.MeasuredValueSequence[0].NumericValue) == 75
    assert "Lung, detection score 75 %, 582.4 ml" in report.to_json()
    assert "not calibrated probabilities" in report.to_json()


def test_no_region_is_a_report_and_no_segmentation(tmp_path: Path) -> None:
    """The whole study group refers to the slices that were looked at."""
    where = grid(shape=(6, 20, 20))
    study = analyse(series(where, np.full(where.shape, 40, dtype=np.int16)), tmp_path, ct_lung())
    assert objects(study, ResultKind.SEGMENTATION) == []
    (report,) = objects(study, ResultKind.REPORT)
    assert verdict(study).code.value == "111241"
    assert verdict(study).sentence == "No region in 1 analysed series."
    assert len(content(report, "Source of Measurement")) == 6


def test_a_series_that_is_no_volume_is_one_line(tmp_path: Path) -> None:
    """Hundreds of slices with the same reason are told once, and the study is no negative."""
    where = grid(shape=(9, 20, 20))
    images = series(where, np.full(where.shape, 40, dtype=np.int16))
    del images[4]
    study = analyse(images, tmp_path, ct_lung())
    outcome = verdict(study)
    assert outcome.code.value == "111245"
    reason = "Slices are missing inside this series: 1 of 9, by their positions."
    assert f"Could not be processed: series 3, 8 images. {reason}" in outcome.remarks
    (report,) = objects(study, ResultKind.REPORT)
    assert report.to_json().count(reason) == 1


def test_beside_a_sound_series_a_broken_one_makes_the_result_incomplete(tmp_path: Path) -> None:
    """A localizer, left out by rule, does not."""
    where = grid(shape=(8, 24, 24))
    sound = series(where, np.full(where.shape, 40, dtype=np.int16))
    study_uid = sound[0].StudyInstanceUID
    localizer = series(where, np.full(where.shape, 40, dtype=np.int16), study_uid)[:1]
    localizer[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    complete = verdict(analyse([*sound, *localizer], tmp_path / "complete", ct_lung()))
    assert complete.code.value == "111241"
    assert any("Localizer images are not analysed." in remark for remark in complete.remarks)
    single = series(where, np.full(where.shape, 40, dtype=np.int16), study_uid)[:1]
    incomplete = verdict(analyse([*sound, *single], tmp_path / "incomplete", ct_lung()))
    assert incomplete.code.value == "111243"
    assert incomplete.sentence.endswith("The result is incomplete and not a negative one.")
