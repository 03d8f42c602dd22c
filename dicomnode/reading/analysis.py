"""One study through one model: files in, StudyAnalysis out. Knows no queue and no network."""

import hashlib
import json
from collections.abc import Sequence
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
from engines.base import Analysed, Engine
from engines.threads import in_threads
from engines.volume import VolumeEngine

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Model:
    """A model package ready to run, and the images that it takes. digest: of its manifest, threshold and all.

    views: that the package was made for, as ("CC", "MLO"); empty where it does not say. threads: images that are
    decoded at once, 0 for as many as there are processors.
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
    if isinstance(model.engine, VolumeEngine):
        watch = Stopwatch()
        volumes, left_out = analyse_series(chosen, paths, model.engine)
    else:
        sources, left_out = _load([paths[str(header.SOPInstanceUID)] for header in chosen], chosen, model.threads)
        watch = Stopwatch()
        analysed, refused = _analyse_images(sources, model.engine, model.views)
        left_out += refused
    study = StudyAnalysis(
        run=RunIdentity(run_key(study_instance_uid, files, model), created_at),
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
    sources: Sequence[SourceImage], engine: Engine, views: tuple[str, ...]
) -> tuple[list[AnalysedImage], list[NotAnalysed]]:
    outcomes = engine.analyse([to_input(source) for source in sources])
    analysed: list[AnalysedImage] = []
    refused: list[NotAnalysed] = []
    for source, outcome in zip(sources, outcomes, strict=True):
        if isinstance(outcome, Analysed):
            analysed.append(AnalysedImage(source, outcome.detections, _remarks(source, outcome, views)))
        else:
            refused.append(NotAnalysed(source.header, outcome.reason, excluded_by_rule=False, refused=True))
    return analysed, refused


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
        run=RunIdentity(run_key(study_instance_uid, files, model, failure), created_at),
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


def _load(
    paths: Sequence[Path], headers: Sequence[Dataset], threads: int
) -> tuple[list[SourceImage], list[NotAnalysed]]:
    sources: list[SourceImage] = []
    undecodable: list[NotAnalysed] = []
    watch = Stopwatch()
    for loaded, header in zip(in_threads(_try_to_load, paths, threads), headers, strict=True):
        if isinstance(loaded, SourceImage):
            sources.append(loaded)
        else:
            log.warning("not decoded", sop_instance_uid=str(header.SOPInstanceUID), reason=str(loaded))
            undecodable.append(NotAnalysed(header, str(loaded), excluded_by_rule=False))
    log.info("decoded", images=len(sources), duration_ms=watch.ms())
    return sources, undecodable


def _try_to_load(path: Path) -> SourceImage | ImageError:
    try:
        return load_image(path)
    except ImageError as error:
        return error
