"""Adds to a package that is published already: a file, its place in the manifest, its figures and words on the card."""

import argparse
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from engines.manifest import Manifest, Weights
from engines.package import MANIFEST_NAME, ModelPackage, load_package

EVALUATION_NAME = "evaluation.json"


def amending_parser(prog: str, description: str, mias: str) -> argparse.ArgumentParser:
    """What a command that adds to a package must be told. mias: what mini-MIAS is for there."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--package", required=True, help="name of a shipped package, or a package's folder; is changed")
    parser.add_argument("--data", type=Path, required=True, help="the folder that it was trained on")
    parser.add_argument("--mias", type=Path, help=f"folder of mini-MIAS, {mias}")
    parser.add_argument("--cache", type=Path, required=True, help="folder for preprocessed images, training's will do")
    parser.add_argument("--split-seed", type=int, default=0, help="of the split by patient, as in training")
    return parser


def amend(package: ModelPackage, manifest: Manifest, figures: Mapping[str, Any], section: str) -> ModelPackage:
    """Write the manifest, the evaluation's figures and the card's section, which replaces one of the same "## " title.

    Files that the manifest names are in the folder already. Raises PackageError where the result would not be valid.
    """
    _write(package.folder / EVALUATION_NAME, json.dumps({**evaluation_of(package), **figures}, indent=2))
    card = package.model_card.read_text(encoding="utf-8")
    _write(package.model_card, with_section(card, section))
    _write(package.folder / MANIFEST_NAME, json.dumps(asdict(manifest), indent=2))
    return load_package(package.folder)


def evaluation_of(package: ModelPackage) -> dict[str, Any]:
    """What its training and the commands after it have measured; nothing of a package from elsewhere."""
    file = package.folder / EVALUATION_NAME
    if not file.is_file():
        return {}
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def with_section(card: str, section: str) -> str:
    """The card with a section, "## Title" and text, in its old place, or before "## Limits", or at the end."""
    title = section.splitlines()[0]
    old = re.search(rf"^{re.escape(title)}\n.*?(?=^## |\Z)", card, re.MULTILINE | re.DOTALL)
    block = section.strip() + "\n\n"
    if old:
        return card[: old.start()] + block + card[old.end() :]
    at = card.find("## Limits\n")
    return card[:at] + block + card[at:] if at >= 0 else card.rstrip() + "\n\n" + block


def with_weights(manifest: Manifest, *added: Weights) -> Manifest:
    """The manifest with variants, each in the place of one of the same precision."""
    names = {item.precision for item in added}
    return replace(manifest, weights=(*(item for item in manifest.weights if item.precision not in names), *added))


def _write(file: Path, text: str) -> None:
    file.write_text(text.rstrip() + "\n", encoding="utf-8")
