"""A CT study on disk through a model for volumes, as the worker does it, and its objects as others read them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread

from dicomnode.config.sections import ModelSettings
from dicomnode.reading.analysis import Model, StudyFile, analyse_study
from dicomnode.reading.findings import CodedLabel, ResultKind, StudyAnalysis
from dicomnode.reading.selection import SelectionPolicy
from dicomnode.results.build import build_results, encode
from dicomnode.workshop import open_model
from engines.components import ComponentSettings, ThresholdComponents
from tests.support.studies import write_study

CREATED_AT = datetime(2026, 11, 24, 9, 30, 15, tzinfo=UTC)
BALL = CodedLabel("ball", "4147007", "SCT", "Mass")


def ct_lung() -> Model:
    """The package that ships."""
    return open_model(ModelSettings(package="ct-lung", modalities=("CT",)))


def ball_finder(*, enclosed: bool = True, least_ml: float = 0.5) -> Model:
    """The same engine set to small things of low density."""
    settings = ComponentSettings(-1024.0, -500.0, enclosed, least_ml, 5, 10.0)
    engine = ThresholdComponents("ball-finder", "1.0", "ball", settings)
    return Model(engine, "digest", (BALL,), SelectionPolicy(modalities=("CT",)))


def analyse(slices: Sequence[Dataset], folder: Path, model: Model) -> StudyAnalysis:
    """Write the slices as files and analyse them as one study."""
    paths = write_study(slices, folder)
    return analyse_files(paths, model)


def analyse_files(paths: Sequence[Path], model: Model) -> StudyAnalysis:
    """Analyse files as one study."""
    headers = [dcmread(path, stop_before_pixels=True) for path in paths]
    files = [StudyFile(path, str(header.SOPInstanceUID), "0" * 64) for path, header in zip(paths, headers, strict=True)]
    return analyse_study(str(headers[0].StudyInstanceUID), files, model, CREATED_AT)


def objects(study: StudyAnalysis, kind: ResultKind) -> list[Dataset]:
    """The objects of one kind, read from their bytes."""
    return [dcmread(BytesIO(encode(result.dataset))) for result in build_results(study, frozenset({kind}))]
