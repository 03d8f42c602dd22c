import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.package import find_package
from engines.training.measure_breast import dice, main, mean_with_interval
from tests.engines.phantom import breast_area, phantom


def _labelled(folder: Path, pectoral: bool) -> None:
    lines = ["image,label,patient"]
    for number, side in enumerate(("left", "right", "left")):
        drawn = np.where(breast_area(side=side), 128, 64).astype(np.uint8)
        if pectoral:
            drawn[:200][drawn[:200] > 64] = 255
        cv2.imwrite(str(folder / f"{number}.png"), phantom(side=side, film=True, seed=number).pixels * 255)
        cv2.imwrite(str(folder / f"{number}-label.png"), drawn)
        lines.append(f"{number}.png,{number}-label.png,P{number}")
    (folder / "annotations.csv").write_text("\n".join(lines) + "\n")


def test_drawn_breasts_are_matched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three phantoms whose breast is known: high Dice, and lower where a part is called pectoral and not counted."""
    _labelled(tmp_path, pectoral=True)
    assert main(["--data", str(tmp_path)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["images"], figures["patients"]) == (3, 3)
    assert figures["dice_with_pectoral"]["value"] > 0.95
    assert figures["dice_without_pectoral"]["value"] < figures["dice_with_pectoral"]["value"] - 0.02


def test_a_package_takes_the_figures_on_its_card(tmp_path: Path) -> None:
    """With --package they stand in its evaluation and its card."""
    _labelled(tmp_path, pectoral=False)
    folder = tmp_path / "package"
    shutil.copytree(find_package("mammo-mass"), folder)
    assert main(["--data", str(tmp_path), "--package", str(folder)]) == 0
    assert json.loads((folder / "evaluation.json").read_text())["breast_region"]["images"] == 3
    assert "on 3 films of 3 patients" in (folder / "MODEL_CARD.md").read_text()


def test_an_image_without_a_breast_counts_as_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A refusal is a Dice of 0, not an image less."""
    _labelled(tmp_path, pectoral=False)
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((900, 540), np.uint8))
    assert main(["--data", str(tmp_path)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["images"] == 3
    assert figures["worst"][0] == {"patient": "P1", "with_pectoral": 0.0, "without_pectoral": 0.0}
    assert figures["dice_with_pectoral"]["value"] < 0.7


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda folder: (folder / "annotations.csv").unlink(), "annotations.csv cannot be read"),
        (lambda folder: (folder / "annotations.csv").write_text("image,patient\na,b\n"), "columns image, label"),
        (lambda folder: (folder / "0-label.png").unlink(), "0-label.png is missing"),
        (lambda folder: cv2.imwrite(str(folder / "0-label.png"), np.zeros((9, 9), np.uint8)), "not of the size"),
        (lambda folder: (folder / "0.png").unlink(), "0.png cannot be read"),
    ],
    ids=["no table", "columns", "no label", "other size", "no image"],
)
def test_bad_data_ends_with_a_message(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: object,
    complaint: str,
) -> None:
    """What is missing is named, with exit code 1."""
    _labelled(tmp_path, pectoral=False)
    assert callable(damage)
    damage(tmp_path)
    assert main(["--data", str(tmp_path)]) == 1
    assert complaint in capsys.readouterr().err


def test_dice_and_its_interval_by_hand() -> None:
    """Half of each shared is one half; the mean is over images, the interval over patients."""
    first, second = np.array([True, True, False]), np.array([False, True, True])
    assert dice(first, second) == 0.5
    interval = mean_with_interval(["A", "A", "B"], [0.5, 0.7, 0.9])
    assert interval.value == pytest.approx(0.7)
    assert (interval.low, interval.high) == pytest.approx((0.6, 0.9))


def test_real_label_maps_are_matched(test_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fifty hand-labelled films: a mean Dice of 0.97 at least, and no breast is lost."""
    assert main(["--data", str(test_data / "ddsm-tissue")]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["dice_with_pectoral"]["value"] >= 0.97
    assert figures["worst"][0]["with_pectoral"] > 0.9
