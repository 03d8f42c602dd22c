"""What every Segmentation of ours has in common."""

import highdicom as hd
from pydicom import Dataset

from dicomnode.results import codes
from dicomnode.results.identity import MANUFACTURER
from engines.base import EngineDescription

SERIES_NUMBER = 8002
HIGHLIGHT = hd.color.CIELabColor(l_star=78.0, a_star=2.0, b_star=76.0)  # amber, seen on grey by the colour-blind too


def algorithm_identification(engine: EngineDescription) -> hd.AlgorithmIdentificationSequence:
    """Which algorithm drew a segment (PS3.3 10.16)."""
    return hd.AlgorithmIdentificationSequence(
        name=engine.package[:64],
        family=codes.ARTIFICIAL_INTELLIGENCE,
        version=engine.version[:64],
        source=MANUFACTURER,
        parameters={"backend": engine.backend, "precision": engine.precision, "weights": engine.weights_sha256},
    )


def set_dimension_organization(dataset: Dataset, uid: str) -> None:
    """The library draws this UID at random."""
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
