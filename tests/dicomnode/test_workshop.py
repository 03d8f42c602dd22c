"""The parts put together as the settings say."""

import json
import shutil
from pathlib import Path

import pytest

from dicomnode import logs
from dicomnode.config.sections import ModelSettings
from dicomnode.reading.findings import ScoreMeaning
from dicomnode.workshop import open_model
from engines.detector import Detector
from engines.errors import PackageError
from engines.package import find_package
from engines.threads import MOST, processors

GIVEN = {"calibration": {"slope": 1.0, "intercept": 0.0}, "share": 0.4}


@pytest.mark.parametrize(
    ("said", "share", "meaning"),
    [
        ({"probability_of_cancer": GIVEN | {"holds": True}, "prompt_threshold": 0.7}, 0.02, ScoreMeaning(0.02, 0.7)),
        ({"probability_of_cancer": GIVEN | {"holds": True}}, None, ScoreMeaning(None, 0.0)),
        ({"probability_of_cancer": GIVEN | {"holds": False}}, 0.02, ScoreMeaning(None, 0.0)),
        ({"probability_of_cancer": None}, 0.02, ScoreMeaning(None, 0.0)),
    ],
)
def test_package_and_site_say_together_what_scores_may_be_called(
    tmp_path: Path,
    said: dict[str, object],
    share: float | None,
    meaning: ScoreMeaning,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A probability is stated where the package shows that it is one, and the site says for which share; else told."""
    folder = tmp_path / "package"
    shutil.copytree(find_package("mammo-mass"), folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest.pop("prompt_threshold", None)
    (folder / "manifest.json").write_text(json.dumps(manifest | said))
    logs.configure("json", "INFO")
    model = open_model(ModelSettings(package=str(folder), backend="onnxruntime", cancer_share=share))
    assert model.scores == meaning
    told = "probability not stated" in capsys.readouterr().err
    assert told == (share is not None and meaning.cancer_share is None)
    assert isinstance(model.engine, Detector)
    given = model.engine.package.manifest.probability_of_cancer
    assert (given.share if given else None) == (
        meaning.cancer_share or (0.4 if said["probability_of_cancer"] else None)
    )


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
