"""The parts put together as the settings say."""

import json
import shutil
from pathlib import Path

import pytest

from dicomnode.config import ModelSettings
from dicomnode.findings import ScoreMeaning
from dicomnode.workshop import open_model
from engines.detector import Detector
from engines.errors import PackageError
from engines.package import find_package
from engines.threads import MOST, processors


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ({"malignancy_is_probability": True, "prompt_threshold": 0.7}, ScoreMeaning(True, 0.7)),
        ({"malignancy_is_probability": False}, ScoreMeaning(False, 0.0)),
    ],
)
def test_a_package_says_what_its_scores_may_be_called(
    tmp_path: Path, said: dict[str, object], meaning: ScoreMeaning
) -> None:
    """From the manifest to the reports: without the package's word a malignancy is no probability."""
    folder = tmp_path / "package"
    shutil.copytree(find_package("mammo-mass"), folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest.pop("malignancy_is_probability", None)
    manifest.pop("prompt_threshold", None)
    (folder / "manifest.json").write_text(json.dumps(manifest | said))
    assert open_model(ModelSettings(package=str(folder), backend="onnxruntime")).scores == meaning


def test_a_network_that_cannot_answer_is_not_opened(tmp_path: Path) -> None:
    """A worker does not start with it, and `dicomnode check` says why."""
    pytest.importorskip("onnx", reason="onnx is not installed (extra train)")
    from tests.support.small_network import write_package  # noqa: PLC0415  it needs onnx

    folder = write_package(tmp_path / "mine", "shape")
    with pytest.raises(PackageError, match="the output 'sides' has shape"):
        open_model(ModelSettings(package=str(folder), backend="onnxruntime"))


@pytest.mark.parametrize(("threads", "at_once"), [(1, 1), (3, 3), (0, min(MOST, processors()))])
def test_threads_bound_decoding_preparing_and_the_network(threads: int, at_once: int) -> None:
    """The setting reaches all three, and a processor's backend never has more calls than threads."""
    model = open_model(ModelSettings(package="mammo-mass", backend="onnxruntime", threads=threads))
    assert isinstance(model.engine, Detector)
    assert (model.threads, model.engine.threads, model.engine.at_once) == (threads, threads, at_once)
