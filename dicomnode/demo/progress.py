"""How far each study of the demo has come: the node's log lines and the archive's files, put together."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from dicomnode.demo.archive import Returned
from dicomnode.demo.node import StageLine
from dicomnode.demo.sending import SentInstance, SourceFile

STAGES = ("received", "decoded", "analysed", "results built", "delivered")

SHOWN = ("study queued", "analysed", "job given up", "study not analysed")


@dataclass(slots=True)
class StudyProgress:
    """One study on its way; times are of the process's monotonic clock.

    findings, objects: None until the node has said how many. stage_ms: milliseconds by stage, summed.
    not_analysed: why no model took the study; such a study gets no report.
    """

    number: int
    study_instance_uid: str
    sources: Sequence[SourceFile]
    sent: list[SentInstance] = field(default_factory=list)
    sent_at: float = 0.0
    returned_at: float = 0.0
    findings: int | None = None
    objects: int | None = None
    not_analysed: str = ""
    failure: str = ""
    stage_ms: dict[str, float] = field(default_factory=dict)
    returned: list[Returned] = field(default_factory=list)

    @property
    def name(self) -> str:
        """How it is called in tables and file names, without a patient's identity."""
        views = "-".join(sorted({f"{source.laterality}{source.view}" for source in self.sources} - {""}))
        return f"{self.number:02d}-{views}" if 0 < len(views) <= len("LCC-LMLO-RCC-RMLO") else f"{self.number:02d}"

    @property
    def accepted(self) -> bool:
        """Whether the node took at least one of its instances."""
        return any(not item.refused for item in self.sent)

    @property
    def finished(self) -> bool:
        """Whether nothing more is to come."""
        return bool(self.not_analysed) or (self.objects is not None and len(self.returned) >= self.objects)

    @property
    def turnaround_s(self) -> float:
        """From the last C-STORE response to the last result in the archive."""
        return max(self.returned_at - self.sent_at, 0.0)

    def add_sent(self, item: SentInstance) -> None:
        """Note an answer of the node."""
        self.sent.append(item)
        self.sent_at = time.monotonic()
        self.stage_ms["received"] = self.stage_ms.get("received", 0.0) + item.duration_ms

    def take(self, line: StageLine) -> bool:
        """Note a line of the node's log. Returns whether it is one to show."""
        if line.event in STAGES:
            self.stage_ms[line.event] = self.stage_ms.get(line.event, 0.0) + line.duration_ms
        if line.event == "analysed":
            self.findings = line.findings
        if line.event in ("job done", "job given up"):
            self.objects = line.objects
            self.failure = line.reason
        if line.event == "study not analysed":
            self.not_analysed = line.reason
        return line.event in SHOWN

    def see(self, returned: list[Returned]) -> None:
        """Note what the archive has."""
        if len(returned) > len(self.returned):
            self.returned = returned
            self.returned_at = time.monotonic()

    def missing(self) -> list[str]:
        """What was expected and did not come back, in words."""
        problems = [f"{item.source.path.name} was refused: {item.refused}" for item in self.sent if item.refused]
        modalities = [item.modality for item in self.returned]
        if self.not_analysed or not self.accepted:
            return problems
        if "SR" not in modalities:
            problems.append("no report (SR) came back")
        if self.findings and "SEG" not in modalities:
            problems.append(f"no segmentation (SEG) came back for {self.findings} findings")
        if self.objects is not None and len(self.returned) < self.objects:
            problems.append(f"{len(self.returned)} of {self.objects} objects came back")
        return problems
