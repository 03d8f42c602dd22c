"""Judged images as flat arrays, from which every figure is a sum or an order."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

NOT_FOUND = -1.0  # below every score and every malignancy


@dataclass(frozen=True, slots=True)
class Judged:
    """The detections of one image against its truth.

    scores, malignancy, probability (of cancer): float32 (N,), best first; NaN where the package does not say.
    lesion: intp (N,), index of the lesion hit, -1 for a false positive.
    malignant: int8 (M,), of each lesion of the image: 1, 0, or -1 where unknown.
    located: False where the image has a mass that nobody located: it counts as an image, its detections do not.
    """

    patient: str
    scores: NDArray[np.float32]
    malignancy: NDArray[np.float32]
    probability: NDArray[np.float32]
    lesion: NDArray[np.intp]
    malignant: NDArray[np.int8]
    located: bool = True


@dataclass(frozen=True, slots=True)
class Pool:
    """Many judged images.

    image_score: (I,) best score of each image, 0 without a detection. image_mass: (I,) whether it has a mass.
    image_located: (I,) whether its detections can be judged.
    false_score: (F,) of detections that hit nothing. lesion_score, lesion_malignancy: (L,) of the best detection that
    hits each lesion, -1 where none does. lesion_malignant: (L,) 1, 0, -1 unknown.
    found_score, found_probability: (D,) of every detection, probability NaN where the package does not say it.
    found_cancer: (D,) 1 on a malignant lesion, 0 on a benign one or on none, -1 where the pathology is unknown.
    """

    image_score: NDArray[np.float64]
    image_mass: NDArray[np.bool_]
    image_located: NDArray[np.bool_]
    false_score: NDArray[np.float64]
    lesion_score: NDArray[np.float64]
    lesion_malignancy: NDArray[np.float64]
    lesion_malignant: NDArray[np.int8]
    found_score: NDArray[np.float64]
    found_probability: NDArray[np.float64]
    found_cancer: NDArray[np.int8]

    def threshold_at(self, rate: float) -> float:
        """The lowest score at which there are at most `rate` false positives per image."""
        allowed = int(rate * self.image_located.sum())
        if len(self.false_score) <= allowed:
            return 0.0
        return float(np.nextafter(np.sort(self.false_score)[::-1][allowed], np.inf))

    def sensitivity(self, threshold: float) -> float:
        """Share of the lesions found at a threshold; NaN without lesions."""
        return float((self.lesion_score >= threshold).mean()) if len(self.lesion_score) else float("nan")

    def sensitivity_at(self, rate: float) -> float:
        """Share of the lesions found where at most `rate` false positives per image are accepted."""
        return self.sensitivity(self.threshold_at(rate))

    def false_positives(self, threshold: float) -> float:
        """False positives per image at a threshold; NaN without images."""
        images = int(self.image_located.sum())
        return float((self.false_score >= threshold).sum() / images) if images else float("nan")

    def called(self, threshold: float, *, mass: bool) -> float:
        """Share of the images with (or without) a mass that have a finding; NaN where there are none."""
        scores = self.image_score[self.image_mass == mass]
        return float((scores >= threshold).mean()) if len(scores) else float("nan")

    def image_auc(self) -> float:
        """Images with a mass against images without, by the best score of each."""
        return auc(self.image_score, self.image_mass.astype(np.int64))

    def found_lesions(self, threshold: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Malignancy and truth of each lesion of known pathology that is found, from its best detection."""
        chosen = (self.lesion_score >= threshold) & (self.lesion_malignant >= 0) & ~np.isnan(self.lesion_malignancy)
        return self.lesion_malignancy[chosen], self.lesion_malignant[chosen].astype(np.int64)

    def all_lesions(self, threshold: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The same of every lesion of known pathology; one that is not found has the lowest malignancy.

        At a threshold of 0 each lesion is read wherever the package has any candidate on it.
        """
        answers = np.where(self.lesion_score >= threshold, self.lesion_malignancy, NOT_FOUND)
        known = (self.lesion_malignant >= 0) & ~np.isnan(answers).any()  # a package that does not say has no order
        return answers[known], self.lesion_malignant[known].astype(np.int64)

    def findings(self, threshold: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Probability of cancer and truth of every finding; one that hits nothing is no cancer."""
        chosen = (self.found_score >= threshold) & (self.found_cancer >= 0) & ~np.isnan(self.found_probability)
        return self.found_probability[chosen], self.found_cancer[chosen].astype(np.int64)


def pooled(judged: Sequence[Judged]) -> Pool:
    """All images in one."""
    return join([_single(item) for item in judged])


def join(pools: Sequence[Pool]) -> Pool:
    """Several pools in one; the same may be in it several times."""
    if not pools:
        return _single(Judged("", *(np.empty(0, np.float32),) * 3, np.empty(0, np.intp), np.empty(0, np.int8)), 0)
    return Pool(*(np.concatenate([getattr(pool, field.name) for pool in pools]) for field in fields(Pool)))


def _single(item: Judged, images: int = 1) -> Pool:
    """One image, or none (images = 0) where the item is empty."""
    scores = item.scores.astype(np.float64)
    malignancy = item.malignancy.astype(np.float64)
    lesions = len(item.malignant)
    best = np.full((2, lesions), NOT_FOUND)
    cancer = np.zeros(len(scores), np.int8)
    for index in range(lesions):
        mine = np.flatnonzero(item.lesion == index)
        if mine.size:
            first = mine[np.argmax(scores[mine])]
            best[:, index] = scores[first], malignancy[first]
            cancer[mine] = item.malignant[index]
    judgeable = scores if item.located else scores[:0]
    return Pool(
        image_score=np.full(images, scores.max(initial=0.0)),
        image_mass=np.full(images, lesions > 0 or not item.located),
        image_located=np.full(images, item.located),
        false_score=judgeable[item.lesion[: len(judgeable)] < 0],
        lesion_score=best[0],
        lesion_malignancy=best[1],
        lesion_malignant=item.malignant,
        found_score=judgeable,
        found_probability=item.probability[: len(judgeable)].astype(np.float64),
        found_cancer=cancer[: len(judgeable)],
    )


def auc(answers: NDArray[np.float64], truths: NDArray[np.int64]) -> float:
    """Area under the ROC curve as the Mann-Whitney statistic, ties at one half; NaN with one class only."""
    positive, negative = np.sort(answers[truths == 1]), np.sort(answers[truths == 0])
    if not len(positive) or not len(negative):
        return float("nan")
    below = np.searchsorted(negative, positive, "left").sum()
    ties = np.searchsorted(negative, positive, "right").sum() - below
    return float((below + ties / 2) / (len(positive) * len(negative)))
