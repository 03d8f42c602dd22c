import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.evaluation.pool import Judged
from engines.manifest import Calibration, CancerProbability
from engines.package import find_package, load_package
from engines.training import probability
from engines.training.cancer import KEY, proven, section
from engines.training.card import model_card
from engines.training.origin import CBIS, NAME, Origin
from engines.training.probability import main
from engines.training.recipe import Recipe
from tests.engines.phantom import Blob, phantom

GIVEN = CancerProbability(Calibration(1.2, -0.3), 0.4)


def _judged(answers: NDArray[np.float64], truths: NDArray[np.int8]) -> list[Judged]:
    """One finding to a patient, all at the same score, each on a lesion."""
    values = np.ones((len(answers), 1), np.float32)
    cancer, hit = answers.astype(np.float32), np.zeros(1, np.intp)
    return [
        Judged(f"P{number}", value, value, cancer[number : number + 1], hit, truths[number : number + 1])
        for number, value in enumerate(values)
    ]


def _drawn(sharpness: float) -> list[Judged]:
    """200 findings whose truths fall by their answers, or by answers of other sharpness."""
    rng = np.random.default_rng(0)
    answers = rng.uniform(0.1, 0.9, 200)
    chances = 1 / (1 + np.exp(-sharpness * np.log(answers / (1 - answers))))
    return _judged(answers, (rng.random(200) < chances).astype(np.int8))


def test_test_patients_decide_whether_it_holds() -> None:
    """Calibrated answers hold; answers that are half as sure as they say, and too few, do not."""
    assert proven(GIVEN, _drawn(1.0), 0.5).holds
    assert not proven(GIVEN, _drawn(0.3), 0.5).holds
    assert not proven(GIVEN, _drawn(1.0)[:99], 0.5).holds
    assert not proven(GIVEN, _drawn(1.0), 1.5).holds  # no finding at that threshold


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped package, as if validation and test patients were none that it has learned from."""
    folder = Path(shutil.copytree(find_package("mammo-mass"), tmp_path / "package"))
    evaluation = folder / "evaluation.json"
    evaluation.write_text(json.dumps({**json.loads(evaluation.read_text()), "crossed": False}))
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Ten phantoms of ten patients with a mass each: one to validate on and one to test on."""
    lines = ["image,patient,x_px,y_px,w_px,h_px,pathology"]
    for number in range(10):
        image = phantom(400, 240, "left", [Blob(80, 180, 16, 0.5)], seed=number)
        cv2.imwrite(str(tmp_path / f"{number}.png"), (image.pixels * 255).astype(np.uint8))
        lines.append(f"{number}.png,P{number},68,168,24,24,MALIGNANT")
    (tmp_path / "annotations.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def _run(folder: Path, data: Path) -> int:
    return main(["--package", str(folder), "--data", str(data), "--cache", str(data / "cache")])


def test_a_package_gets_its_probability_with_what_is_known_of_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fitted on validation patients alone; manifest, evaluation and card tell the same, and weights stay."""
    before = load_package(folder)
    sets = {"validation": _drawn(2.0), "test": _drawn(2.0), "mini_mias": _drawn(0.3)}
    monkeypatch.setattr(probability, "_judged", lambda *_: sets)
    assert _run(folder, tmp_path) == 0
    package = load_package(folder)
    found = package.manifest.probability_of_cancer
    assert found is not None
    assert found.holds
    assert found.calibration.slope == pytest.approx(1.9, abs=0.3)  # trusted near 1, and true is 2
    assert package.weights() == before.weights()
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert evaluation[KEY]["share"] == found.share
    assert evaluation["guard"] == json.loads((find_package("mammo-mass") / "evaluation.json").read_text())["guard"]
    assert evaluation["mini_mias"]["ece"]["value"] > 2 * evaluation["test"]["ece"]["value"]
    card = package.model_card.read_text()
    assert section(evaluation).strip() in card
    assert card.count("## Probability of cancer") == 1
    assert f"{found.share:.1%} of the findings are cancers" in card


def test_what_is_not_shown_is_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where test patients contradict it, the manifest does not let reports state it, and the card says why."""
    monkeypatch.setattr(probability, "_judged", lambda *_: {"validation": _drawn(2.0), "test": _drawn(0.3)})
    assert _run(folder, tmp_path) == 0
    package = load_package(folder)
    assert package.manifest.probability_of_cancer is not None
    assert not package.manifest.probability_of_cancer.holds
    assert "**not shown**" in package.model_card.read_text()


def test_a_package_from_elsewhere_gets_its_first_evaluation(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that no training of ours wrote has no figures yet."""
    (folder / "evaluation.json").unlink()
    monkeypatch.setattr(probability, "_judged", lambda *_: {"validation": _drawn(2.0), "test": _drawn(2.0)})
    assert _run(folder, tmp_path) == 0
    assert set(json.loads((folder / "evaluation.json").read_text())) == {KEY, "validation", "test"}


def test_what_says_no_malignancy_gets_none(folder: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing that a probability of cancer could be read from."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["decode"]["malignancy"] = False
    (folder / "manifest.json").write_text(json.dumps(manifest | {"probability_of_cancer": None}))
    assert _run(folder, images) == 1
    assert "mammo-mass says no malignancy" in capsys.readouterr().err


def test_too_little_data_changes_nothing(folder: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One validation patient, looked at by the package's own network, or no data at all: a message, and no change."""
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert _run(folder, images) == 1
    assert "the validation patients have too few findings" in capsys.readouterr().err
    assert _run(folder, images / "nowhere") == 1
    assert "annotations.csv is missing" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_the_card_of_a_training_has_the_same_section() -> None:
    """What training publishes tells of the probability as the command does, once, before the limits."""
    package = load_package(find_package("mammo-mass"))
    evaluation = json.loads((package.folder / "evaluation.json").read_text())
    recipe = Recipe("train", (("one-stage", 2, 1),), 8, 0, 1.0, by_clock=False)
    card = model_card(package.manifest, evaluation, recipe, Origin(NAME, "1", "free", CBIS, "random weights"))
    assert card.count(section(evaluation)) == 1
    assert section(evaluation) in package.model_card.read_text() + "\n"
    assert card.index("## Measured") < card.index("## Probability of cancer") < card.index("## Limits")
