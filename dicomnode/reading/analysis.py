"""One study through one model: files in, StudyAnalysis out. Knows no queue and no network."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from pydicom import Dataset

from dicomnode.errors import ImageError
from dicomnode.images import SourceImage, load_image, read_header
from dicomnode.logs import Stopwatch, get_logger
from dicomnode.reading.findings import (
    NOTHING_TO_ANALYSE,
    AnalysedImage,
    AnalysedVolume,
    CodedLabel,
    NotAnalysed,
    Remark,
    RunIdentity,
    ScoreMeaning,
    StudyAnalysis,
)
from dicomnode.reading.order import in_reading_order
from dicomnode.reading.reader import to_input
from dicomnode.reading.remarks import remarks_on
from dicomnode.reading.selection import SelectionPolicy, select
from dicomnode.reading.series import analyse_series
from engines.base import Analysed, Engine, ImageOutcome
from engines.detector import Detector
from engines.threads import in_threads
from engines.volume import VolumeEngine

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Model:
    """A model package ready to run, and the images that it takes. digest: of its manifest, threshold and all.

    views: that the package was made for, as ("CC", "MLO"); empty where it does not say. threads: images that are
    worked on at once, 0 for as many as there are processors.
    """

    engine: Engine | VolumeEngine
    digest: str
    labels: tuple[CodedLabel, ...]
    policy: SelectionPolicy
    scores: ScoreMeaning = field(default_factory=ScoreMeaning)
    views: tuple[str, ...] = ()
    threads: int = 0


@dataclass(frozen=True, slots=True)
class StudyFile:
    """A received instance on disk. digest: of its dataset as received."""

    path: Path
    sop_instance_uid: str
    digest: str


def run_key(study_instance_uid: str, files: Sequence[StudyFile], model: Model | None, failure: str = "") -> str:
    """Hex digest of everything that determines the results, so that a repeated run writes the same UIDs."""
    parts = {
        "study": study_instance_uid,
        "inputs": sorted((file.sop_instance_uid, file.digest) for file in files),
        "engine": asdict(model.engine.description) if model else None,
        "package": model.digest if model else None,
        "policy": asdict(model.policy) if model else None,
        "scores": asdict(model.scores) if model else None,
        "failure": failure,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def analyse_study(
    study_instance_uid: str, files: Sequence[StudyFile], model: Model, created_at: datetime
) -> StudyAnalysis:
    """Select, decode and analyse. Raises EngineError; images that cannot be used are told, not raised."""
    paths, headers, not_analysed = _read_headers(files)
    chosen, exclusions = select(headers, model.policy)
    for item in exclusions:
        log.info("left out", sop_instance_uid=str(item.header.SOPInstanceUID), rule=item.rule, reason=item.reason)
    not_analysed += [NotAnalysed(item.header, item.reason, excluded_by_rule=True) for item in exclusions]
    analysed: list[AnalysedImage] = []
    volumes: list[AnalysedVolume] = []
    watch = Stopwatch()
    if isinstance(model.engine, VolumeEngine):
        volumes, left_out = analyse_series(chosen, paths, model.engine)
    else:
        analysed, left_out = _analyse_images(chosen, paths, model, model.engine)
    study = StudyAnalysis(
        run=RunIdentity(run_key(study_instance_uid, files, model), created_at, model.digest),
        engine=model.engine.description,
        labels=model.labels,
        analysed=tuple(analysed),
        not_analysed=(*not_analysed, *left_out),
        failure="" if analysed or volumes else NOTHING_TO_ANALYSE,
        volumes=tuple(volumes),
        scores=model.scores,
    )
    log.info(
        "analysed",
        images=len(analysed),
        series=len(volumes),
        left_out=len(study.not_analysed),
        findings=study.number_of_findings,
        backend=model.engine.description.backend,
        duration_ms=watch.ms(),
    )
    return study


def _analyse_images(
    headers: Sequence[Dataset], paths: Mapping[str, Path], model: Model, engine: Engine
) -> tuple[list[AnalysedImage], list[NotAnalysed]]:
    """Where several threads may ask the engine, an image stays on one from its file to its findings.

    Then none waits for the slowest to be decoded. Else all images go to the engine together.
    """
    files = [paths[str(header.SOPInstanceUID)] for header in headers]
    side_by_side = isinstance(engine, Detector) and engine.at_once > 1
    groups = [[file] for file in files] if side_by_side else [files]
    taken = list(in_threads(lambda group: _take(group, engine, model.threads), groups, model.threads))
    items = [item for _, group in taken for item in group]
    number = sum(not isinstance(item, ImageError) for item in items)
    log.info("decoded", images=number, duration_ms=round(sum(decoding_ms for decoding_ms, _ in taken), 1))
    analysed: list[AnalysedImage] = []
    left_out: list[NotAnalysed] = []
    for header, item in zip(headers, items, strict=True):
        if isinstance(item, ImageError):
            log.warning("not decoded", sop_instance_uid=str(header.SOPInstanceUID), reason=str(item))
            left_out.append(NotAnalysed(header, str(item), excluded_by_rule=False))
            continue
        source, outcome = item
        if isinstance(outcome, Analysed):
            analysed.append(AnalysedImage(source, outcome.detections, _remarks(source, outcome, model.views)))
        else:
            left_out.append(NotAnalysed(source.header, outcome.reason, excluded_by_rule=False, refused=True))
    return analysed, left_out


def _take(
    files: Sequence[Path], engine: Engine, threads: int
) -> tuple[float, list[tuple[SourceImage, ImageOutcome] | ImageError]]:
    """Milliseconds of decoding, and what became of each file. Logs nothing: its thread does not know the job."""
    watch = Stopwatch()
    loaded = list(in_threads(_try_to_load, files, threads))
    decoding_ms = watch.ms()
    sources = [item for item in loaded if isinstance(item, SourceImage)]
    answered = iter(list(zip(sources, engine.analyse([to_input(source) for source in sources]), strict=True)))
    return decoding_ms, [item if isinstance(item, ImageError) else next(answered) for item in loaded]


def _remarks(source: SourceImage, outcome: Analysed, views: tuple[str, ...]) -> tuple[Remark, ...]:
    found = remarks_on(source.header, outcome.chest_wall, views)
    for item in found:
        uid = str(source.header.SOPInstanceUID)
        log.warning("remark", sop_instance_uid=uid, rule=item.rule, reason=item.sentence)
    return found


def failed_study(
    study_instance_uid: str, files: Sequence[StudyFile], model: Model | None, created_at: datetime, failure: str
) -> StudyAnalysis:
    """What is reported when the run itself failed. failure: one plain sentence."""
    _, headers, unreadable = _read_headers(files)
    return StudyAnalysis(
        run=RunIdentity(run_key(study_instance_uid, files, model, failure), created_at, model.digest if model else ""),
        engine=model.engine.description if model else None,
        labels=model.labels if model else (),
        analysed=(),
        not_analysed=(*unreadable, *(NotAnalysed(header, failure, excluded_by_rule=False) for header in headers)),
        failure=failure,
    )


def _read_headers(files: Sequence[StudyFile]) -> tuple[dict[str, Path], list[Dataset], list[NotAnalysed]]:
    paths: dict[str, Path] = {}
    headers: list[Dataset] = []
    unreadable: list[NotAnalysed] = []
    for file in files:
        try:
            headers.append(read_header(file.path))
            paths[file.sop_instance_uid] = file.path
        except ImageError as error:
            log.warning("unreadable", sop_instance_uid=file.sop_instance_uid, reason=str(error))
            unreadable.append(NotAnalysed(_bare_header(file), str(error), excluded_by_rule=False))
    return paths, in_reading_order(headers), unreadable


def _bare_header(file: StudyFile) -> Dataset:
    header = Dataset()
    header.SOPInstanceUID = file.sop_instance_uid
    return header


def _try_to_load(path: Path) -> SourceImage | ImageError:
    try:
        return load_image(path)
    except ImageError as error:
        return error
