"""Everything that is said about a package on a set of images, as one JSON-ready dictionary."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from numpy import float64, int64
from numpy.typing import NDArray

from engines.annotations import Case
from engines.base import EngineDescription
from engines.evaluation.bootstrap import DIGITS
from engines.evaluation.calibration import brier, calibration_error, errors_by_chance, reliability
from engines.evaluation.figures import figures
from engines.evaluation.judging import Outcomes
from engines.evaluation.pool import pooled
from engines.evaluation.subgroups import subgroups
from engines.manifest import Manifest

NOTES = (
    "Intervals: 95 % percentile bootstrap over patients, 1000 resamples, seed 0.",
    (
        "Image figures: an image counts as called where it has a finding at the operating point, wherever that lies; "
        "image AUC by the best score of each image. Images with a mass against images marked normal."
    ),
    (
        "A hit: IoU of at least 0.2, or the finding's centre inside the truth. A second finding on a lesion is no "
        "false positive. False positives are counted on all images of the set, with a mass and normal."
    ),
    (
        "Left out of all figures: images with only another abnormality than a mass. An image with a mass that nobody "
        "located counts in the image figures alone. A refused image counts as one without findings."
    ),
    (
        "Benign / malignant: lesions of known pathology, by their best finding; in the AUC of all lesions one that "
        "was not found at the operating point counts with the lowest malignancy."
    ),
    (
        "Calibration (Brier score, ECE in 10 bins of equal width): the probability of cancer of the lesions found. "
        "Beside it every finding, false positives counting as no cancer: by its malignancy, and by the product of "
        "score and malignancy. Few lesions show an error by chance alone, which is given too."
    ),
)


def report(
    engine: EngineDescription, manifest: Manifest, threshold: float, cases: Sequence[Case], outcomes: Outcomes
) -> dict[str, Any]:
    """cases: all of the table, also those left out."""
    judged = outcomes.judged
    pool = pooled(judged)
    return {
        "package": {**asdict(engine), "malignancy_is_probability": manifest.malignancy_is_probability},
        **figures(judged, threshold),
        "calibration": _calibration(*pool.found_lesions(threshold)),
        "calibration_of_findings": _calibration(*pool.findings(threshold)),
        "calibration_of_products": _calibration(*pool.products(threshold)),
        "subgroups": subgroups(outcomes.items, threshold, pool.threshold_at(1.0)),
        "left_out": {
            "only_another_abnormality": Counter(case.kind for case in cases)["other"],
            "unreadable": list(outcomes.unreadable),
        },
        "refused": [{"image": item.case.image.name, "reason": item.refused} for item in outcomes.items if item.refused],
        "notes": list(NOTES),
    }


def _calibration(answers: NDArray[float64], truths: NDArray[int64]) -> dict[str, Any] | None:
    """None without answers. chance_ece: what perfectly calibrated answers show on average; p_value: how often more."""
    if not len(answers):
        return None
    error, by_chance = calibration_error(answers, truths), errors_by_chance(answers)
    return {
        "count": len(answers),
        "brier": round(brier(answers, truths), DIGITS),
        "ece": round(error, DIGITS),
        "chance_ece": round(float(by_chance.mean()), DIGITS),
        "p_value": round(float((by_chance >= error).mean()), DIGITS),
        "reliability": [
            {key: round(value, DIGITS) for key, value in asdict(item).items()} for item in reliability(answers, truths)
        ],
    }
