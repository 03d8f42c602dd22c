from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from engines.decode import DecodeSettings, decode
from engines.networks.one_stage import RawOutputs
from engines.networks.two_stage import (
    PROPOSALS,
    SUPPRESSED,
    TwoStageDetector,
    TwoStageOutputs,
    enlarged,
    propose,
    refined,
    sample_regions,
)
from engines.onnx import open_onnx
from engines.openvino import open_openvino
from engines.signature import VIEWS
from engines.training.export import export_onnx
from engines.trt.process import run_child
from engines.trt.settings import ONE_VIEW, STUDY, BuildSettings

ROWS, COLUMNS = 128, 96


def _raw() -> RawOutputs:
    """Two peaks, the second with a lower neighbour, on a quiet map of 16 x 12 cells."""
    heat = torch.full((1, 1, 16, 12), -8.0)
    heat[0, 0, 4, 3], heat[0, 0, 10, 8], heat[0, 0, 10, 9] = 3.0, 2.0, 1.0
    sides = torch.zeros(1, 4, 16, 12)
    sides[0, :, 4, 3] = torch.log(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    return RawOutputs(heat, sides, torch.full_like(heat, -1.0), torch.zeros(1, 112))


def test_proposals_are_the_peaks_best_first() -> None:
    """The two peaks come with their boxes in pixels and their logits; a cell on a slope is none."""
    found = propose(_raw(), 4)
    torch.testing.assert_close(found.score[0, :2], torch.tensor([3.0, 2.0]))
    expected = [(3.5 - 1) * 8, (4.5 - 2) * 8, (3.5 + 3) * 8, (4.5 + 4) * 8]
    torch.testing.assert_close(found.boxes[0, 0], torch.tensor(expected))
    torch.testing.assert_close(found.malignancy, torch.full((1, 4), -1.0))
    assert float(found.score[0, 2]) < 1.0


def test_proposals_agree_with_the_one_stage_decoding() -> None:
    """The graph finds the boxes that the NumPy decoding of the same maps finds."""
    raw = _raw()
    found = decode({name: value.numpy() for name, value in raw._asdict().items()}, 0, DecodeSettings())
    torch.testing.assert_close(propose(raw, 2).boxes[0], torch.from_numpy(found.boxes), atol=1e-3, rtol=1e-4)


def test_too_few_peaks_are_filled_up_below_every_score() -> None:
    """A slope gives one peak; the rest of the fixed number says that it is none."""
    raw = _raw()._replace(heat=torch.arange(16.0 * 12).reshape(1, 1, 16, 12))
    assert (propose(raw, 5).score[0, 1:] == SUPPRESSED).all()


@pytest.mark.parametrize("stride", [4, 8])
def test_regions_are_sampled_where_they_lie(stride: int) -> None:
    """On a map that holds its own coordinates, samples of a frame are the frame's coordinates."""
    rows, columns = ROWS // stride, COLUMNS // stride
    y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
    maps = torch.stack([x, y])[None].float() * stride
    frames = torch.tensor([[[20.0, 30.0, 60.0, 90.0], [16.0, 16.0, 32.0, 32.0]]])
    found = sample_regions(maps, frames, stride, 4)
    torch.testing.assert_close(found[0, 0, 0], torch.tensor([25.0, 35.0, 45.0, 55.0]))
    torch.testing.assert_close(found[0, 1, :, 0], torch.tensor([37.5, 52.5, 67.5, 82.5]))
    torch.testing.assert_close(found[1, 0, 2], torch.tensor([18.0, 22.0, 26.0, 30.0]))


def test_boxes_grow_and_move_about_their_centres() -> None:
    """Twice the sides about the same centre; no change leaves a box as it is, a shift of one side moves it by that."""
    box = torch.tensor([[[10.0, 20.0, 30.0, 60.0]]])
    torch.testing.assert_close(enlarged(box, 2.0), torch.tensor([[[0.0, 0.0, 40.0, 80.0]]]))
    torch.testing.assert_close(refined(box, torch.zeros(1, 1, 4)), box)
    moved = refined(box, torch.tensor([[[1.0, 0.0, 0.0, float(np.log(2.0))]]]))
    torch.testing.assert_close(moved, torch.tensor([[[30.0, 0.0, 50.0, 80.0]]]))


@pytest.fixture(scope="module")
def network() -> TwoStageDetector:
    """Untrained, with a heat-map that differs from cell to cell."""
    torch.manual_seed(0)
    network = TwoStageDetector().eval()
    torch.nn.init.normal_(network.first.heat.weight, std=1.0)
    torch.nn.init.normal_(network.region.score.weight, std=1.0)
    return network


@pytest.fixture(scope="module")
def exported(network: TwoStageDetector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its ONNX file."""
    file = tmp_path_factory.mktemp("export") / "two-stage.onnx"
    export_onnx(network, ROWS, COLUMNS, file)
    return file


def test_any_number_of_views_goes_in(exported: Path) -> None:
    """Of all lengths only the first is open, and TensorRT prepares for one view and for a study."""
    model = onnx.load(exported)
    for item in (*model.graph.input, *model.graph.output):
        first, *rest = item.type.tensor_type.shape.dim
        assert first.dim_param == VIEWS
        assert all(length.dim_value > 0 for length in rest)


def test_tensorrt_rtx_builds_it_for_studies(exported: Path, tmp_path: Path) -> None:
    """Parsed and built, with both profiles; not executed."""
    pytest.importorskip("tensorrt_rtx", reason="not installed: tensorrt-rtx")
    request = {"task": "build", "bindings": "tensorrt_rtx", "onnx": str(exported), "engine": str(tmp_path / "engine")}
    answer = run_child(request | {"timing_cache": None, "settings": asdict(BuildSettings())}, 240)
    assert answer["profiles"] == [asdict(ONE_VIEW), asdict(STUDY)]
    assert (tmp_path / "engine").stat().st_size > 1_000_000


@pytest.mark.parametrize("opener", [open_onnx, open_openvino])
def test_every_backend_answers_like_torch(network: TwoStageDetector, exported: Path, opener: object) -> None:
    """All outputs of the exported graph agree with PyTorch's, and decode to the same candidates."""
    pytest.importorskip("openvino", reason="the backend openvino is not installed")
    batch = np.random.default_rng(0).normal(0, 0.5, (1, 3, ROWS, COLUMNS)).astype(np.float32)
    with torch.inference_mode():
        expected = {name: value.numpy() for name, value in network(torch.from_numpy(batch))._asdict().items()}
    assert callable(opener)
    found = opener(exported, "fp32", 1).run(batch)
    assert set(found) == set(TwoStageOutputs._fields)
    assert found["masks"].shape == (1, PROPOSALS, 28, 28)
    peaks = int((expected["proposal_score"] > SUPPRESSED).sum())
    assert peaks > 3
    for name, values in found.items():
        ranked = slice(None) if name == "embedding" else slice(0, peaks)
        np.testing.assert_allclose(values[:, ranked], expected[name][:, ranked], atol=5e-3, rtol=5e-3, err_msg=name)
    settings = DecodeSettings(floor=0.0, network="two-stage", region_share=0.7)
    np.testing.assert_allclose(decode(found, 0, settings).boxes, decode(expected, 0, settings).boxes, atol=0.1)


def test_the_graph_has_standard_operators_only(exported: Path) -> None:
    """What TensorRT has no implementation of, or only a plugin for, is not in the graph."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    model = onnx.load(exported)
    used = {node.op_type for node in model.graph.node}
    assert {"TopK", "GridSample"} <= used
    assert not used & {"NonMaxSuppression", "RoiAlign", "MaxRoiPool", "NonZero", "If", "Loop"}
    assert all(node.domain == "" for node in model.graph.node)
    assert [opset.version for opset in model.opset_import if not opset.domain] == [18]


def test_stages_train_together_and_the_first_keeps_its_statistics() -> None:
    """Training mode leaves the first stage's batch statistics alone where it is told to, and moves the second's."""
    network = TwoStageDetector()
    network.first.keeps_statistics = True
    network.train()
    still = [network.first.pyramid.out[1], network.first.backbone._bn0]
    before = [module.running_mean.clone() for module in still]
    moving = network.region.trunk[1].running_mean.clone()
    network(torch.randn(1, 3, ROWS, COLUMNS))
    assert all(torch.equal(module.running_mean, mean) for module, mean in zip(still, before, strict=True))
    assert not torch.equal(network.region.trunk[1].running_mean, moving)
