"""The text of MODEL_CARD.md, with the figures of this very evaluation."""

from collections.abc import Mapping
from typing import Any

from engines.manifest import Manifest
from engines.training.cancer import section
from engines.training.evaluate import ENOUGH, FEW
from engines.training.origin import Origin
from engines.training.recipe import Recipe

HEAD = """# {name} {version}

{description}

**Not for clinical use.** No regulatory clearance; for research and for testing the way of a study through a PACS.

## What it does

Input: one mammogram (CC or MLO), any size. The breast is cut out, its chest wall brought to the left, its grey values
normalised (percentiles {low} and {high}), filter "{filter}", resampled into {rows} x {columns} pixels, three planes
(plain, CLAHE, local contrast). Network: {network}, {megabytes:.1f} MB of float32
weights. Output: boxes labelled "mass" (SCT 4147007) with a score, a malignancy and an outline.
Findings of a calibrated score of {threshold:.3f} or more are reported: the most sensitive point
of those that part {parted} well (Youden's J).

The score says how sure the network is that a mass is there, calibrated on {calibrated_on}: it is **no** probability
for a screening population. The malignancy says which of two masses looks
worse. How likely a finding is a cancer is told apart from both, or not at all (below).
"""
PARTED = "the best true from the best false finding of each validation image"
PARTED_NORMAL = "images with a mass (validation, and the other set's held-out patients) from that set's normal ones"
CALIBRATED_ON = "validation patients of a set in which every\nimage has a mass"
CALIBRATED_ON_OWN = "validation patients of the data below"
CALIBRATED_BESIDE = " and on held-out ones of another"

NETWORKS = {
    "one-stage": "EfficientNet-Lite0, a light feature pyramid, an anchor-free head at stride 8",
    "two-stage": "EfficientNet-Lite0, a light feature pyramid, an anchor-free head at stride 8 that\n"
    "proposes 40 regions, a second stage that looks at each with its surroundings (score, malignancy, box, mask)",
}

DATA = """
## Data

- Trained, chosen and tested on {source}: {split}. Split 80 / 10 / 10 by patient with seed {seed}; no patient is in two
  parts. The demo's patients P_00820 and P_00173 are in none of them.{citation}{crossed}
- {start}
{beside}

## Training

AdamW (3e-4 backbone, 1e-3 head), cosine, averaged weights, the backbone frozen up to stride 4 and its batch statistics
frozen throughout; {stages}; batches of {batch} crops of
384 x 288, {minutes:.0f} minutes on a CPU core shared with other work. Half of the crops on a lesion; scale 0.75-1.35,
rotation 25 degrees, stretch, flips, gamma and film curves, contrast, grain, blur, lost resolution, cutout, a random
filter in half of the crops. Losses: penalty-reduced focal loss (heat-map), generalised IoU (box), cross-entropy
(malignancy); of the second stage cross-entropy (score, malignancy), generalised IoU (box), cross-entropy against
classical outlines and the boxes' shadows on both axes (mask).

Repeat it: `{command}`{caveat}
"""

SOURCE = """CBIS-DDSM, mass subset, development part (digitised film, reduced to 800 x 800 pixels
  and stretched; the aspect was restored)"""
SOURCE_OWN = "the annotated images of the folder {data}, of which nothing else is known here"
CITATION = """
  Distributed by The Cancer Imaging Archive under CC BY 3.0. Cite: Sawyer-Lee R, Gimenez F, Hoogi A, Rubin D (2016)
  Curated Breast Imaging Subset of Digital Database for Screening Mammography (CBIS-DDSM), The Cancer Imaging Archive,
  doi:10.7937/K9/TCIA.2016.7O02S9CY; Lee RS et al (2017) Sci Data 4:170177, doi:10.1038/sdata.2017.177;
  Clark K et al (2013) J Digit Imaging 26(6):1045-1057; Heath M et al (2001) Proc. 5th IWDM, 212-218."""
CROSSED = """
- Two trainings cross: the first learned from the training and the test part, the second from the training and the
  validation part, and these weights are the mean of their last ones. So every patient has been learned from. Below,
  validation and test patients are each judged by the one training that had not seen them, not by the mean."""
BEGAN = "Began at {start}."
ALONE = """- mini-MIAS (Suckling J et al 1994, Excerpta Medica ICS 1069, 375-378; research only) was used for evaluation
  alone, where it was used."""
BESIDE = """- Trained on another set beside it: {facts}.
  Its figures below are of patients that the weights that were judged had not been trained on."""
BY_CLOCK = """
(this run was ended by the clock and its learning rate followed the time: a repetition is close, not equal)"""

LIMITS = """
## Limits

- {seen}
- Masses only: no calcifications, architectural distortions or asymmetries.
- {normal}
- Each view is judged alone: no comparison of sides, views or earlier examinations.
- {rough}
- The intervals are wide: one split, few patients. One run; the spread over seeds is not known.{few}
"""
SEEN = """Trained on digitised film of one source at low resolution (about 0.3 to 0.4 mm a pixel); never saw full-field
  digital mammograms, tomosynthesis, implants, magnification or spot views, or post-operative breasts."""
SEEN_OWN = "Made for what the images of {data} are: of other devices, breasts and places nothing is shown here."
NORMAL = """Every image of CBIS-DDSM has a mass, so false positives on normal breasts are shown by another set alone, if
  any."""
NORMAL_OWN = "Of the test images {count} have no mass; false positives on normal breasts are shown on those alone."
ROUGH = """The training boxes come from curated outlines that are known to be rough; the outlines of findings are not
  measured."""
CHOSEN_BY_FEW = """
- **{count} masses alone chose network, filter, calibration and threshold**: these may be far off."""
ROUGH_OWN = "The outlines of findings are not measured."


def model_card(manifest: Manifest, evaluation: Mapping[str, Any], recipe: Recipe, origin: Origin) -> str:
    """Markdown text. evaluation: as evaluation.json holds it."""
    settings = manifest.preprocess
    head = HEAD.format(
        name=manifest.name,
        version=manifest.version,
        description=manifest.description,
        low=settings.low_percentile,
        high=settings.high_percentile,
        filter=settings.filter,
        rows=settings.rows,
        columns=settings.columns,
        network=NETWORKS[manifest.decode.network],
        megabytes=manifest.weights[0].size_bytes / 1e6,
        threshold=manifest.threshold,
        parted=PARTED_NORMAL if _has_normal(evaluation.get("held_out", {})) else PARTED,
        calibrated_on=_calibrated_on(evaluation, origin),
    )
    parts = (f"{part} {facts}" for part, facts in evaluation["split"].items())
    data = DATA.format(
        source=SOURCE if origin.on_cbis else SOURCE_OWN.format(data=origin.data),
        citation=CITATION if origin.on_cbis else "",
        start=BEGAN.format(start=origin.start),
        split="; ".join(parts),
        seed=recipe.seed,
        crossed=CROSSED if evaluation.get("crossed") else "",
        beside=_beside(evaluation, recipe, origin),
        stages="; ".join(_stage(*stage) for stage in recipe.stages),
        batch=recipe.batch,
        minutes=recipe.minutes,
        command=recipe.command,
        caveat=BY_CLOCK if recipe.by_clock else "",
    )
    limits = LIMITS.format(
        few=CHOSEN_BY_FEW.format(count=count) if (count := evaluation["validation"]["lesions"]) < FEW else "",
        rough=ROUGH if origin.on_cbis else ROUGH_OWN,
        seen=SEEN if origin.on_cbis else SEEN_OWN.format(data=origin.data),
        normal=NORMAL if origin.on_cbis else NORMAL_OWN.format(count=evaluation["test"].get("normal_images", 0)),
    )
    return head + data + _measured(evaluation, origin) + "\n" + section(evaluation) + limits


def _calibrated_on(evaluation: Mapping[str, Any], origin: Origin) -> str:
    own = CALIBRATED_ON if origin.on_cbis else CALIBRATED_ON_OWN
    return own + CALIBRATED_BESIDE if evaluation.get("held_out") else own


def _beside(evaluation: Mapping[str, Any], recipe: Recipe, origin: Origin) -> str:
    """What other set there was, if any."""
    if recipe.beside:
        return BESIDE.format(facts=recipe.beside)
    return ALONE if origin.on_cbis or "mini_mias" in evaluation else ""


def _has_normal(figures: Mapping[str, Any]) -> bool:
    return int(figures.get("normal_images", 0)) >= ENOUGH


def _stage(kind: str, iterations: int, best: int) -> str:
    if not iterations:
        return f"{kind}: the mean of the weights of several trainings"
    return f"{kind}: {iterations} iterations, the weights of iteration {best}, the best on validation patients"


def _measured(evaluation: Mapping[str, Any], origin: Origin) -> str:
    lines = [
        "",
        "## Measured",
        "",
        "Hit: IoU of at least 0.2, or the detection's centre inside the truth. In brackets: 95 % patient bootstrap.",
        "",
    ]
    lines += [
        "Network, mean FROC sensitivity on validation patients: "
        + ", ".join(f"{name} {value:.3f}" for name, value in evaluation["networks"].items())
        + ".",
        "",
        "Outlines, mean IoU of their bounds with the curated boxes of the validation lesions found: "
        + ", ".join(f"{kind} {value:.3f}" for kind, value in evaluation["outlines"].items())
        + ". The better ones are sent.",
        "",
        "Filter, mean FROC sensitivity on validation patients: "
        + ", ".join(f"{name} {value:.3f}" for name, value in evaluation["filters"].items())
        + ".",
        "",
    ]
    first = "CBIS-DDSM " if origin.on_cbis else ""
    sets = [(title.format(first), evaluation[key]) for key, title in SETS if key in evaluation]
    lines += ["| figure | " + " | ".join(title for title, _ in sets) + " |", "|---" * (len(sets) + 1) + "|"]
    for label, path in ROWS:
        cells = [_cell(facts, path) for _, facts in sets]
        if any(cells):
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    at = ", ".join(f"{value:.3f} at {rate}" for rate, value in evaluation["chance"].items()) or "not run"
    lines += ["", f"Chance control (each test image gets another one's boxes), sensitivity at FP per image: {at}."]
    return "\n".join(lines) + "\n"


SETS = (
    ("validation", "{}validation (chosen on)"),
    ("test", "{}test"),
    ("held_out", "held-out patients of the other set"),
    ("mini_mias", "mini-MIAS (never trained on)"),
)
ROWS = (
    ("patients", ("patients",)),
    ("images", ("images",)),
    ("lesions", ("lesions",)),
    *((f"lesion sensitivity at {rate} FP per image", ("froc", rate)) for rate in ("0.25", "0.5", "1", "2", "4")),
    ("lesion sensitivity at the threshold", ("lesion_sensitivity",)),
    ("FP per image at the threshold", ("false_positives_per_image",)),
    ("benign / malignant AUC, detected lesions", ("malignancy_auc_detected",)),
    ("benign / malignant AUC, all lesions, reported or not", ("malignancy_auc_all",)),
    ("the same, lowest where not found at the threshold", ("malignancy_auc_all_reported",)),
    ("Brier score of the malignancy, lesions found", ("malignancy_brier",)),
    ("calibration error (ECE) of the malignancy, lesions found", ("malignancy_ece",)),
    ("mass / normal AUC by image", ("image_auc",)),
    ("images with a mass that have a finding", ("sensitivity",)),
    ("normal images without a finding", ("specificity",)),
    ("accuracy by image", ("accuracy",)),
    ("precision by image", ("precision",)),
)


def _cell(facts: Mapping[str, Any], path: tuple[str, ...]) -> str:
    value: Any = facts
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping):
        return f"{value['value']:.3f} [{value['low'] or 0:.2f}-{value['high'] or 0:.2f}]"
    return "" if value is None else str(value)
