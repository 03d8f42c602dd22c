"""A run that comes after others: what it names, what it says, and what it leaves alone."""

from io import BytesIO

import highdicom as hd
import pytest
from pydicom import Dataset, dcmread

from dicomnode.reading.findings import EarlierReport, NotAnalysed, ResultKind, StudyAnalysis
from dicomnode.reading.study_rules import rejected_by_note
from dicomnode.results.build import build_results, encode
from dicomnode.results.options import DEFAULT, Options
from dicomnode.results.succession import follow, identity_of, predecessors_of, read_report
from engines.base import EngineDescription
from tests.dicomnode.results.samples import ENGINE, disc_detection, four_views, run_over

REPORT = frozenset({ResultKind.REPORT})
VIEWS = four_views()
FIRST = run_over([(view, []) for view in VIEWS[:2]], key="11" * 32)
SECOND = run_over([(VIEWS[0], []), (VIEWS[1], []), (VIEWS[2], [disc_detection()])], key="22" * 32)
FAILED = run_over(
    [],
    [NotAnalysed(VIEWS[0], "The model stopped.", excluded_by_rule=False)],
    failure="The model stopped.",
    key="33" * 32,
)


def written(study: StudyAnalysis, kinds: frozenset[ResultKind] = REPORT, options: Options = DEFAULT) -> list[Dataset]:
    """Results as somebody else reads them."""
    return [dcmread(BytesIO(encode(result.dataset))) for result in build_results(study, kinds, options)]


def report_of(study: StudyAnalysis) -> EarlierReport:
    """The report of a run as a later run sees it."""
    (document,) = written(study)
    return read_report(document)


def sentences(document: Dataset) -> str:
    """All its words."""
    return document.to_json()


def test_a_report_is_read_back() -> None:
    """What the next run must know stands in the report itself."""
    report = report_of(FIRST)
    assert report.images == {view.SOPInstanceUID for view in VIEWS[:2]}
    assert not report.failed
    assert report.model == "mammo-mass 0.1.0"
    assert report.moment == "2026-11-24 09:30"
    assert report_of(FAILED).failed


def test_the_new_report_names_the_old() -> None:
    """By its UIDs in the predecessor documents, and in words with what has changed."""
    (old,) = written(FIRST)
    (new,) = written(follow(SECOND, [report_of(FIRST)]))
    assert predecessors_of(new) == [old.SOPInstanceUID]
    (study,) = new.PredecessorDocumentsSequence
    assert study.StudyInstanceUID == old.StudyInstanceUID
    assert study.ReferencedSeriesSequence[0].SeriesInstanceUID == old.SeriesInstanceUID
    assert "This report replaces the one of 2026-11-24 09:30: 1 more image analysed." in sentences(new)
    assert "PredecessorDocumentsSequence" not in old
    assert hd.sr.Comprehensive3DSR.from_dataset(new).content is not None


@pytest.mark.parametrize(
    ("study", "words"),
    [
        (run_over([(view, []) for view in VIEWS]), "2 more images analysed."),
        (run_over([(VIEWS[0], [])]), "1 image no longer analysed."),
        (run_over([(view, []) for view in VIEWS[1:3]]), "1 more image analysed, 1 image no longer analysed."),
        (run_over([(view, []) for view in VIEWS[:2]]), "the same images and model."),
        (
            run_over(
                [(view, []) for view in VIEWS[:2]],
                engine=EngineDescription("mammo-mass", "0.2.0", "ff" * 32, "onnxruntime", "fp32", ""),
            ),
            "another model (mammo-mass 0.1.0 before).",
        ),
    ],
)
def test_what_changed_is_said(study: StudyAnalysis, words: str) -> None:
    """More images, fewer, another model."""
    (new,) = written(follow(study, [report_of(FIRST)]))
    assert f"This report replaces the one of 2026-11-24 09:30: {words}" in sentences(new)


def test_a_failure_is_replaced_and_replaces_nothing() -> None:
    """What an earlier run found still holds for the images that it saw."""
    (failed,) = written(follow(FAILED, [report_of(FIRST)]))
    assert predecessors_of(failed) == []
    assert "The report of 2026-11-24 09:30 on 2 images is not replaced by this one." in sentences(failed)
    (new,) = written(follow(SECOND, [report_of(FIRST), read_report(failed)]))
    assert len(predecessors_of(new)) == 2
    assert "which could not be given." in sentences(new)
    (again,) = written(follow(run_over([], FAILED.not_analysed, failure="Again."), [read_report(failed)]))
    assert "could not be processed on 2026-11-24 09:30 either." in sentences(again)


def test_another_past_is_another_run() -> None:
    """The words depend on what came before, and so do the UIDs; without a past nothing changes."""
    alone, after = written(SECOND)[0], written(follow(SECOND, [report_of(FIRST)]))[0]
    assert follow(SECOND, []) is SECOND
    assert alone.SOPInstanceUID != after.SOPInstanceUID
    assert encode(after) == encode(written(follow(SECOND, [report_of(FIRST)]))[0])


def test_a_rejection_note_names_what_was_sent() -> None:
    """Every object by its UIDs, images as images, with a title that archives act on and the reason in words."""
    kinds = frozenset(ResultKind)
    old = written(run_over([(VIEWS[3], [disc_detection()])], key="11" * 32), kinds)
    assert "KO" not in {item.Modality for item in old}
    following = follow(SECOND, [read_report(old[0])])
    (note,) = written(following, frozenset({ResultKind.REJECTION_NOTE}), Options(rejected=tuple(map(identity_of, old))))
    assert (note.Modality, note.ConceptNameCodeSequence[0].CodeValue) == ("KO", "113001")
    referred = [item for item in note.ContentSequence if "ReferencedSOPSequence" in item]
    assert sorted(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in referred) == sorted(
        item.SOPInstanceUID for item in old
    )
    value_types = {
        (item.ReferencedSOPSequence[0].ReferencedSOPClassUID.name.split(" ")[0], item.ValueType) for item in referred
    }
    assert value_types >= {("Comprehensive", "COMPOSITE"), ("Segmentation", "IMAGE"), ("Grayscale", "COMPOSITE")}
    assert all("ConceptNameCodeSequence" not in item for item in referred)
    assert set(rejected_by_note([note])) == {item.SOPInstanceUID for item in old}
    assert "replaced by those of this one" in sentences(note)
    assert (note.StudyInstanceUID, note.PatientID) == ("1.2.3.4", "PID-1")


def test_notes_about_other_objects_are_other_notes() -> None:
    """Two destinations that were sent different objects get different notes; a failed run rejects nothing."""
    old = tuple(map(identity_of, written(FIRST, frozenset(ResultKind))))
    kinds = frozenset({ResultKind.REJECTION_NOTE})
    following = follow(SECOND, [report_of(FIRST)])
    (all_of_it,) = written(following, kinds, Options(rejected=old))
    (report_only,) = written(following, kinds, Options(rejected=old[:1]))
    assert all_of_it.SOPInstanceUID != report_only.SOPInstanceUID
    assert written(follow(FAILED, [report_of(FIRST)]), kinds, Options(rejected=old)) == []
    assert written(SECOND, kinds) == []
    assert ENGINE.package in all_of_it.SeriesDescription
