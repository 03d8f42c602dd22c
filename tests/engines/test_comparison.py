"""Backends beside the reference: what is wrong is told, whichever way it is."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.base import EngineDescription
from engines.comparison import Areas, Candidate, Verified, bench, candidates, close, verify
from engines.detector import Detector
from engines.errors import InferenceError
from engines.factory import Options, open_engine
from engines.golden import Agreement, Outputs
from engines.package import ModelPackage, find_package, load_package


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    """The shipped one, with its float32 weights only."""
    found = load_package(find_package("mammo-mass"))
    return replace(found, manifest=replace(found.manifest, weights=(found.weights(),)))


@dataclass
class Wrong:
    """The reference, with something done to its answers."""

    inner: object
    way: str
    name: str = "wrong"
    precision: str = "fp32"
    largest_batch: int = 1
    closed: bool = False

    def run(self, batch: NDArray[np.float32]) -> Outputs:
        """What the reference says, spoiled."""
        if self.way == "breaks":
            raise InferenceError("it broke")
        outputs = dict(self.inner.run(batch))  # type: ignore[attr-defined]  # any backend
        name = "embedding"
        match self.way:
            case "off":
                outputs[name] = outputs[name] + 0.5
            case "nan":
                outputs[name] = outputs[name] * np.float32("nan")
            case "missing":
                del outputs[name]
        return outputs

    def close(self) -> None:
        """Noted."""
        self.closed = True


def _candidate(package: ModelPackage, way: str) -> Candidate:
    backend = Wrong(open_engine(package, "onnxruntime", 1).backend, way)
    description = EngineDescription(package.name, package.version, "", "wrong", "fp32", "")
    return Candidate("wrong", "fp32", Detector(package, backend, description))


@pytest.mark.parametrize(
    ("way", "said"), [("breaks", "it broke"), ("nan", "not finite"), ("missing", "the reference has")]
)
def test_one_that_fails_does_not_hold(package: ModelPackage, way: str, said: str) -> None:
    """And the reason is kept."""
    (found,) = verify(package, [_candidate(package, way)], [], lambda _: None)
    assert not found.holds
    assert said in found.failed


def test_one_that_is_off_does_not_hold_and_the_right_one_does(package: ModelPackage) -> None:
    """By the output that is off, and by how much."""
    right, wrong = verify(package, [_candidate(package, "right"), _candidate(package, "off")], [], lambda _: None)
    assert right.holds
    assert not wrong.holds
    assert wrong.agreement is not None
    assert wrong.agreement.worst == "embedding"
    assert wrong.agreement.differences["embedding"] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("change", "holds"), [(Areas(0.004, None), True), (Areas(None, -0.006), False), (Areas(0.006, 0.0), False)]
)
def test_an_area_that_moves_too_far_does_not_hold(change: Areas, holds: bool) -> None:
    """In either direction; one that the images cannot show does not count."""
    agrees = Agreement({"boxes": 0.0}, 0.0, "boxes")
    assert Verified("any", "fp32", agreement=agrees, areas=Areas(0.9, 0.7), changes=change).holds == holds


def test_what_cannot_run_is_listed_with_its_reason(package: ModelPackage) -> None:
    """A backend without its precision has no times and is nobody's fault."""
    bf16 = replace(package.weights(), precision="bf16")
    offered = replace(package, manifest=replace(package.manifest, weights=(package.weights(), bf16)))
    found = list(candidates(offered, ("onnxruntime",), 1, Options().tensorrt))
    assert [item.engine is None for item in found] == [False, True]
    exact, rounded = bench(offered, found, rounds=1)
    assert exact.one_view_ms
    assert rounded.one_view_ms is None
    assert "bfloat16" in rounded.missing


def test_a_gpu_is_given_back(package: ModelPackage) -> None:
    """Backends that hold something are closed, others left alone."""
    wrong = _candidate(package, "right")
    close([wrong, Candidate("none", "fp32", None, "missing")])
    assert wrong.engine is not None
    assert getattr(wrong.engine.backend, "closed", False)
