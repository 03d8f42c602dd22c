"""What every Segmentation of ours has in common."""

from typing import Any

import highdicom as hd
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.reading.findings import StudyAnalysis
from dicomnode.results import codes
from dicomnode.results.identity import MANUFACTURER, VERSION, run_uid, serial_number
from engines.base import EngineDescription

SERIES_NUMBERS = 8100  # and the image's number: of series with one number a list's order is by chance
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


def identity_of(study: StudyAnalysis, engine: EngineDescription, role: str, number: int) -> dict[str, Any]:
    """What highdicom wants to know of any segmentation of a run: whose it is, what made it, and when.

    number: of its image, or of its volume, in the study, from 1.
    """
    return {
        "series_instance_uid": run_uid(study.run, "series", role),
        "series_number": SERIES_NUMBERS + number,
        "sop_instance_uid": run_uid(study.run, role),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MANUFACTURER,
        "software_versions": VERSION,
        "device_serial_number": serial_number(engine),
        "transfer_syntax_uid": ExplicitVRLittleEndian,
        "content_label": "AI_FINDINGS",
        "content_date": study.run.created_at.date(),
        "content_time": study.run.created_at.time(),
    }


def set_dimension_organization(dataset: Dataset, uid: str) -> None:
    """The library draws this UID at random."""
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
