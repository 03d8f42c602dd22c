"""Everything that is said about a package on a set of images, as one JSON-ready dictionary."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.annotations import Case
from engines.base import EngineDescription
from engines.evaluation.bootstrap import DIGITS, Interval, by_patient
from engines.evaluation.breasts import breasts
from engines.evaluation.calibration import (
    at_own_share,
    brier,
    calibration_error,
    errors_by_chance,
    line,
    reliability,
    share_intervals,
)
from engines.evaluation.figures import figures
from engines.evaluation.judging import Outcomes
from engines.evaluation.pool import Judged, pooled
from engines.evaluation.subgroups import subgroups
from engines.manifest import Manifest

Answers = tuple[NDArray[np.float64], NDArray[np.int64]]  # 0..1 and 1 or 0, (N,) each

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
        "Benign / malignant: lesions of known pathology, by their best finding. The AUC of all lesions reads each "
        "lesion at the best candidate on it, reported or not; beside it one that is not found at the operating point "
        "counts with the lowest malignancy, as it does where there is no candidate at all."
    ),
    (
        "Breasts: those with a mass of known pathology that are shown in CC and MLO, benign or malignant by the mean "
        "over their images of the highest probability of cancer on each, reported or not."
    ),
    (
        "Calibration (Brier score, ECE in 10 bins of equal width): the probability of cancer of every finding at the "
        "operating point, false positives counting as no cancer; null where the package gives none. Such a probability "
        'holds for the share of cancers among findings that it was fitted on; "at own share" scales its odds to the '
        "share of this set, as a site does with cancer_share. The malignancy is calibrated over the lesions found. "
        "Few findings show an error by chance alone, which is given too. Slope and intercept: of the line that the "
        "truths follow over the logits of the answers; 1 and 0 where they are calibrated."
    ),
)

FEW = 20  # patients
TOO_FEW = (
    "Only {patients} patients: such intervals are too narrow, and one that is a single number, as 0 to 0, says nothing."
)


def report(
    engine: EngineDescription, manifest: Manifest, threshold: float, cases: Sequence[Case], outcomes: Outcomes
) -> dict[str, Any]:
    """cases: all of the table, also those left out."""
    judged = outcomes.judged
    pool = pooled(judged)
    given = manifest.probability_of_cancer
    share = given.share if given else None
    patients = len({item.patient for item in judged})
    return {
        "package": {**asdict(engine), "probability_of_cancer": asdict(given) if given else None},
        **figures(judged, threshold, share),
        **calibrations(judged, threshold, share),
        "breasts": breasts(outcomes.items),
        "subgroups": subgroups(outcomes.items, threshold, pool.threshold_at(1.0)),
        "left_out": {
            "only_another_abnormality": Counter(case.kind for case in cases)["other"],
            "unreadable": list(outcomes.unreadable),
        },
        "refused": [{"image": item.case.image.name, "reason": item.refused} for item in outcomes.items if item.refused],
        "warnings": [TOO_FEW.format(patients=patients)] if patients < FEW else [],
        "notes": list(NOTES),
    }


def calibrations(judged: Sequence[Judged], threshold: float, share: float | None) -> dict[str, Any]:
    """Of the probability of cancer as it is and at the set's own share of cancers, and of the malignancy."""
    groups = by_patient(judged)
    findings = [pool.findings(threshold) for pool in groups]
    return {
        "calibration": _calibration(findings),
        "calibration_at_own_share": _calibration(_moved(findings, share)) if share is not None else None,
        "calibration_of_malignancy": _calibration([pool.found_lesions(threshold) for pool in groups]),
    }


def _moved(groups: Sequence[Answers], share: float) -> list[Answers]:
    """Answers that are meant for that share of cancers, scaled to the share of all; none where that is 0 or 1."""
    if not groups:
        return []
    truths = np.concatenate([truths for _, truths in groups])
    answers = at_own_share(np.concatenate([answers for answers, _ in groups]), truths, share)
    ends = np.cumsum([len(truths) for _, truths in groups])
    if np.isnan(answers).any():
        return []
    return list(zip(np.split(answers, ends[:-1]), [truths for _, truths in groups], strict=True))


def _calibration(groups: Sequence[Answers]) -> dict[str, Any] | None:
    """None without answers. chance_ece: what perfectly calibrated answers show on average; p_value: how often more.

    groups: of each patient. The share in each bin has its patient-bootstrap interval.
    """
    if not sum(len(answers) for answers, _ in groups):
        return None
    answers, truths = (np.concatenate(parts) for parts in zip(*groups, strict=True))
    ends = share_intervals(groups)
    error, by_chance, found = calibration_error(answers, truths), errors_by_chance(answers), line(answers, truths)
    return {
        "count": len(answers),
        "cancers": int(truths.sum()),
        "brier": round(brier(answers, truths), DIGITS),
        "ece": round(error, DIGITS),
        "chance_ece": round(float(by_chance.mean()), DIGITS),
        "p_value": round(float((by_chance >= error).mean()), DIGITS),
        "line": {key: round(value, DIGITS) for key, value in asdict(found).items()} if found else None,
        "reliability": [
            {key: round(value, DIGITS) for key, value in asdict(item).items()}
            | {"interval": Interval(item.share, *map(float, ends[:, item.index])).as_json()}
            for item in reliability(answers, truths)
        ],
    }
