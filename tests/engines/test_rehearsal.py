"""A package of one's own: what the README of packages says is enough, and what is wrong is told when it is opened."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed (extra train)")

from engines.base import Analysed
from engines.comparison import Candidate, bench
from engines.decode import DecodeSettings, decode
from engines.errors import EngineOutputError, PackageError
from engines.factory import open_engine
from engines.golden import golden_inputs, reference_answers
from engines.package import load_package
from engines.rehearsal import rehearse
from tests.engines.phantom import Blob, phantom
from tests.support.small_network import README, Fault, write_package


def test_the_documented_manifest_makes_a_package_that_finds(tmp_path: Path) -> None:
    """Loaded, rehearsed, and a bright blob is found where it is."""
    engine = open_engine(load_package(write_package(tmp_path / "mine")), "onnxruntime", 1)
    assert rehearse(engine) > 0
    (outcome,) = engine.analyse([phantom(blobs=[Blob(220, 500, 40)])])
    assert isinstance(outcome, Analysed)
    best = outcome.detections[0]
    assert best.box[0] < 220 < best.box[2]
    assert best.box[1] < 500 < best.box[3]


def test_a_network_that_says_no_malignancy_says_so(tmp_path: Path) -> None:
    """It needs no such output, and no finding is given one that was made up."""
    folder = write_package(tmp_path / "mine", "mute")
    with pytest.raises(PackageError, match="no output named 'malignancy'"):
        rehearse(open_engine(load_package(folder), "onnxruntime", 1))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["decode"]["malignancy"] = False
    (folder / "manifest.json").write_text(json.dumps(manifest))
    engine = open_engine(load_package(folder), "onnxruntime", 1)
    rehearse(engine)
    (outcome,) = engine.analyse([phantom(blobs=[Blob(220, 500, 40)])])
    assert isinstance(outcome, Analysed)
    assert [item.malignancy for item in outcome.detections] == [None] * len(outcome.detections) != []


def test_the_documented_way_around_another_detector_is_read() -> None:
    """The wrapper of the README, around boxes and probabilities: scores come back, and nothing else is claimed."""
    torch = pytest.importorskip("torch", reason="torch is not installed (extra train)")
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert code is not None
    room: dict[str, Any] = {"torch": torch}
    exec(code[1], room)  # noqa: S102  our own README
    wrapper = room["AsTwoStage"]()
    wrapper.theirs = lambda _: (torch.tensor([[[8.0, 8, 40, 40], [200, 300, 260, 380]]]), torch.tensor([[0.1, 0.9]]))
    answers = wrapper(torch.zeros(1, 3, 640, 384))
    outputs = {name: value.numpy() for name, value in zip(room["OUTPUTS"], answers, strict=True)}
    found = decode(outputs, 0, DecodeSettings(network="two-stage", malignancy=False))
    np.testing.assert_allclose(found.scores, [0.9, 0.1], atol=1e-5)
    np.testing.assert_allclose(found.boxes[0], [200, 300, 260, 380])
    assert np.isnan(found.malignancy).all()


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("fault", "takes"),
    [
        ("input", r"'pictures', float32 \(1, 3, 640, 384\)"),
        ("second", r"'images', float32 \(1, 3, 640, 384\) and 'age', float32 \(1\)"),
        ("half", r"'images', \S*f\S*16\S* \(1, 3, 640, 384\)"),
        ("planes", r"'images', float32 \(1, 1, 640, 384\)"),
    ],
)
def test_every_backend_refuses_the_same_inputs(tmp_path: Path, backend: str, fault: Fault, takes: str) -> None:
    """What one would convert or ignore, and another refuse at the first image, none opens."""
    pytest.importorskip(backend)
    package = load_package(write_package(tmp_path / "mine", fault))
    with pytest.raises(PackageError, match=rf"network\.onnx takes {takes}; needed is 'images' alone, float32"):
        open_engine(package, backend, 1)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("size", "ONNX Runtime failed"),
        ("name", "no output named 'heat'; it has heatmap, malignancy, sides"),
        ("shape", r"the output 'sides' has shape \(2, 80, 48\); expected \(4, any, any\)"),
        ("nan", "the output 'heat' holds values that are not finite"),
        ("whole", "the output 'heat' holds int64; expected float32"),
        ("sigmoid", "the output 'heat' lies within 0..1 everywhere"),
    ],
)
def test_a_network_that_cannot_answer_is_told_with_its_package(tmp_path: Path, fault: Fault, told: str) -> None:
    """Before any study ends as one that could not be processed, and before it is timed."""
    package = load_package(write_package(tmp_path / "mine", fault))
    engine = open_engine(package, "onnxruntime", 1)
    said = f"the package my-mass 1.0 in .*mine: .*{told}"
    with pytest.raises(PackageError, match=said):
        rehearse(engine)
    with pytest.raises(PackageError, match=said):
        bench(package, [Candidate("onnxruntime", "fp32", engine)], 1)


def test_what_is_no_answer_is_no_reference(tmp_path: Path) -> None:
    """Two backends may agree on outputs that no detector has; `dicomnode engine verify` does not call that good."""
    package = load_package(write_package(tmp_path / "mine", "name"))
    with pytest.raises(EngineOutputError, match="no output named 'heat'"):
        reference_answers(package, "fp32", golden_inputs(package, 1))
