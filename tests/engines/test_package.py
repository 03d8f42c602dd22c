import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.errors import EngineError, PackageError
from engines.package import find_package, load_package, shipped_packages

LARGEST_WEIGHTS = 25_000_000
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the shipped package that a test may damage."""
    folder = tmp_path / "package"
    shutil.copytree(find_package("mammo-mass"), folder)
    return folder


def _edit(folder: Path, change: Change) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_the_shipped_package_is_valid() -> None:
    """It loads, its checksums hold, its weights are small enough to ship and its card has figures."""
    package = load_package(find_package("mammo-mass"))
    assert package.name == "mammo-mass"
    assert package.modalities == ("MG",)
    assert [(item.name, item.value, item.scheme) for item in package.labels] == [("mass", "4147007", "SCT")]
    assert 0 < package.threshold < 1
    assert package.weights("fp32").size_bytes < LARGEST_WEIGHTS
    card = package.model_card.read_text()
    for needed in ("Not for clinical use", "10.7937/K9/TCIA.2016.7O02S9CY", "CC BY 3.0", "Apache-2.0", "## Limits"):
        assert needed in card


def test_shipped_variants_moved_no_area() -> None:
    """Whatever ships beside float32 was measured: neither area under a ROC curve moved by more than 0.005."""
    package = load_package(find_package("mammo-mass"))
    measured = json.loads((package.folder / "evaluation.json").read_text()).get("variants", {})
    for item in package.manifest.weights:
        if item.precision != "fp32":
            changes = measured[item.precision]["changes"]
            shown = [changes[name] for name in ("image_auc", "malignancy_auc") if changes[name] is not None]
            assert shown
            assert max(map(abs, shown)) <= 0.005, item.precision


def test_a_package_is_found_by_name_and_by_path(package: Path) -> None:
    """Shipped ones by name, any by its folder; an unknown name lists what there is."""
    assert "mammo-mass" in shipped_packages()
    assert find_package(str(package)) == package
    with pytest.raises(PackageError, match=r"shipped .*mammo-mass"):
        find_package("no-such-model")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda m: m.pop("threshold"), "threshold: "),
        (lambda m: m.update(threshold=1.5), "threshold: "),
        (lambda m: m.update(threshold="0.5"), "threshold: "),
        (lambda m: m.update(format=99), "format is 99"),
        (lambda m: m.update(surprise=1), "surprise: "),
        (lambda m: m.update(labels=[]), "labels: "),
        (lambda m: m["labels"].append(m["labels"][0]), "labels: "),
        (lambda m: m["labels"][0].update(value="x" * 17), "labels.0.value: "),
        (lambda m: m.update(weights=[]), "weights: "),
        (lambda m: m["weights"].append(m["weights"][0]), "precisions must differ"),
        (lambda m: m["weights"][0].update(file="../outside.onnx"), "plain file name"),
        (lambda m: m["weights"][0].update(precision="fp64"), "weights.0.precision: "),
        (lambda m: m["weights"][0].update(sha256="abc"), "weights.0.sha256: "),
        (lambda m: m["preprocess"].update(filter="sobel"), "preprocess.filter: "),
        (lambda m: m["preprocess"].update(rows=650), "multiples of 32"),
        (lambda m: m["decode"].update(nms=1), "decode.nms: "),
        (lambda m: m["decode"].update(findings=0), "decode.findings: "),
        (lambda m: m["decode"].update(overlap=7.0), "decode.overlap: "),
        (lambda m: m["decode"].update(floor=1.0), "decode.floor: "),
        (lambda m: m["decode"].update(network="one-stage", outlines="learned"), "only a two-stage network draws"),
        (lambda m: m["preprocess"].update(largest_scale=0.0), "preprocess.largest_scale: "),
        (lambda m: m["preprocess"].update(working_side=0), "preprocess.working_side: "),
        (lambda m: m["preprocess"].update(high_percentile=500.0), "preprocess.high_percentile: "),
        (lambda m: m["preprocess"].update(low_percentile=99.8), "low_percentile must be below"),
        (lambda m: m["score_calibration"].update(intercept=float("inf")), "score_calibration.intercept: "),
        (lambda m: m["decode"].update(malignancy=False), "decode.malignancy is false"),
        (lambda m: m.update(engine="detektor"), "engine: there are 'detector' and 'threshold-components'"),
        (lambda m: m.update(name="my/mass"), "name: "),
        (lambda m: m.update(version="1" * 65), "version: "),
        (lambda m: m.update(modalities=["mg"]), "modalities.0: "),
        (lambda m: m.update(views=["mlo"]), "views.0: "),
        (lambda m: m["labels"][0].update(meaning="Mass\\Knoten"), "labels.0.meaning: "),
        (lambda m: m.update(prompt_threshold=0.01), "prompt_threshold is below threshold"),
        (lambda m: m.update(malignancy_is_probability=True), "malignancy_is_probability: "),
        (lambda m: m["probability_of_cancer"].update(share=1.0), "probability_of_cancer.share: "),
        (lambda m: m["probability_of_cancer"].update(holds="yes"), "probability_of_cancer.holds: "),
        (lambda m: m["score_calibration"].update(slope=-1.0), "score_calibration.slope: "),
        (lambda m: m.update(guard={"file": "g.npz", "sha256": "0" * 64, "limit": 0.0}), "guard.limit: "),
        (lambda m: m.update(guard={"file": "../g.npz", "sha256": "0" * 64, "limit": 1.0}), "plain file name"),
    ],
)
def test_each_fault_of_a_manifest_is_named(package: Path, change: Change, complaint: str) -> None:
    """A bad manifest is refused with the file and the field in the message."""
    _edit(package, change)
    with pytest.raises(PackageError, match=complaint) as caught:
        load_package(package)
    assert "manifest.json" in str(caught.value)


def test_only_the_field_itself_is_named(package: Path) -> None:
    """Not the list around it, which is wrong for that reason alone."""
    _edit(package, lambda m: m["labels"][0].update(value=4147007))
    with pytest.raises(PackageError, match=r"manifest: labels\.0\.value: [^;]*$"):
        load_package(package)


def test_what_windows_writes_is_read(package: Path) -> None:
    """A byte order mark before the manifest, and a digest in capital letters."""
    _edit(package, lambda m: m["weights"][0].update(sha256=m["weights"][0]["sha256"].upper()))
    file = package / "manifest.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert load_package(package).name == "mammo-mass"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}'])
def test_what_is_no_manifest_is_refused(package: Path, text: str) -> None:
    """Empty, broken and foreign JSON are package errors, never others."""
    (package / "manifest.json").write_text(text)
    with pytest.raises(PackageError, match="not a valid manifest"):
        load_package(package)


def test_changed_weights_are_refused(package: Path) -> None:
    """One changed byte and the package does not load; the message has both digests."""
    file = package / load_package(package).weights().file
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    file.write_bytes(data)
    with pytest.raises(PackageError, match=r"SHA-256 [0-9a-f]{64}, the manifest says [0-9a-f]{64}"):
        load_package(package)


def test_a_changed_or_missing_guard_is_refused(package: Path) -> None:
    """The input guard's file is verified like the weights."""
    _edit(package, lambda m: m.update(guard={"file": "guard.npz", "sha256": "0" * 64, "limit": 1.0}))
    (package / "guard.npz").unlink(missing_ok=True)
    with pytest.raises(PackageError, match=r"input guard .*guard\.npz cannot be read"):
        load_package(package)
    (package / "guard.npz").write_bytes(b"something else")
    with pytest.raises(PackageError, match=r"guard\.npz has SHA-256"):
        load_package(package)


@pytest.mark.parametrize("name", ["manifest.json", "mammo-mass-fp32.onnx", "MODEL_CARD.md"])
def test_a_missing_file_is_named(package: Path, name: str) -> None:
    """Without its manifest, weights or model card a folder is no package."""
    (package / name).unlink()
    with pytest.raises(PackageError, match=name):
        load_package(package)


def test_a_precision_that_is_not_there_is_refused(package: Path) -> None:
    """Asking for weights that the package does not have names what it has."""
    with pytest.raises(PackageError, match="no fp16 weights; it has fp32"):
        load_package(package).weights("fp16")


def test_only_a_failed_run_may_be_tried_again() -> None:
    """Of all engine errors, InferenceError alone is retryable."""
    retryable = {error.__name__ for error in EngineError.__subclasses__() if error.retryable}
    assert retryable == {"InferenceError"}
