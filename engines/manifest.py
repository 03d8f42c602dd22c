"""The manifest of a model package: what it was made for, which kind of engine it is, and that engine's settings."""

import codecs
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from pydantic_core import ErrorDetails

from engines.components import ENGINE_NAME, ComponentSettings
from engines.decode import DecodeSettings
from engines.errors import PackageError
from engines.preprocess import PreprocessSettings

MANIFEST_FORMAT = 1
SIZE_MULTIPLE = 32
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Text = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]
# Names stand in file names, here and on servers; words in results (LO, SH); codes of images in CS (PS3.5 section 6.2).
Name = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
Word = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\\\x00-\x1f\x7f]+$")]
ShortWord = Annotated[Word, Field(max_length=16)]
Code = Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,16}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]


@dataclass(frozen=True, slots=True)
class Label:
    """A kind of finding and its code. scheme: coding scheme designator (PS3.16 section 8), as "SCT".

    category: whether it is a lesion or a part of every body.
    """

    name: Word
    value: ShortWord
    scheme: ShortWord
    meaning: Word
    category: Literal["abnormality", "anatomy"] = "abnormality"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Raw score to probability: sigmoid(slope * logit(score) + intercept). Platt 1999."""

    slope: Annotated[float, Field(gt=0)] = 1.0
    intercept: float = 0.0


@dataclass(frozen=True, slots=True)
class CancerProbability:
    """That a finding is a cancer, over all findings that are reported, false ones among them.

    calibration: of score times malignancy, both as the network gives them. share: of cancers among the findings that it
    was fitted on; where another share are cancers, it is another probability. holds: whether patients that the fit has
    not seen show that it is one; without it no report states it.
    """

    calibration: Calibration
    share: Annotated[float, Field(gt=0, lt=1)]
    holds: bool = False


@dataclass(frozen=True, slots=True)
class Weights:
    """One exported variant of the network. file: its name in the package folder.

    guard_limit: stands for the guard's where these weights run; rounding moves features. None where it fits.
    """

    file: Text
    precision: Literal["fp32", "fp16", "bf16", "int8"]
    sha256: Digest
    size_bytes: Annotated[int, Field(gt=0)]
    guard_limit: Annotated[float, Field(gt=0)] | None = None


@dataclass(frozen=True, slots=True)
class GuardFile:
    """The input guard's statistics. file: its name in the package folder; limit: distances beyond it are refused."""

    file: Text
    sha256: Digest
    limit: Annotated[float, Field(gt=0)]


@dataclass(frozen=True, slots=True)
class Manifest:
    """All of manifest.json of a detector. labels: the one kind of finding that it has.

    threshold: calibrated score at and above which a finding is reported.

    prompt_threshold: score at and above which a workstation is to show a finding unasked; None means every one.
    probability_of_cancer: None where the package gives none; its malignancy only says which of two masses looks worse.
    guard: None where the package takes every image in which a breast is found.
    """

    format: int
    name: Name
    version: Name
    description: Text
    intended_use: Text
    licence: Text
    modalities: Annotated[tuple[Code, ...], Field(min_length=1)]
    views: tuple[Code, ...]
    labels: Annotated[tuple[Label, ...], Field(min_length=1, max_length=1)]
    threshold: Share
    weights: Annotated[tuple[Weights, ...], Field(min_length=1)]
    model_card: Text
    score_calibration: Calibration = field(default_factory=Calibration)
    malignancy_calibration: Calibration = field(default_factory=Calibration)
    decode: DecodeSettings = field(default_factory=DecodeSettings)
    preprocess: PreprocessSettings = field(default_factory=PreprocessSettings)
    prompt_threshold: Share | None = None
    probability_of_cancer: CancerProbability | None = None
    engine: Literal["detector"] = "detector"
    guard: GuardFile | None = None


@dataclass(frozen=True, slots=True)
class RegionManifest:
    """All of manifest.json of a package without weights, whose engine follows fixed rules."""

    format: int
    engine: Literal["threshold-components"]
    name: Name
    version: Name
    description: Text
    intended_use: Text
    licence: Text
    modalities: Annotated[tuple[Code, ...], Field(min_length=1)]
    labels: Annotated[tuple[Label, ...], Field(min_length=1, max_length=1)]
    model_card: Text
    components: ComponentSettings


AnyManifest = Manifest | RegionManifest
KINDS: Mapping[object, type[AnyManifest]] = {"detector": Manifest, ENGINE_NAME: RegionManifest}


def parse_manifest(text: bytes, origin: str) -> AnyManifest:
    """The manifest in JSON text; origin is its name for messages. Raises PackageError, naming each wrong field."""
    parts: tuple[type, ...] = (
        *(Label, Calibration, CancerProbability, Weights, GuardFile, Manifest, DecodeSettings, PreprocessSettings),
        *(RegionManifest, ComponentSettings),
    )
    for part in parts:
        with_config(STRICT)(part)
    text = text.removeprefix(codecs.BOM_UTF8)  # as editors on Windows write it
    engine = _engine_of(text)
    if engine not in KINDS:
        raise PackageError(f"{origin} is not a valid manifest: engine: there are {' and '.join(map(repr, KINDS))}")
    try:
        manifest = TypeAdapter(KINDS[engine]).validate_json(text)
    except ValidationError as error:
        raise PackageError(f"{origin} is not a valid manifest: {_wrong(error.errors())}") from error
    complaint = _complaint(manifest)
    if complaint:
        raise PackageError(f"{origin} is not a valid manifest: {complaint}")
    return manifest


def _wrong(errors: Sequence[ErrorDetails]) -> str:
    """Every wrong field, without the fields around it, which are wrong for that reason alone."""
    places = [item["loc"] for item in errors]
    return "; ".join(
        f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}"
        for item in errors
        if not any(place != item["loc"] and place[: len(item["loc"])] == item["loc"] for place in places)
    )


def _engine_of(text: bytes) -> object:
    """What the manifest calls its engine; of what is no manifest at all, the validation that follows says so."""
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    engine = content.get("engine", "detector") if isinstance(content, dict) else "detector"
    return engine if isinstance(engine, str) else repr(engine)


def _complaint(manifest: AnyManifest) -> str:
    """What types cannot say; empty where all is well."""
    if manifest.format != MANIFEST_FORMAT:
        return f"format is {manifest.format}, this version reads {MANIFEST_FORMAT}"
    names = [manifest.model_card]
    if isinstance(manifest, Manifest):
        names += [item.file for item in manifest.weights] + ([manifest.guard.file] if manifest.guard else [])
    for name in names:
        if "/" in name or "\\" in name or name.startswith("."):
            return f"{name!r} must be a plain file name in the package folder"
    return _detector_complaint(manifest) if isinstance(manifest, Manifest) else _range_complaint(manifest.components)


def _range_complaint(settings: ComponentSettings) -> str:
    return "" if settings.lowest < settings.highest else "components.lowest must be below components.highest"


def _detector_complaint(manifest: Manifest) -> str:
    preprocess, decode = manifest.preprocess, manifest.decode
    precisions = [item.precision for item in manifest.weights]
    complaints = {
        f"preprocess.rows and preprocess.columns must be positive multiples of {SIZE_MULTIPLE}": any(
            size <= 0 or size % SIZE_MULTIPLE for size in (preprocess.rows, preprocess.columns)
        ),
        "preprocess.low_percentile must be below preprocess.high_percentile": (
            preprocess.low_percentile >= preprocess.high_percentile
        ),
        "decode.outlines is learned, and only a two-stage network draws any": (
            decode.outlines == "learned" and decode.network != "two-stage"
        ),
        "probability_of_cancer is read from a malignancy, and decode.malignancy is false": (
            manifest.probability_of_cancer is not None and not decode.malignancy
        ),
        "prompt_threshold is below threshold, where nothing is reported": (
            manifest.prompt_threshold is not None and manifest.prompt_threshold < manifest.threshold
        ),
        "weights' precisions must differ from each other": len(set(precisions)) != len(precisions),
    }
    return next((complaint for complaint, holds in complaints.items() if holds), "")
