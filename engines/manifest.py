"""The manifest of a model package: what a network was made for and how its output is read."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

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
    """A kind of finding and its code. scheme: coding scheme designator (PS3.16 section 8), as "SCT"."""

    name: Text
    value: Annotated[str, Field(min_length=1, max_length=16)]
    scheme: Annotated[str, Field(min_length=1, max_length=16)]
    meaning: Annotated[str, Field(min_length=1, max_length=64)]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Raw score to probability: sigmoid(slope * logit(score) + intercept). Platt 1999."""

    slope: Annotated[float, Field(gt=0)] = 1.0
    intercept: float = 0.0


@dataclass(frozen=True, slots=True)
class Weights:
    """One exported variant of the network. file: its name in the package folder."""

    file: Text
    precision: Literal["fp32", "fp16", "bf16", "int8"]
    sha256: Annotated[str, Field(min_length=64, max_length=64)]
    size_bytes: Annotated[int, Field(gt=0)]


@dataclass(frozen=True, slots=True)
class Manifest:
    """All of manifest.json. threshold: calibrated score at and above which a finding is reported.

    prompt_threshold: score at and above which a workstation is to show a finding unasked; None means every one.
    malignancy_is_probability: whether the calibrated malignancy is shown to be the probability of cancer, on data that
    the calibration has not seen; without it no report calls it so.
    """

    format: int
    name: Text
    version: Text
    description: Text
    intended_use: Text
    licence: Text
    modalities: Annotated[tuple[Text, ...], Field(min_length=1)]
    views: tuple[Text, ...]
    labels: Annotated[tuple[Label, ...], Field(min_length=1)]
    threshold: Share
    weights: Annotated[tuple[Weights, ...], Field(min_length=1)]
    model_card: Text
    score_calibration: Calibration = field(default_factory=Calibration)
    malignancy_calibration: Calibration = field(default_factory=Calibration)
    decode: DecodeSettings = field(default_factory=DecodeSettings)
    preprocess: PreprocessSettings = field(default_factory=PreprocessSettings)
    prompt_threshold: Share | None = None
    malignancy_is_probability: bool = False


def parse_manifest(text: bytes, origin: str) -> Manifest:
    """The manifest in JSON text; origin is its name for messages. Raises PackageError, naming each wrong field."""
    parts: tuple[type, ...] = (Label, Calibration, Weights, Manifest, DecodeSettings, PreprocessSettings)
    for part in parts:
        with_config(STRICT)(part)
    try:
        manifest = TypeAdapter(Manifest).validate_json(text)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors())
        raise PackageError(f"{origin} is not a valid manifest: {wrong}") from error
    complaint = _complaint(manifest)
    if complaint:
        raise PackageError(f"{origin} is not a valid manifest: {complaint}")
    return manifest


def _complaint(manifest: Manifest) -> str:
    """What types cannot say; empty where all is well."""
    if manifest.format != MANIFEST_FORMAT:
        return f"format is {manifest.format}, this version reads {MANIFEST_FORMAT}"
    names = [item.file for item in manifest.weights] + [manifest.model_card]
    for name in names:
        if "/" in name or "\\" in name or name.startswith("."):
            return f"{name!r} must be a plain file name in the package folder"
    if any(size <= 0 or size % SIZE_MULTIPLE for size in (manifest.preprocess.rows, manifest.preprocess.columns)):
        return f"preprocess.rows and preprocess.columns must be positive multiples of {SIZE_MULTIPLE}"
    if manifest.prompt_threshold is not None and manifest.prompt_threshold < manifest.threshold:
        return "prompt_threshold is below threshold, where nothing is reported"
    for what, values in (
        ("label names", [item.name for item in manifest.labels]),
        ("weights' precisions", [item.precision for item in manifest.weights]),
    ):
        if len(set(values)) != len(values):
            return f"{what} must differ from each other"
    return ""
