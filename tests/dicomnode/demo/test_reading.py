"""The demo reads back from the returned objects what the run had found."""

from pathlib import Path

import numpy as np
import pytest

from dicomnode.demo.reading import read_analysed, read_findings, read_summary
from dicomnode.reading.findings import ResultKind, StudyAnalysis
from dicomnode.results.build import build_results, encode
from dicomnode.results.segmentation import paint
from tests.dicomnode.results.samples import forms


def _write(study: StudyAnalysis, folder: Path) -> list[Path]:
    paths = []
    for number, result in enumerate(build_results(study, frozenset(ResultKind))):
        path = folder / f"{number}.dcm"
        path.write_bytes(encode(result.dataset))
        paths.append(path)
    return paths


@pytest.mark.parametrize("name", ["finding", "several", "film", "partial"])
def test_boxes_scores_and_outlines_come_back(tmp_path: Path, name: str) -> None:
    """Every finding of the run is read back on its image, with its box, its score and its outline."""
    study = forms()[name]
    found = {finding.box: finding for finding in read_findings(_write(study, tmp_path))}
    expected = [(image, detection) for image in study.analysed for detection in image.detections]
    assert len(found) == len(expected)
    for image, detection in expected:
        finding = found[detection.box]
        assert finding.sop_instance_uid == image.source.header.SOPInstanceUID
        assert finding.score == pytest.approx(detection.score, abs=1e-4)
        assert finding.label == "Mass"
        if detection.mask is None:
            assert finding.outline is None
            continue
        plane = np.zeros(image.source.pixels.shape, np.uint8)
        paint(plane, detection.mask)
        assert finding.outline is not None
        assert np.array_equal(finding.outline, plane.astype(bool))


def test_the_best_finding_comes_first(tmp_path: Path) -> None:
    """The table of the demo is ordered by score."""
    scores = [finding.score for finding in read_findings(_write(forms()["several"], tmp_path))]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 4


@pytest.mark.parametrize(("name", "words"), [("none", "No candidate finding"), ("failed", "could not be processed")])
def test_a_report_without_findings_is_quoted(tmp_path: Path, name: str, words: str) -> None:
    """Where nothing was found, or nothing could be looked at, the report's own sentence is shown."""
    paths = _write(forms()[name], tmp_path)
    assert read_findings(paths) == []
    assert words in read_summary(paths[0])


@pytest.mark.parametrize(("name", "number"), [("none", 4), ("partial", 2), ("failed", 0)])
def test_which_views_were_analysed_comes_back(tmp_path: Path, name: str, number: int) -> None:
    """The pictures call the others so, and never negative."""
    study = forms()[name]
    analysed = {str(image.source.header.SOPInstanceUID) for image in study.analysed}
    assert read_analysed(_write(study, tmp_path)) == analysed
    assert len(analysed) == number
