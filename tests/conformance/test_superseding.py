"""The rejection note, and a report that names its predecessor, through the validators of other people."""

from pathlib import Path

import pytest
from pydicom import dcmread

from dicomnode.findings import ResultKind
from dicomnode.results.build import build_results, encode
from dicomnode.results.options import Options
from dicomnode.results.succession import follow, identity_of, read_report
from tests.dicomnode.results.samples import disc_detection, four_views, run_over
from tests.support.validators import complaints

VIEWS = four_views()


def write_second_run(folder: Path) -> dict[str, Path]:
    """Report and note of a run over late images, by kind."""
    first = [item.dataset for item in build_results(run_over([(VIEWS[3], [disc_detection()])]), frozenset(ResultKind))]
    later = run_over([(view, [disc_detection()]) for view in VIEWS[2:]], key="22" * 32)
    following = follow(later, [read_report(first[0])])
    options = Options(rejected=tuple(map(identity_of, first)))
    paths = {}
    for item in build_results(following, frozenset({ResultKind.REPORT, ResultKind.REJECTION_NOTE}), options):
        paths[item.kind.value] = folder / f"{item.kind.value}.dcm"
        paths[item.kind.value].write_bytes(encode(item.dataset))
    return paths


@pytest.mark.parametrize("validator", ["dciodvfy", "dcmpschk", "dsrdump", "dicom-validator"])
def test_validators_accept_both(validator: str, tmp_path: Path) -> None:
    """Attributes, values and the tree."""
    paths = write_second_run(tmp_path)
    assert {kind: complaints(validator, path) for kind, path in paths.items()} == {"sr": [], "ko": []}


def test_pixelmed_accepts_the_note(tmp_path: Path) -> None:
    """TID 2010, row by row."""
    assert complaints("PixelMed", write_second_run(tmp_path)["ko"]) == []


def test_pixelmed_rejects_a_broken_note(tmp_path: Path) -> None:
    """A title modifier of another title, and a name on an image, are no part of the template."""
    path = write_second_run(tmp_path)["ko"]
    note = dcmread(path)
    for item in note.ContentSequence:
        if item.ValueType == "IMAGE":
            item.ValueType = "COMPOSITE"
            item.ConceptNameCodeSequence = note.ConceptNameCodeSequence
    note.save_as(path)
    assert complaints("PixelMed", path)
