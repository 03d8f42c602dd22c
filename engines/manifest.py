"""The manifest of a model package: what it was made for, which kind of engine it is, and that engine's settings."""

import json
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from engines.components import ENGINE_NAME, ComponentSettings
from engines.decode import DecodeSettings
from engines.errors import PackageError
from engines.preprocess import PreprocessSettings

MANIFEST_FORMAT = 1
SIZE_MULTIPLE = 32
STRICT = ConfigDict(extra="forbid", strict=True)

Text = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, slots=True)
class Label:
    """A kind of finding and its code. scheme: coding scheme designator (PS3.16 section 8), as "SCT".

    category: whether it is a lesion or a part of every body.
    """

    name: Text
    value: Annotated[str, Field(min_length=1, max_length=16)]
    scheme: Annotated[str, Field(min_length=1, max_length=16)]
    meaning: Annotated[str, Field(min_length=1, max_length=64)]
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
    sha256: Annotated[str, Field(min_length=64, max_length=64)]
    size_bytes: Annotated[int, Field(gt=0)]
    guard_limit: Annotated[float, Field(gt=0)] | None = None


@dataclass(frozen=True, slots=True)
class GuardFile:
    """The input guard's statistics. file: its name in the package folder; limit: distances beyond it are refused."""

    file: Text
    sha256: Annotated[str, Field(min_length=64, max_length=64)]
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
    name: Text
    version: Text
    description: Text
    intended_use: Text
    licence: Text
    modalities: Annotated[tuple[Text, ...], Field(min_length=1)]
    views: tuple[Text, ...]
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
    name: Text
    version: Text
    description: Text
    intended_use: Text
    licence: Text
    modalities: Annotated[tuple[Text, ...], Field(min_length=1)]
    labels: Annotated[tuple[Label, ...], Field(min_length=1, max_length=1)]
    model_card: Text
    components: ComponentSettings


AnyManifest = Manifest | RegionManifest


def parse_manifest(text: bytes, origin: str) -> AnyManifest:
    """The manifest in JSON text; origin is its name for messages. Raises PackageError, naming each wrong field."""
    parts: tuple[type, ...] = (
        *(Label, Calibration, CancerProbability, Weights, GuardFile, Manifest, DecodeSettings, PreprocessSettings),
        *(RegionManifest, ComponentSettings),
    )
    for part in parts:
        with_config(STRICT)(part)
    kind: type[AnyManifest] = RegionManifest if _engine_of(text) == ENGINE_NAME else Manifest
    try:
        manifest = TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors())
        raise PackageError(f"{origin} is not a valid manifest: {wrong}") from error
    complaint = _complaint(manifest)
    if complaint:
        raise PackageError(f"{origin} is not a valid manifest: {complaint}")
    return manifest


def _engine_of(text: bytes) -> object:
    """What the manifest calls its engine; the validation that follows says what is wrong with it."""
    try:
        content = json.loads(text)
    except ValueError:
        return None
    return content.get("engine") if isinstance(content, dict) else None


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
    if any(size <= 0 or size % SIZE_MULTIPLE for size in (manifest.preprocess.rows, manifest.preprocess.columns)):
        return f"preprocess.rows and preprocess.columns must be positive multiples of {SIZE_MULTIPLE}"
    if manifest.prompt_threshold is not None and manifest.prompt_threshold < manifest.threshold:
        return "prompt_threshold is below threshold, where nothing is reported"
    precisions = [item.precision for item in manifest.weights]
    if len(set(precisions)) != len(precisions):
        return "weights' precisions must differ from each other"
    return ""
