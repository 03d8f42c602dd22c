"""What is shown of a package's probability of cancer, in its evaluation and on its card."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from engines.evaluation.bootstrap import interval
from engines.evaluation.calibration import is_calibrated
from engines.evaluation.pool import Judged, pooled
from engines.evaluation.report import calibrations
from engines.manifest import CancerProbability

KEY = "probability_of_cancer"
SECTION = """## Probability of cancer

How likely a finding is a cancer, over all findings that are reported, false ones among them: score times malignancy,
both as the network gives them, calibrated by a line over its logit (slope {slope:.3f}, intercept {intercept:.3f}) on
the {count} findings of validation patients, {cancers} of them on a malignant mass.

**It holds for a place where {share:.1%} of the findings are cancers**, as in this set. Where images without a mass are
read, far fewer are: in screening one in a hundred, or less. So the node states a probability only where the site
says what share of the findings are cancers there (`cancer_share` under `[[models]]`: of the findings that were reported
in a year, those that turned out to be cancers), and scales the odds by the ratio of the two shares' odds. That takes
for granted that cancers look there as they do here, and everything else as well, which a site has to check.

{verdict}

| findings at the threshold | {titles} |
|---{rules}|
{rows}

ECE: in 10 bins of equal width. By chance: the mean of what perfectly calibrated answers show on as few findings, and
how often they show more. Slope and intercept: of the line that the truths follow over the logits (Cox), 1 and 0 where
they are calibrated, and how often calibrated answers lie further off. Own share: the odds scaled to the share of
cancers among the findings of that very set.
"""
HOLDS = """On test patients neither the calibration error nor the line is further off than chance alone brings: the
manifest says that it holds (`holds`). That is no proof of a small error: perfectly calibrated answers on as few
findings show an ECE of {chance:.3f} on average, and less than that cannot be shown there."""
NOT_SHOWN = """That it holds is **not shown** on test patients: too few findings, or further off than chance brings. The
manifest says so (`holds`), and no report states a probability."""
NOTHING = "\N{EN DASH}"
TITLES = {
    "validation": "validation (fitted on)",
    "test": "test",
    "held_out": "held-out patients of the other set",
    "mini_mias": "mini-MIAS",
}


def proven(given: CancerProbability, tested: Sequence[Judged], threshold: float) -> CancerProbability:
    """With what patients that the fit has not seen say of it. tested: calibrated."""
    return replace(given, holds=is_calibrated(*pooled(tested).findings(threshold)))


def facts(given: CancerProbability, sets: Mapping[str, Sequence[Judged]], threshold: float) -> dict[str, Any]:
    """For evaluation.json: the probability, and how far it is one on each set. sets: calibrated."""
    shown = {name: calibrations(judged, threshold, given.share) for name, judged in sets.items()}
    return {**asdict(given), "sets": shown}


def section(evaluation: Mapping[str, Any]) -> str:
    """Of the card; empty where the package gives no probability. evaluation: with facts() under KEY."""
    given = evaluation.get(KEY)
    if given is None:
        return ""
    sets = {name: part for name, part in given["sets"].items() if part["calibration"]}
    fitted = given["sets"]["validation"]["calibration"]
    verdict = HOLDS.format(chance=given["sets"]["test"]["calibration"]["chance_ece"]) if given["holds"] else NOT_SHOWN
    return SECTION.format(
        **given["calibration"],
        count=fitted["count"],
        cancers=fitted["cancers"],
        share=given["share"],
        verdict=verdict,
        titles=" | ".join(TITLES[name] for name in sets),
        rules="|---" * len(sets),
        rows="\n".join(_rows([evaluation[name] for name in sets], list(sets.values()))),
    )


def _rows(figures: Sequence[Mapping[str, Any]], parts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Of the table. figures: of each set, with intervals; parts: its calibrations."""
    plain = [part["calibration"] for part in parts]
    own = [part["calibration_at_own_share"] for part in parts]
    yield _row("number, on a cancer", [f"{item['count']}, {item['cancers']}" for item in plain])
    yield _row("ECE", [interval(item["ece"]) for item in figures])
    yield _row("the same by chance", list(map(_by_chance, plain)))
    yield _row("Brier score", [interval(item["brier"]) for item in figures])
    yield _row("slope, intercept", list(map(_line, plain)))
    yield _row("ECE, own share", [interval(item["ece_at_own_share"]) for item in figures])
    yield _row("the same by chance", list(map(_by_chance, own)))
    yield _row("slope, intercept, own share", list(map(_line, own)))


def _row(label: str, cells: Sequence[str]) -> str:
    return f"| {label} | {' | '.join(cells)} |"


def _by_chance(part: Mapping[str, Any] | None) -> str:
    return f"{part['chance_ece']:.3f}, more in {part['p_value']:.0%}" if part else NOTHING


def _line(part: Mapping[str, Any] | None) -> str:
    found = part["line"] if part else None
    if found is None:
        return NOTHING
    return f"{found['slope']:.2f}, {found['intercept']:.2f}; further off in {found['p_value']:.0%}"
