"""The report as one HTML file that needs no other: the pictures are inside of it."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from engines.evaluation.bootstrap import interval
from engines.evaluation.pictures import RELIABILITIES

TEMPLATE = "page.html.j2"
FIGURES = {
    "image_auc": "mass / normal AUC, by image",
    "accuracy": "accuracy, by image",
    "precision": "precision, by image",
    "sensitivity": "sensitivity, by image",
    "specificity": "specificity, by image",
    "lesion_sensitivity": "lesion sensitivity at the operating point",
    "false_positives_per_image": "false positives per image at the operating point",
    "malignancy_auc_detected": "benign / malignant AUC, lesions found",
    "malignancy_auc_all": "benign / malignant AUC, all lesions",
    "malignancy_auc_all_reported": "the same, lowest where not found at the operating point",
    "brier": "Brier score of the probability of cancer, all findings",
    "ece": "calibration error (ECE) of the probability of cancer, all findings",
    "ece_at_own_share": "the same, at the set's own share of cancers",
    "malignancy_brier": "Brier score of the malignancy, lesions found",
    "malignancy_ece": "calibration error (ECE) of the malignancy, lesions found",
}
SUBGROUP_FIGURES = {
    "image_auc": "mass / normal AUC",
    "lesion_sensitivity": "lesion sensitivity, operating point",
    "lesion_sensitivity_at_1": "lesion sensitivity, 1 FP per image",
    "malignancy_auc_detected": "benign / malignant AUC, found",
}


def write_page(report: Mapping[str, Any], pictures: Mapping[str, Path], page: Path) -> None:
    """report: as report.report() gives it, with the annotations' name. pictures: PNG files by title."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["interval"] = interval
    images = {title: base64.b64encode(file.read_bytes()).decode() for title, file in pictures.items()}
    text = environment.get_template(TEMPLATE).render(
        report=report,
        pictures=images,
        figures=FIGURES,
        subgroup_figures=SUBGROUP_FIGURES,
        calibrated={title: report[key] for key, title in RELIABILITIES.items() if report[key]},
    )
    page.write_text(text, encoding="utf-8")
