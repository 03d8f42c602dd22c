"""A picture of each view, with the findings as they came back and the lesions that are known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dicomnode.demo.progress import StudyProgress
from dicomnode.demo.reading import ReturnedFinding, read_analysed
from dicomnode.demo.truth import KNOWN_LESIONS
from dicomnode.errors import ImageError
from dicomnode.images import load_image
from dicomnode.reading.pictures import draw_view
from engines.base import Detection, Mask


def draw_views(study: StudyProgress, findings: Sequence[ReturnedFinding], out: Path) -> list[Path]:
    """A PNG for every view of the study that can be decoded; their paths."""
    pictures = []
    analysed = read_analysed([item.path for item in study.returned])
    for number, source in enumerate(study.sources, start=1):
        try:
            image = load_image(source.path)
        except ImageError:
            continue  # a report or the like; what the node made of it stands in the returned report
        found = [_detection(item) for item in findings if item.sop_instance_uid == source.sop_instance_uid]
        known = [lesion.box for lesion in KNOWN_LESIONS.get(source.sop_instance_uid, ())]
        path = out / f"{study.name}-view-{number}.png"
        path.write_bytes(draw_view(image, found, known, analysed=source.sop_instance_uid in analysed))
        pictures.append(path)
    return pictures


def _detection(finding: ReturnedFinding) -> Detection:
    return Detection(finding.label, finding.box, finding.score, malignancy=None, mask=_patch(finding))


def _patch(finding: ReturnedFinding) -> Mask | None:
    """The outline, cut to its own extent."""
    if finding.outline is None or not finding.outline.any():
        return None
    rows = np.flatnonzero(finding.outline.any(axis=1))
    columns = np.flatnonzero(finding.outline.any(axis=0))
    row0, column0 = int(rows[0]), int(columns[0])
    patch = finding.outline[row0 : int(rows[-1]) + 1, column0 : int(columns[-1]) + 1]
    return Mask(row0, column0, patch)
