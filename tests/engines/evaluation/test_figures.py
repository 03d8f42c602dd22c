from typing import Any

import numpy as np
import pytest

from engines.evaluation.figures import accuracy, figures, precision
from engines.evaluation.pool import Judged, pooled


def _judged(
    patient: str,
    scores: list[float],
    lesion: list[int],
    malignant: list[int],
    looks: list[float] | None = None,
    located: bool = True,
    cancer: list[float] | None = None,
) -> Judged:
    malignancy = np.array(scores if looks is None else looks, np.float32)
    probability = np.array([np.nan] * len(scores) if cancer is None else cancer, np.float32)
    hit, truths = np.array(lesion, np.intp), np.array(malignant, np.int8)
    return Judged(patient, np.array(scores, np.float32), malignancy, probability, hit, truths, located)


def _figures(judged: list[Judged], threshold: float) -> dict[str, Any]:
    """Of a package that gives no probability of cancer."""
    return figures(judged, threshold, None)


MIXED = [
    _judged("P1", [0.9, 0.2], [0, -1], [1], looks=[0.8, 0.1]),  # called, found
    _judged("P2", [0.3], [0], [0], looks=[0.4]),  # not called: below 0.5
    _judged("P3", [0.6, 0.55], [-1, -1], [], looks=[0.3, 0.3]),  # a normal image, called
    _judged("P4", [], [], []),  # a normal image without any detection
]


def _value(found: dict[str, object], name: str) -> float:
    figure = found[name]
    assert isinstance(figure, dict)
    assert figure["low"] <= figure["value"] <= figure["high"]
    return float(figure["value"])


def test_image_figures_are_counted_by_hand() -> None:
    """One of two mass images and one of two normal images is called at 0.5; of four pairs of images three are right."""
    found = _figures(MIXED, 0.5)
    assert (found["images"], found["patients"], found["lesions"]) == (4, 4, 2)
    assert (found["mass_images"], found["normal_images"]) == (2, 2)
    assert _value(found, "image_auc") == 0.75
    assert [_value(found, name) for name in ("sensitivity", "specificity", "accuracy", "precision")] == [0.5] * 4


def test_an_operating_point_elsewhere_gives_other_figures() -> None:
    """At 0.25 both mass images are called: three of four are right, two of three called have a mass."""
    found = _figures(MIXED, 0.25)
    assert _value(found, "sensitivity") == 1.0
    assert _value(found, "specificity") == 0.5
    assert accuracy(pooled(MIXED), 0.25) == 0.75
    assert precision(pooled(MIXED), 0.25) == pytest.approx(2 / 3)
    assert accuracy(pooled(MIXED), 0.7) == 0.75
    assert precision(pooled(MIXED), 0.7) == 1.0


def test_lesion_figures_are_counted_by_hand() -> None:
    """Three false positives (0.6, 0.55, 0.2) in four images; lesions at 0.9 and 0.3."""
    found = _figures(MIXED, 0.5)
    assert {rate: figure["value"] for rate, figure in found["froc"].items()} == {
        "0.25": 0.5,  # one is allowed: above 0.55
        "0.5": 1.0,  # two are allowed: above 0.2
        "1": 1.0,
        "2": 1.0,
        "4": 1.0,
    }
    assert _value(found, "lesion_sensitivity") == 0.5
    assert _value(found, "false_positives_per_image") == 0.5


def test_malignancy_of_found_and_of_all_lesions() -> None:
    """Found: cancers at 0.8 and 0.3, benign at 0.4. A cancer that is not found is below all, a benign one too."""
    judged = [
        _judged("P1", [0.9, 0.8], [0, 1], [1, 0], looks=[0.8, 0.4]),
        _judged("P2", [0.9, 0.1], [0, 1], [1, 1], looks=[0.3, 0.99]),  # the second below the operating point
        _judged("P3", [], [], [0]),
    ]
    found = _figures(judged, 0.5)
    assert _value(found, "malignancy_auc_detected") == 0.5
    # (0.8, 0.3, lowest) against (0.4, lowest): 1 + 1, 0 + 1, 0 + a tie
    assert _value(found, "malignancy_auc_all_reported") == pytest.approx(3.5 / 6, abs=1e-4)
    # (0.8, 0.3, 0.99) against (0.4, lowest): 1 + 1, 0 + 1, 1 + 1
    assert _value(found, "malignancy_auc_all") == pytest.approx(5 / 6, abs=1e-4)
    assert _value(found, "malignancy_brier") == pytest.approx((0.2**2 + 0.4**2 + 0.7**2) / 3, abs=1e-4)
    assert _value(found, "malignancy_ece") == pytest.approx((0.2 + 0.4 + 0.7) / 3, abs=1e-4)
    assert found["brier"] is found["ece"] is found["ece_at_own_share"] is None


def test_ties_count_one_half() -> None:
    """A mass image and a normal image with the same best score, and no detection at all on both."""
    judged = [_judged("P1", [0.5], [0], [1]), _judged("P2", [0.5], [-1], [])]
    assert pooled(judged).image_auc() == 0.5
    assert pooled([_judged("P1", [], [], [1]), _judged("P2", [], [], [])]).image_auc() == 0.5


def test_a_set_without_normal_images_has_no_image_figures_but_sensitivity() -> None:
    """What needs both kinds of image is null; the share of mass images that are called is not."""
    found = _figures([item for item in MIXED if len(item.malignant)], 0.5)
    assert [found[name] for name in ("image_auc", "accuracy", "precision", "specificity")] == [None] * 4
    assert _value(found, "sensitivity") == 0.5
    assert _value(found, "malignancy_auc_all") == 1.0


def test_a_set_of_normal_images_has_no_lesion_figures() -> None:
    """Nothing to find: the free-response curve, malignancy and calibration are null."""
    found = _figures([item for item in MIXED if not len(item.malignant)], 0.5)
    assert set(found["froc"].values()) == {None}
    names = (
        "sensitivity",
        "accuracy",
        "lesion_sensitivity",
        "malignancy_auc_all",
        "malignancy_auc_detected",
        "malignancy_brier",
    )
    assert [found[name] for name in names] == [None] * 6
    assert _value(found, "specificity") == 0.5
    assert _value(found, "false_positives_per_image") == 1.0


def test_unknown_pathology_is_in_no_malignancy_figure() -> None:
    """A lesion that nobody biopsied is found or not; it is neither benign nor malignant."""
    found = _figures([_judged("P1", [0.9], [0], [-1]), _judged("P2", [0.9], [0], [1])], 0.5)
    assert found["malignancy_auc_detected"] is found["malignancy_auc_all"] is None
    assert _value(found, "malignancy_brier") == pytest.approx(0.01, abs=1e-4)
    assert _value(found, "lesion_sensitivity") == 1.0


def test_a_package_that_says_no_malignancy_has_none() -> None:
    """NaN answers give null, not a chance figure."""
    nothing = [float("nan")]
    judged = [_judged("P1", [0.9], [0], [1], nothing), _judged("P2", [0.9], [0], [0], nothing)]
    judged.append(_judged("P3", [], [], [1]))
    found = _figures(judged, 0.5)
    names = ("malignancy_auc_detected", "malignancy_auc_all", "malignancy_brier", "malignancy_ece")
    assert [found[name] for name in names] == [None] * 4


def test_a_mass_without_a_place_counts_as_an_image_alone() -> None:
    """It is called or not; its detections are neither hits nor false positives."""
    judged = [*MIXED, _judged("P5", [0.7], [-1], [], located=False)]
    found = _figures(judged, 0.5)
    assert (found["mass_images"], found["normal_images"], found["lesions"]) == (3, 2, 2)
    assert _value(found, "sensitivity") == pytest.approx(2 / 3, abs=1e-4)
    assert _value(found, "false_positives_per_image") == 0.5


def test_findings_count_false_positives_as_no_cancer() -> None:
    """Every finding at the operating point, a second one on a lesion too; unknown pathology is left out."""
    judged = [
        _judged("P1", [0.9, 0.8, 0.7, 0.1], [0, 0, -1, -1], [1], cancer=[0.6, 0.5, 0.4, 0.3]),
        _judged("P2", [0.9], [0], [-1], cancer=[0.9]),
    ]
    answers, truths = pooled(judged).findings(0.5)
    assert answers == pytest.approx([0.6, 0.5, 0.4])
    assert truths.tolist() == [1, 1, 0]


def test_the_probability_is_judged_over_all_findings() -> None:
    """Three findings, one on a cancer: as they are, and with the odds scaled from one in two to one in three."""
    judged = [
        _judged("P1", [0.9, 0.8], [0, -1], [1], cancer=[0.8, 0.5]),
        _judged("P2", [0.7, 0.1], [0, -1], [0], cancer=[0.2, 0.9]),
    ]
    found = figures(judged, 0.5, 0.5)
    assert _value(found, "brier") == pytest.approx((0.2**2 + 0.5**2 + 0.2**2) / 3, abs=1e-4)
    assert _value(found, "ece") == pytest.approx((0.2 + 0.5 + 0.2) / 3, abs=1e-4)
    # odds 4, 1 and 1/4, halved: 2, 1/2 and 1/8
    assert _value(found, "ece_at_own_share") == pytest.approx((1 / 3 + 1 / 3 + 1 / 9) / 3, abs=1e-4)
    without = [_judged("P1", [0.9], [-1], [1], cancer=[0.3])]
    assert figures(without, 0.5, 0.5)["ece_at_own_share"] is None
