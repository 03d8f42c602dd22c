"""Packages without weights: the same door, the same checks."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.errors import BackendUnavailable, PackageError
from engines.factory import open_region_engine
from engines.package import RegionPackage, find_package, load_any_package, load_package, shipped_packages

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the shipped package that a test may damage."""
    folder = tmp_path / "package"
    shutil.copytree(find_package("ct-lung"), folder)
    return folder


def test_the_shipped_package_is_valid() -> None:
    """It loads, says what it finds, and its card says what it cannot."""
    assert "ct-lung" in shipped_packages()
    package = load_any_package(find_package("ct-lung"))
    assert isinstance(package, RegionPackage)
    assert package.manifest.modalities == ("CT",)
    assert [(item.value, item.scheme, item.category) for item in package.labels] == [("39607008", "SCT", "anatomy")]
    card = (package.folder / package.manifest.model_card).read_text()
    for needed in ("Not for clinical use", "## Limits", "not evaluated on patients", package.manifest.version):
        assert needed in card
    for limit in (package.manifest.components.lowest, package.manifest.components.highest):
        assert f"{limit:.0f}" in card


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda m: m.pop("components"), "components: "),
        (lambda m: m["components"].update(lowest=-400.0), "lowest must be below"),
        (lambda m: m["components"].update(least_ml=0.0), "components.least_ml: "),
        (lambda m: m["components"].update(most=0), "components.most: "),
        (lambda m: m["components"].update(surprise=1), "components.surprise: "),
        (lambda m: m.update(weights=[]), "weights: "),
        (lambda m: m.update(engine="guess"), "engine: "),
        (lambda m: m["labels"].append(m["labels"][0]), "labels: "),
        (lambda m: m["labels"][0].update(category="thing"), "labels.0.category: "),
        (lambda m: m.update(format=99), "format is 99"),
        (lambda m: m.update(model_card="../card.md"), "plain file name"),
    ],
)
def test_each_fault_of_a_manifest_is_named(package: Path, change: Change, complaint: str) -> None:
    """A bad manifest is refused with the field in the message."""
    manifest = json.loads((package / "manifest.json").read_text())
    change(manifest)
    (package / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PackageError, match=complaint):
        load_any_package(package)


def test_a_missing_model_card_is_named(package: Path) -> None:
    """A package carries its card, weights or not."""
    (package / "MODEL_CARD.md").unlink()
    with pytest.raises(PackageError, match=r"MODEL_CARD\.md is missing"):
        load_any_package(package)


def test_it_is_no_detector() -> None:
    """Who needs weights and gets a package without is told so."""
    with pytest.raises(PackageError, match="threshold-components package, where a detector is needed"):
        load_package(find_package("ct-lung"))


def test_it_runs_no_network() -> None:
    """A backend that is asked for by name and cannot be given is refused, and not silently left out."""
    package = load_any_package(find_package("ct-lung"))
    assert isinstance(package, RegionPackage)
    assert open_region_engine(package).description.backend == "scipy"
    with pytest.raises(BackendUnavailable, match="runs no network"):
        open_region_engine(package, "onnxruntime")
