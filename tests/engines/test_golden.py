from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.errors import EngineOutputError
from engines.golden import Outputs, agreement, answers, golden_inputs
from engines.onnx import open_onnx
from engines.openvino import open_openvino
from engines.package import ModelPackage, find_package, load_package

PROPOSALS = 12


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    """The shipped one."""
    return load_package(find_package("mammo-mass"))


@pytest.fixture
def outputs() -> Outputs:
    """As a two-stage network gives them, for two images."""
    rng = np.random.default_rng(1)
    scores = np.tile(np.linspace(3, -8, PROPOSALS, dtype=np.float32), (2, 1))
    corners = rng.uniform(0, 300, (2, PROPOSALS, 2))
    frames = np.concatenate([corners, corners + rng.uniform(20, 60, corners.shape)], axis=2).astype(np.float32)
    return {
        "proposal_score": scores,
        "frames": frames,
        "boxes": frames + 3,
        "embedding": rng.normal(size=(2, 112)).astype(np.float32),
    }


def _swapped(outputs: Outputs, first: int, second: int) -> dict[str, NDArray[np.float32]]:
    """Two proposals of the first image change places."""
    copies = {name: values.copy() for name, values in outputs.items()}
    for name in ("proposal_score", "frames", "boxes"):
        copies[name][0, [first, second]] = outputs[name][0, [second, first]]
    return copies


def test_the_same_answers_agree(outputs: Outputs) -> None:
    """No difference at all, in every output."""
    found = agreement(outputs, outputs, "fp32")
    assert found.holds
    assert found.excess == 0
    assert dict(found.differences) == dict.fromkeys(outputs, 0.0)


def test_neighbours_may_change_places(outputs: Outputs) -> None:
    """Proposals are compared by their place in the image, not in the list."""
    assert agreement(outputs, _swapped(outputs, 3, 4), "fp32").holds


@pytest.mark.parametrize("name", ["proposal_score", "boxes", "embedding"])
def test_one_wrong_number_is_found_and_named(outputs: Outputs, name: str) -> None:
    """A single value that is off, in any output."""
    wrong = {key: values.copy() for key, values in outputs.items()}
    wrong[name].reshape(2, -1)[1, 2] += 200
    found = agreement(outputs, wrong, "fp16")
    assert not found.holds
    assert found.worst == name
    assert found.differences[name] == pytest.approx(200, abs=1e-2)


def test_a_missing_proposal_is_a_difference(outputs: Outputs) -> None:
    """Where the other looked elsewhere, nothing near is there to compare with."""
    wrong = {key: values.copy() for key, values in outputs.items()}
    wrong["frames"][0, 1] = 5000
    assert not agreement(outputs, wrong, "int8").holds


def test_the_end_of_the_list_does_not_count(outputs: Outputs) -> None:
    """The last proposals may be others: whatever scores hardly less is cut off by chance."""
    other = {key: values.copy() for key, values in outputs.items()}
    other["frames"][:, -1] = 0
    other["boxes"][:, -1] = 0
    assert agreement(outputs, other, "fp32").holds


def test_what_cannot_be_compared_is_an_error(outputs: Outputs) -> None:
    """Another set of outputs, another shape, or a number that is none."""
    with pytest.raises(EngineOutputError, match="the reference has"):
        agreement(outputs, {"boxes": outputs["boxes"]}, "fp32")
    with pytest.raises(EngineOutputError, match=r"shape \(2, 111\)"):
        agreement(outputs, {**outputs, "embedding": outputs["embedding"][:, 1:]}, "fp32")
    with pytest.raises(EngineOutputError, match="not finite"):
        agreement(outputs, {**outputs, "boxes": outputs["boxes"] * np.float32("nan")}, "fp32")


@dataclass
class Counting:
    """A backend that answers with the mean of each image, and takes several at once."""

    name: str = "counting"
    precision: str = "fp32"
    largest_batch: int = 3

    def run(self, batch: NDArray[np.float32]) -> Outputs:
        """One number an image."""
        assert len(batch) <= self.largest_batch
        return {"mean": batch.mean(axis=(1, 2, 3))[:, None]}


def test_inputs_are_the_same_every_time_and_fill_several_calls(package: ModelPackage) -> None:
    """Golden inputs are golden, look like network inputs, differ from each other, and go in as many calls as needed."""
    golden = golden_inputs(package)
    assert golden.shape == (4, 3, package.preprocess.rows, package.preprocess.columns)
    np.testing.assert_array_equal(golden, golden_inputs(package))
    assert golden.min() >= -1
    assert golden.max() <= 1.01
    found = answers(Counting(), golden)["mean"]
    np.testing.assert_allclose(found[:, 0], golden.mean(axis=(1, 2, 3)), rtol=1e-5)
    assert len(set(found[:, 0].tolist())) == 4


def test_openvino_agrees_with_the_reference(package: ModelPackage) -> None:
    """The tolerance of float32 is one that two real runtimes keep on the shipped network."""
    pytest.importorskip("openvino", reason="the backend openvino is not installed")
    weights = package.folder / package.weights().file
    golden = golden_inputs(package)[:2]
    reference, other = (answers(opener(weights, "fp32", 1), golden) for opener in (open_onnx, open_openvino))
    found = agreement(reference, other, "fp32")
    assert found.holds, found
    assert found.excess > 0
    assert not agreement(reference, answers(open_onnx(weights, "fp32", 1), golden[::-1]), "fp32").holds
