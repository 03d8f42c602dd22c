"""What the demo shows at its end: findings read back from the returned objects, times per stage, pictures, verdict."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dicomnode.demo.drawing import draw_views
from dicomnode.demo.progress import STAGES, StudyProgress
from dicomnode.demo.reading import ReturnedFinding, read_findings, read_summary
from dicomnode.demo.truth import KNOWN_LESIONS, KnownLesion

NOT_FOR_CLINICAL_USE = "Research software, not for clinical use."


def show_outcome(console: Console, studies: Sequence[StudyProgress], out: Path) -> int:
    """Print tables and problems, draw the pictures. Returns the exit code: 0 when all that was expected came back."""
    findings = {study.number: read_findings([item.path for item in study.returned]) for study in studies}
    console.print(_findings_table(studies, findings))
    console.print(_stages_table(studies))
    pictures = [path for study in studies if study.returned for path in draw_views(study, findings[study.number], out)]
    objects = sum(len(study.returned) for study in studies)
    console.print(
        f"{objects} objects (*.dcm) and {len(pictures)} pictures (*.png) are in {out.resolve()}", markup=False
    )
    problems = [f"{study.name}: {problem}" for study in studies for problem in study.missing()]
    if not any(study.returned for study in studies):
        problems.append("no study was analysed")
    for problem in problems:
        console.print(f"missing: {problem}", style="red", markup=False)
    console.print(NOT_FOR_CLINICAL_USE, style="bold")
    return 1 if problems else 0


def _findings_table(studies: Sequence[StudyProgress], findings: dict[int, list[ReturnedFinding]]) -> Table:
    table = Table("study", "finding", "score", "box in pixels", "known lesion", title="Findings, as returned")
    table.columns[2].justify = "right"
    table.columns[3].no_wrap = True
    for study in studies:
        known = [lesion for source in study.sources for lesion in KNOWN_LESIONS.get(source.sop_instance_uid, ())]
        found = findings[study.number]
        missed = [lesion for lesion in known if not any(_meets(finding, lesion) for finding in found)]
        for finding in found:
            x0, y0, x1, y1 = (round(value) for value in finding.box)
            table.add_row(
                study.name, finding.label, f"{finding.score:.2f}", f"{x0}, {y0} to {x1}, {y1}", _remark(finding)
            )
        if not found:
            table.add_row(study.name, _without_findings(study), "", "", "" if known else "none known here")
        for lesion in missed:
            table.add_row(study.name, "", "", "", f"missed: {lesion.pathology} mass")
    return table


def _without_findings(study: StudyProgress) -> str:
    if study.not_analysed:
        return f"not analysed: {study.not_analysed}"
    reports = [item for item in study.returned if item.modality == "SR"]
    return read_summary(reports[0].path) if reports else "no report came back"


def _remark(finding: ReturnedFinding) -> str:
    known = KNOWN_LESIONS.get(finding.sop_instance_uid)
    if known is None:
        return "none known here"
    met = [lesion.pathology for lesion in known if _meets(finding, lesion)]
    return f"found: {met[0]} mass" if met else "no"


def _meets(finding: ReturnedFinding, lesion: KnownLesion) -> bool:
    """Whether the finding's centre lies in the lesion's box, on the lesion's image."""
    if lesion not in KNOWN_LESIONS.get(finding.sop_instance_uid, ()):
        return False
    x0, y0, x1, y1 = finding.box
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return lesion.box[0] <= x <= lesion.box[2] and lesion.box[1] <= y <= lesion.box[3]


def _stages_table(studies: Sequence[StudyProgress]) -> Table:
    names = ("receive", "decode", "analyse", "build", "deliver")
    table = Table("study", "images", *names, "turn-around", "returned", title="Milliseconds per stage")
    for column in table.columns:
        column.no_wrap = True
    for column in table.columns[1:-1]:
        column.justify = "right"
    for study in studies:
        stages = [f"{study.stage_ms[stage]:.0f}" if stage in study.stage_ms else "" for stage in STAGES]
        returned = ", ".join(item.modality for item in study.returned)
        whole = f"{1000 * study.turnaround_s:.0f}" if study.returned else ""
        table.add_row(study.name, str(len(study.sources)), *stages, whole, returned)
    table.caption = "turn-around: last C-STORE response to last result in the archive, with quiet time and queue"
    return table
