import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.decode import DecodeSettings, decode, iou, suppress
from engines.errors import EngineOutputError

BOX = st.tuples(st.floats(0, 100), st.floats(0, 100), st.floats(1, 60), st.floats(1, 60))
SCORED = st.lists(st.tuples(BOX, st.floats(0.01, 1)), min_size=0, max_size=25)


def _arrays(scored: list[tuple[tuple[float, float, float, float], float]]) -> tuple[np.ndarray, np.ndarray]:
    boxes = np.array([(x, y, x + w, y + h) for (x, y, w, h), _ in scored], np.float32).reshape(-1, 4)
    return boxes, np.array([score for _, score in scored], np.float32)


def _covers(better: np.ndarray, box: np.ndarray, overlap: float) -> bool:
    centre = (box[:2] + box[2:]) / 2
    inside = bool(((centre >= better[:2]) & (centre <= better[2:])).all())
    return inside or bool(iou(better[None], box[None])[0, 0] >= overlap)


@given(scored=SCORED, overlap=st.floats(0.1, 0.9))
def test_suppression_keeps_no_pair_and_drops_none_without_a_better_one(
    scored: list[tuple[tuple[float, float, float, float], float]], overlap: float
) -> None:
    """What is kept does not cover each other; what is dropped is covered by something kept and at least as good."""
    boxes, scores = _arrays(scored)
    kept = suppress(boxes, scores, overlap)
    assert list(scores[kept]) == sorted(scores[kept], reverse=True)
    for place, index in enumerate(kept):
        assert not any(_covers(boxes[better], boxes[index], overlap) for better in kept[:place])
    for index in set(range(len(boxes))) - set(kept.tolist()):
        assert any(scores[better] >= scores[index] and _covers(boxes[better], boxes[index], overlap) for better in kept)


@given(scored=SCORED, seed=st.integers(0, 99))
def test_suppression_does_not_depend_on_order(
    scored: list[tuple[tuple[float, float, float, float], float]], seed: int
) -> None:
    """Shuffled input keeps the same boxes, where no two scores are equal."""
    boxes, scores = _arrays(scored)
    scores = np.linspace(0.1, 0.9, len(scores), dtype=np.float32)
    order = np.random.default_rng(seed).permutation(len(boxes))
    first = {int(index) for index in suppress(boxes, scores, 0.3)}
    second = {int(order[index]) for index in suppress(boxes[order], scores[order], 0.3)}
    assert first == second


@given(scored=SCORED)
def test_iou_is_symmetric_and_one_with_itself(
    scored: list[tuple[tuple[float, float, float, float], float]],
) -> None:
    """IoU lies in 0..1, is 1 on the diagonal and the same both ways."""
    boxes, _ = _arrays(scored)
    values = iou(boxes, boxes)
    assert ((values >= 0) & (values <= 1 + 1e-5)).all()
    np.testing.assert_allclose(values, values.T, atol=1e-6)
    np.testing.assert_allclose(np.diag(values), 1.0, atol=1e-3)


def _maps(rows: int = 20, columns: int = 12) -> dict[str, np.ndarray]:
    return {
        "heat": np.full((1, 1, rows, columns), -8.0, np.float32),
        "sides": np.zeros((1, 4, rows, columns), np.float32),
        "malignancy": np.full((1, 1, rows, columns), -2.0, np.float32),
    }


def test_a_peak_becomes_its_box() -> None:
    """A cell's centre and its four distances, in strides of 8 pixels, give the box."""
    maps = _maps()
    maps["heat"][0, 0, 5, 3] = 2.0
    maps["heat"][0, 0, 5, 4] = 1.0  # on the slope: no peak of its own
    maps["sides"][0, :, 5, 3] = np.log([1, 2, 3, 4])
    maps["malignancy"][0, 0, 4:7, 2:5] = 1.0
    found = decode(maps, 0, DecodeSettings())
    np.testing.assert_allclose(found.boxes, [[(3.5 - 1) * 8, (5.5 - 2) * 8, (3.5 + 3) * 8, (5.5 + 4) * 8]], rtol=1e-5)
    assert found.scores == pytest.approx([1 / (1 + np.exp(-2.0))], abs=1e-5)
    assert found.malignancy == pytest.approx([1 / (1 + np.exp(-1.0))], abs=1e-5)


def test_a_quiet_map_has_no_findings() -> None:
    """Below the floor there is nothing, and the arrays keep their shapes."""
    found = decode(_maps(), 0, DecodeSettings())
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == found.malignancy.shape == (0,)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda maps: maps.pop("sides"), "no output named 'sides'"),
        (lambda maps: maps.update(sides=maps["heat"]), "shape"),
        (lambda maps: maps["heat"].__setitem__((0, 0, 0, 0), np.nan), "not finite"),
    ],
    ids=["missing", "shape", "nan"],
)
def test_nonsense_from_a_network_is_an_error(change: object, complaint: str) -> None:
    """A missing output, a wrong shape and values that are not finite are each named."""
    maps = _maps()
    assert callable(change)
    change(maps)
    with pytest.raises(EngineOutputError, match=complaint):
        decode(maps, 0, DecodeSettings())


def _regions() -> dict[str, np.ndarray]:
    """Three proposals: stage 1 prefers the first, stage 2 the second; the third only fills up."""
    boxes = np.array([[0, 0, 20, 20], [100, 100, 140, 140], [200, 0, 220, 20]], np.float32)
    masks = np.full((3, 28, 28), -4.0, np.float32)
    masks[1] = 4.0
    return {
        "proposal_score": np.array([[2.0, 0.0, -30.0]], np.float32),
        "region_score": np.array([[-2.0, 3.0, 9.0]], np.float32),
        "proposal_malignancy": np.array([[1.0, -1.0, 0.0]], np.float32),
        "region_malignancy": np.array([[1.0, 3.0, 0.0]], np.float32),
        "boxes": boxes[None],
        "masks": masks[None],
        "frames": boxes[None] + 1,
    }


def _two_stage(share: float) -> DecodeSettings:
    return DecodeSettings(network="two-stage", region_share=share)


def test_the_share_weighs_the_stages() -> None:
    """Logits of score and malignancy are weighed; masks and frames follow their boxes; what fills up is dropped."""
    found = decode(_regions(), 0, _two_stage(0.75))
    assert found.boxes[:, 0].tolist() == [100, 0]
    assert found.scores == pytest.approx([1 / (1 + np.exp(-2.25)), 1 / (1 + np.exp(1.0))], abs=1e-5)
    assert found.malignancy == pytest.approx([1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(-1.0))], abs=1e-5)
    assert found.masks is not None
    assert found.frames is not None
    assert found.masks[0].min() > 0.9
    assert found.masks[1].max() < 0.1
    assert found.frames[:, 0].tolist() == [101, 1]
    assert decode(_regions(), 0, _two_stage(0.0)).boxes[:, 0].tolist() == [0, 100]


@pytest.mark.parametrize("name", ["region_score", "boxes", "masks", "frames"])
def test_outputs_of_another_network_are_an_error(name: str) -> None:
    """A one-stage network's maps, or regions of different numbers, are no regions."""
    with pytest.raises(EngineOutputError, match="no output named 'boxes'"):
        decode(_maps(), 0, _two_stage(0.5))
    outputs = _regions()
    outputs[name] = outputs[name][:, :2] if name != "boxes" else outputs[name][..., :3]
    with pytest.raises(EngineOutputError, match=f"'{name}' has shape"):
        decode(outputs, 0, _two_stage(0.5))
