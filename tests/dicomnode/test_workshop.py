"""The parts put together as the settings say."""

import json
import shutil
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest

from dicomnode import logs, workshop
from dicomnode.assembly import Stores
from dicomnode.config.sections import (
    ModelSettings,
    TensorRtSection,
    TritonSection,
    WorkerSettings,
)
from dicomnode.errors import ConfigurationError
from dicomnode.reading.analysis import Model
from dicomnode.reading.findings import ScoreMeaning
from dicomnode.working.abreast import Abreast
from dicomnode.working.worker import Worker
from dicomnode.workshop import open_model, rounds_of_work
from engines.detector import Detector
from engines.errors import PackageError
from engines.package import find_package
from engines.threads import MOST, processors
from tests.support.roles import settings_of_worker

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
    assert model.scores == replace(meaning, report_at=manifest["threshold"])
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


def test_a_package_gets_no_modality_that_it_was_not_made_for() -> None:
    """A CT package under the default modality, as one setting that was forgotten would have it."""
    with pytest.raises(ConfigurationError, match=r"ct-lung is given MG, and its manifest was made for CT: set modal"):
        open_model(ModelSettings(package="ct-lung"))


@pytest.mark.parametrize(("threads", "at_once"), [(1, 1), (3, 3), (0, min(MOST, processors()))])
def test_threads_bound_decoding_preparing_and_the_network(threads: int, at_once: int) -> None:
    """The setting reaches all three, and a processor's backend never has more calls than threads."""
    model = open_model(ModelSettings(package="mammo-mass", backend="onnxruntime", threads=threads))
    assert isinstance(model.engine, Detector)
    assert (model.threads, model.engine.threads, model.engine.at_once) == (threads, threads, at_once)


@dataclass
class FakeGpu:
    """A Backend that runs nothing; it notes on which threads it is made and given back."""

    name: str = "tensorrt"
    precision: str = "fp32"
    largest_batch: int = 16
    threads: list[int] = field(default_factory=lambda: [threading.get_ident()])

    def close(self) -> None:
        """Give the GPU back."""
        self.threads.append(threading.get_ident())


def _owner(tmp_path: Path, stores: Stores, jobs_at_once: int) -> object:
    """Whose rounds they are, once the worker has ended in order."""
    shipped = ModelSettings(package="mammo-mass", backend="onnxruntime", threads=1)
    settings = settings_of_worker(tmp_path, shipped, worker=WorkerSettings(jobs_at_once=jobs_at_once))
    with rounds_of_work(settings, stores, lambda: None) as do_one_round:
        assert not do_one_round()
    return cast("object", do_one_round.__self__)  # type: ignore[attr-defined]  # it is a bound method


@pytest.mark.parametrize(("jobs_at_once", "told"), [(1, False), (4, True)])
def test_a_network_that_takes_one_image_at_a_time_has_one_job_at_a_time(
    tmp_path: Path, stores: Stores, jobs_at_once: int, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """On processors; who asked for more is told."""
    logs.configure("json", "INFO")
    assert isinstance(_owner(tmp_path, stores, jobs_at_once), Worker)
    assert ("worker.jobs_at_once is ignored" in capsys.readouterr().err) == told


@pytest.mark.parametrize(("largest_batch", "kind"), [(16, Abreast), (1, Worker)])
def test_a_gpu_has_a_thread_of_its_own_for_the_jobs_of_all(
    tmp_path: Path, stores: Stores, monkeypatch: pytest.MonkeyPatch, largest_batch: int, kind: type
) -> None:
    """Its backend is made and given back there; jobs are several only where it takes several images."""
    made: list[FakeGpu] = []

    def on_gpu(item: ModelSettings, tensorrt: TensorRtSection, triton: TritonSection) -> Model:
        model = open_model(item, tensorrt, triton)
        assert isinstance(model.engine, Detector)
        made.append(FakeGpu(largest_batch=largest_batch))
        return replace(model, engine=replace(model.engine, backend=made[0], at_once=1))

    monkeypatch.setattr(workshop, "open_model", on_gpu)
    assert isinstance(_owner(tmp_path, stores, 2), kind)
    opened, closed = made[0].threads
    assert opened == closed != threading.get_ident()
