"""A broken rejection note, which must be rejected; sound ones are among the objects of test_validators."""

from pathlib import Path

from pydicom import dcmread

from dicomnode.findings import ResultKind
from dicomnode.results.build import build_results, encode
from dicomnode.results.options import Options
from dicomnode.results.succession import follow, identity_of, read_report
from tests.dicomnode.results.samples import disc_detection, four_views, run_over
from tests.support.validators import complaints

VIEWS = four_views()


def write_note(path: Path) -> None:
    """The note of a run over late images."""
    first = [item.dataset for item in build_results(run_over([(VIEWS[3], [disc_detection()])]), frozenset(ResultKind))]
    later = run_over([(view, [disc_detection()]) for view in VIEWS[2:]], key="22" * 32)
    following = follow(later, [read_report(first[0])])
    options = Options(rejected=tuple(map(identity_of, first)))
    (note,) = build_results(following, frozenset({ResultKind.REJECTION_NOTE}), options)
    path.write_bytes(encode(note.dataset))


def test_pixelmed_rejects_a_broken_note(tmp_path: Path) -> None:
    """A title modifier of another title, and a name on an image, are no part of the template."""
    path = tmp_path / "note.dcm"
    write_note(path)
    note = dcmread(path)
    for item in note.ContentSequence:
        if item.ValueType == "IMAGE":
            item.ValueType = "COMPOSITE"
            item.ConceptNameCodeSequence = note.ConceptNameCodeSequence
    note.save_as(path)
    assert complaints("PixelMed", path)
