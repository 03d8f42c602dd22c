"""Writes a model package: weights, manifest, evaluation and model card."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from engines.manifest import MANIFEST_FORMAT, Label, Manifest, Weights
from engines.package import MANIFEST_NAME, ModelPackage, load_package
from engines.preprocess import PreprocessSettings
from engines.training.amend import EVALUATION_NAME
from engines.training.card import model_card
from engines.training.evaluate import Choices
from engines.training.export import export_onnx
from engines.training.loop import Network
from engines.training.origin import Origin
from engines.training.recipe import Recipe

CARD_NAME = "MODEL_CARD.md"
MASS = Label(name="mass", value="4147007", scheme="SCT", meaning="Mass")
DESCRIPTION = "Finds masses on mammograms and says how malignant each looks. Research software, not for clinical use."
INTENDED_USE = "Research on screening mammograms (CC, MLO). Not for clinical use, not for diagnosis."


def publish(
    network: Network,
    settings: PreprocessSettings,
    choices: Choices,
    evaluation: Mapping[str, Any],
    recipe: Recipe,
    origin: Origin,
    folder: Path,
) -> ModelPackage:
    """Write the package into a folder and load it back. Raises PackageError where it would not be valid."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{origin.name}-fp32.onnx"
    export_onnx(network, settings.rows, settings.columns, file)
    weights = Weights(file.name, "fp32", hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_size)
    manifest = Manifest(
        format=MANIFEST_FORMAT,
        name=origin.name,
        version=origin.version,
        description=DESCRIPTION,
        intended_use=INTENDED_USE,
        licence=origin.licence,
        modalities=("MG",),
        views=("CC", "MLO"),
        labels=(MASS,),
        threshold=choices.threshold,
        weights=(weights,),
        model_card=CARD_NAME,
        score_calibration=choices.score,
        malignancy_calibration=choices.malignancy,
        decode=choices.decode,
        preprocess=replace(settings, filter=choices.filter),
        probability_of_cancer=choices.cancer,
    )
    _write(folder / MANIFEST_NAME, json.dumps(asdict(manifest), indent=2))
    _write(folder / EVALUATION_NAME, json.dumps(evaluation, indent=2))
    _write(folder / CARD_NAME, model_card(manifest, evaluation, recipe, origin))
    return load_package(folder)


def _write(file: Path, text: str) -> None:
    file.write_text(text.rstrip() + "\n", encoding="utf-8")
