"""What the demo takes as missing decides its exit code."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from dicomnode.demo.archive import Returned
from dicomnode.demo.node import StageLine
from dicomnode.demo.progress import StudyProgress
from dicomnode.demo.sending import SentInstance, SourceFile

SOURCE = SourceFile(Path("a.dcm"), "1.2", "1.2.3", "1.2.840", "1.2.840.10008.1.2.1", "L", "CC")


def _line(event: str, *, findings: int = 0, objects: int = 0, reason: str = "") -> StageLine:
    return StageLine(event, "1.2", 10.0, findings, objects, reason, 0)


def _study(modalities: Sequence[str], lines: Sequence[StageLine], refused: str = "") -> StudyProgress:
    study = StudyProgress(1, "1.2", [SOURCE])
    study.add_sent(SentInstance(SOURCE, refused, 5.0))
    for line in lines:
        study.take(line)
    study.see([Returned("1.2", modality, Path(f"{modality}.dcm")) for modality in modalities])
    return study


@pytest.mark.parametrize(
    ("modalities", "findings", "objects", "words"),
    [
        (["SR"], 0, 1, []),
        (["SR", "SEG"], 2, 2, []),
        (["SR"], 2, 2, ["no segmentation", "1 of 2"]),
        (["SEG"], 1, 2, ["no report", "1 of 2"]),
        ([], 0, 1, ["no report", "0 of 1"]),
    ],
)
def test_what_did_not_come_back_is_missing(
    modalities: list[str], findings: int, objects: int, words: list[str]
) -> None:
    """Every study owes a report, one with findings a segmentation too, and each object that the node announced."""
    study = _study(modalities, [_line("analysed", findings=findings), _line("job done", objects=objects)])
    problems = study.missing()
    assert len(problems) == len(words)
    assert all(word in problem for word, problem in zip(words, problems, strict=True))
    assert study.finished is (len(modalities) >= objects)


def test_a_study_that_the_node_never_finished_is_missing_its_report() -> None:
    """Silence is not a negative result."""
    study = _study([], [])
    assert not study.finished
    assert study.missing() == ["no report (SR) came back"]


def test_a_refused_file_is_a_problem() -> None:
    """An instance that the node did not take is told with its answer."""
    study = _study([], [], refused="0xC000 no pixel data")
    assert study.missing() == ["a.dcm was refused: 0xC000 no pixel data"]


def test_a_study_that_no_model_takes_owes_nothing() -> None:
    """It is finished at once, with the node's reason."""
    study = _study([], [_line("study not analysed", reason="no model takes modality CT")])
    assert study.finished
    assert study.missing() == []
    assert study.not_analysed == "no model takes modality CT"


def test_times_of_a_stage_add_up() -> None:
    """Two images that were received, and an analysis that was tried twice, count together."""
    study = _study([], [_line("analysed"), _line("analysed")])
    assert study.stage_ms == {"received": 5.0, "analysed": 20.0}
