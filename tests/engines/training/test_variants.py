import json
import shutil
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from engines.decode import decode, iou
from engines.golden import agreement, answers, golden_inputs
from engines.onnx import open_onnx
from engines.openvino import open_openvino
from engines.package import find_package, load_package
from engines.preprocess import prepare, to_batch
from engines.training import guard, variants
from engines.training.halve import halve
from engines.training.quantize import answering, quantize
from engines.training.variants import Figures, changes, holds, report
from engines.trt.process import run_child
from engines.trt.settings import BuildSettings
from tests.engines.phantom import Blob, phantom

EXACT = Figures(0.90, 0.80, 0.75, 0.2)


def test_a_variant_holds_only_where_every_area_does() -> None:
    """Either area beyond 0.005 loses it, for better or worse; none shown at all loses it too."""
    near = Figures(0.904, 0.796, 0.70, 0.1)
    for wrong in (
        Figures(0.906, 0.8, 0.75, 0.1),
        Figures(0.90, 0.794, 0.75, 0.1),
        Figures(None, None, 0.75, 0.1),
    ):
        assert not holds({"fp32": EXACT, "int8": wrong}, "int8")
    assert holds({"fp32": EXACT, "int8": near}, "int8")
    assert holds({"fp32": EXACT, "int8": Figures(None, 0.799, 0.7, 0.1)}, "int8")


def test_the_report_has_the_changes_and_the_ratio() -> None:
    """Differences to float32, and how many times as fast; what is not shown is a dash."""
    measured = {"fp32": EXACT, "int8": Figures(None, 0.81, 0.74, 0.1)}
    assert changes(measured, "int8") == {"image_auc": None, "malignancy_auc": 0.01, "froc": -0.01}
    facts, section = report(measured)
    assert facts["int8"]["times_as_fast"] == 2.0
    assert facts["int8"]["ships"] is False
    assert "| int8 | - | +0.0100 | -0.0100 | 2.00 | no |" in section
    assert facts["fp32"]["latency_s"] == pytest.approx(0.2)


def _phantoms(folder: Path) -> Path:
    """Ten phantoms of ten patients, one mass each."""
    lines = ["image,patient,laterality,view,x_px,y_px,w_px,h_px,pathology"]
    for number in range(10):
        x, y = 80, 150 + 10 * number
        image = phantom(400, 240, "left", [Blob(x, y, 16, 0.5)], seed=number)
        cv2.imwrite(str(folder / f"{number}.png"), (image.pixels * 255).astype(np.uint8))
        pathology = "MALIGNANT" if number % 2 else "BENIGN"
        lines.append(f"{number}.png,P{number},L,CC,{x - 12},{y - 12},24,24,{pathology}")
    (folder / "annotations.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shipped package without its guard and variants."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(find_package("mammo-mass"), folder, dirs_exist_ok=True)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest.update(guard=None, weights=[item for item in manifest["weights"] if item["precision"] == "fp32"])
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_package_gets_a_guard_and_variants(package: Path, tmp_path: Path) -> None:
    """Both commands on one package: the guard refuses what is far, int8 answers much as float32 does, all is said."""
    common = ["--package", str(package), "--data", str(_phantoms(tmp_path)), "--cache", str(tmp_path / "cache")]
    assert guard.main(common) == 0
    assert variants.main([*common, "--fp16"]) == 0
    evaluation = json.loads((package / "evaluation.json").read_text())
    assert evaluation["guard"]["trained"] == 8
    assert {"fp32", "int8", "fp16"} <= evaluation["variants"].keys()
    loaded = load_package(package)
    assert loaded.guard() is not None
    card = loaded.model_card.read_text()
    assert "## Input guard" in card
    assert "## Speed variants" in card
    ships = {name for name, facts in evaluation["variants"].items() if facts.get("ships")}
    assert {item.precision for item in loaded.manifest.weights} == {"fp32", *ships}
    for precision in ("int8", "fp16"):
        assert (package / f"mammo-mass-{precision}.onnx").is_file() == (precision in ships)


def test_int8_answers_much_as_float32_does(package: Path, tmp_path: Path) -> None:
    """A quarter of the size, and on a phantom the same hottest place."""
    loaded = load_package(package)
    planes = np.stack([prepare(phantom(seed=seed), loaded.preprocess).planes for seed in range(3)])
    file = tmp_path / "int8.onnx"
    quantize(package / loaded.weights().file, file, planes)
    assert file.stat().st_size < loaded.weights().size_bytes / 2.5
    batch = to_batch(prepare(phantom(blobs=[Blob(160, 430, 40)]), loaded.preprocess).planes[None])
    exact, rough = (
        open_onnx(path, precision, 1).run(batch)
        for path, precision in ((package / loaded.weights().file, "fp32"), (file, "int8"))
    )
    assert exact.keys() == rough.keys()
    # Proposals are the best forty of either run, so that only what is found, or sorted, can be compared.
    found, again = (decode(outputs, 0, loaded.decode) for outputs in (exact, rough))
    assert iou(found.boxes[:1], again.boxes[:1])[0, 0] > 0.7
    assert again.scores[0] == pytest.approx(found.scores[0], abs=0.1)
    for name in ("proposal_score", "embedding"):
        assert np.corrcoef(exact[name].ravel(), rough[name].ravel())[0, 1] > 0.9, name


def test_float16_answers_as_float32_does_and_tensorrt_rtx_builds_it(package: Path, tmp_path: Path) -> None:
    """Half of the size; on golden inputs within the tolerance of either runtime; built, not executed, for a GPU."""
    pytest.importorskip("openvino", reason="the backend openvino is not installed")
    loaded = load_package(package)
    file = tmp_path / "fp16.onnx"
    halve(package / loaded.weights().file, file)
    assert file.stat().st_size < loaded.weights().size_bytes / 1.5
    golden = golden_inputs(loaded)[:2]
    exact = answers(open_onnx(package / loaded.weights().file, "fp32", 1), golden)
    for opener in (open_onnx, open_openvino):
        found = agreement(exact, answers(opener(file, "fp16", 1), golden), "fp16")
        assert found.holds, (opener, found)
        assert found.excess > 0
    pytest.importorskip("tensorrt_rtx", reason="not installed: tensorrt-rtx")
    request = {"task": "build", "bindings": "tensorrt_rtx", "onnx": str(file), "engine": str(tmp_path / "engine")}
    run_child(request | {"timing_cache": None, "settings": asdict(BuildSettings())}, 240)
    assert (tmp_path / "engine").stat().st_size < loaded.weights().size_bytes


def test_bad_data_ends_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No table or no package: exit code 1 and one line from either command."""
    for main in (guard.main, variants.main):
        assert main(["--package", "mammo-mass", "--data", str(tmp_path), "--cache", str(tmp_path / "c")]) == 1
        assert "annotations.csv is missing" in capsys.readouterr().err
        assert main(["--package", str(tmp_path), "--data", str(tmp_path), "--cache", str(tmp_path / "c")]) == 1
        assert "no model package" in capsys.readouterr().err


def test_what_answers_stays_float32(package: Path) -> None:
    """The three convolutions of score, sides and malignancy, and no other."""
    loaded = load_package(package)
    found = answering(onnx.load(package / loaded.weights().file))
    assert len(found) >= 3
    assert len(found) <= 4
