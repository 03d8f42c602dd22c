"""What a radiologist reads: outcomes in words and as a code."""

from dataclasses import replace

import pytest
from pydicom import Dataset

from dicomnode.reading.findings import NOTHING_TO_ANALYSE, NotAnalysed, Remark, ScoreMeaning
from dicomnode.results.identity import NOT_FOR_CLINICAL_USE
from dicomnode.results.tracking import track
from dicomnode.results.wording import Verdict, finding_sentence, verdict
from tests.dicomnode.results.samples import (
    VIEWS,
    box_detection,
    digital_header,
    disc_detection,
    film_header,
    forms,
    four_views,
    run_over,
)

CODES = {
    "finding": "111244",
    "several": "111242",
    "none": "111241",
    "partial": "111244",
    "failed": "111245",
    "failed_early": "111245",
    "views_missing": "111243",
    "calibrated": "111242",
    "film": "111244",
    "film_none": "111243",
}


@pytest.mark.parametrize("form", list(CODES))
def test_the_code_of_each_form(form: str) -> None:
    """CID 6047 says to machines what the sentence says to people, and each form warns."""
    outcome = verdict(forms()[form])
    assert outcome.code.value == CODES[form]
    assert outcome.remarks[-1] == NOT_FOR_CLINICAL_USE


def test_sentences() -> None:
    """Counts are right, singular and plural, and failure is no negative."""
    samples = forms()
    assert (
        verdict(samples["finding"]).sentence
        == "1 candidate finding in 1 of 1 analysed image. The result is incomplete."
    )
    assert verdict(samples["several"]).sentence == "4 candidate findings in 2 of 4 analysed images."
    assert verdict(samples["none"]).sentence == "No candidate finding in 4 analysed images."
    assert "not a negative" in verdict(samples["failed"]).sentence
    assert verdict(samples["views_missing"]).sentence == (
        "No candidate finding in 2 analysed images. The result is incomplete and not a negative one."
    )


def test_a_missing_image_makes_the_result_incomplete() -> None:
    """Images that failed or were excluded are named with their reasons."""
    outcome = verdict(forms()["partial"])
    assert outcome.sentence.endswith("The result is incomplete.")
    assert "Not analysed: right CC. Breasts with implants are not analysed." in outcome.remarks
    assert "Could not be processed: right MLO. The pixel data cannot be decoded." in outcome.remarks


@pytest.mark.parametrize(
    ("laterality", "view", "by_rule", "code"),
    [("L", "CC", True, "111241"), ("R", "CC", True, "111243"), ("L", "CC", False, "111243")],
)
def test_an_excluded_twin_is_no_loss(laterality: str, view: str, by_rule: bool, code: str) -> None:
    """Raw data beside its presentation twin loses nothing; another side, or a failure, does."""
    twin = NotAnalysed(digital_header(laterality, view, 9), "Raw.", excluded_by_rule=by_rule)
    left = [(digital_header("L", "CC"), []), (digital_header("L", "MLO", 2), [])]
    assert verdict(run_over(left, [twin])).code.value == code


def test_a_report_in_the_study_is_no_missing_image() -> None:
    """Dose reports and presentation states are not told as left out."""
    other = Dataset()
    other.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.67"
    other.SOPInstanceUID = "1.2.3.9"
    outcome = verdict(run_over([(view, []) for view in four_views()], [NotAnalysed(other, "No image.", True)]))
    assert outcome.code.value == "111241"
    assert not any(remark.startswith("Not analysed") for remark in outcome.remarks)


def test_a_failure_is_told_once() -> None:
    """The reason of the run is not repeated for each image."""
    study = run_over([], [NotAnalysed(view, "It broke.", False) for view in four_views()], failure="It broke.")
    assert verdict(study).remarks == ("It broke.", NOT_FOR_CLINICAL_USE)


def _outcome(*left_out: NotAnalysed) -> Verdict:
    """Of a study of which nothing was evaluated."""
    return verdict(run_over([], left_out, failure=NOTHING_TO_ANALYSE))


def test_failed_refused_and_of_no_kind_are_different_sentences() -> None:
    """Each says that it is no negative result; an image that failed makes a study that could not be processed."""
    header = digital_header()
    failed = NotAnalysed(header, "It cannot be decoded.", excluded_by_rule=False)
    refused = NotAnalysed(header, "It is blank.", excluded_by_rule=False, refused=True)
    left_out = NotAnalysed(header, "Implants are not analysed.", excluded_by_rule=True)
    outcomes = [_outcome(failed, refused, left_out), _outcome(refused, left_out), _outcome(left_out)]
    assert [outcome.sentence.partition(".")[0] for outcome in outcomes] == [
        "The study could not be processed",
        "The model refused the images of this study",
        "No image of this study is of a kind that is analysed",
    ]
    assert {outcome.code.value for outcome in outcomes} == {"111245"}
    assert all(outcome.sentence.endswith("This is not a negative result.") for outcome in outcomes)
    assert outcomes[0].remarks[:4] == (
        NOTHING_TO_ANALYSE,
        "Could not be processed: left MLO. It cannot be decoded.",
        "Refused by the model: left MLO. It is blank.",
        "Not analysed: left MLO. Implants are not analysed.",
    )


def test_images_that_share_a_reason_share_a_line() -> None:
    """Four tomosynthesis objects beside four views are one remark; of two that are called alike each is told."""
    views = four_views()
    beside = [digital_header(laterality, view, 10 + number) for number, (laterality, view) in enumerate(VIEWS)]
    left_out = [NotAnalysed(item, "Tomo.", excluded_by_rule=True) for item in beside]
    outcome = verdict(run_over([(view, []) for view in views], left_out))
    (line,) = [remark for remark in outcome.remarks if remark.startswith("Not analysed")]
    assert line.startswith("Not analysed: right CC, series 1 image 10; left CC, series 1 image 11; ")
    assert line.endswith("; left MLO, series 1 image 13. Tomo.")


def test_images_that_share_a_remark_share_a_line() -> None:
    """What is odd about a whole study is told once, with the images that it is true of."""
    study = run_over([(view, []) for view in four_views()])
    odd = [replace(image, remarks=(Remark("odd", "It is odd."),)) for image in study.analysed[:3]]
    remarks = verdict(replace(study, analysed=(*odd, study.analysed[3]))).remarks
    assert [words for words in remarks if "odd" in words] == ["Note on right CC; left CC; right MLO: It is odd."]


def test_missing_views_are_named() -> None:
    """Which views are missing, of what is expected, and that one breast is all there is."""
    both = verdict(forms()["views_missing"]).remarks
    assert "Views missing: no image is marked as right MLO, left MLO. Expected of each breast: CC and MLO." in both
    one = verdict(run_over([(digital_header("L", view, number), []) for number, view in enumerate(("CC", "MLO"))]))
    assert "Only images of the left breast are in the study." in one.remarks
    assert one.code.value == "111241"


def test_an_image_without_a_side_leaves_it_open() -> None:
    """It may be all there is of the other breast, so nothing is called complete."""
    image = digital_header("R", "CC", 3)
    del image.ImageLaterality
    outcome = verdict(
        run_over([(view, []) for view in (digital_header("L", "CC"), digital_header("L", "MLO", 2), image)])
    )
    assert outcome.code.value == "111243"
    assert "1 analysed image without a side: whether views are missing is not known." in outcome.remarks


def test_a_calibrated_package_says_so() -> None:
    """The sentence about scores follows the package."""
    assert any("calibrated for a site where 1.5 %" in remark for remark in verdict(forms()["calibrated"]).remarks)
    assert any("not calibrated" in remark for remark in verdict(forms()["several"]).remarks)


def test_the_operating_point_is_told_with_findings_and_without() -> None:
    """What no finding means depends on the score from which one is reported."""
    expected = "Candidates with a detection score below 28.2 % are not reported."
    for found in ([], [disc_detection()]):
        study = run_over([(digital_header(), found)], scores=ScoreMeaning(report_at=0.28226))
        assert expected in verdict(study).remarks
    assert not any("are not reported" in remark for remark in verdict(forms()["none"]).remarks)


def test_a_finding_in_a_line() -> None:
    """Where it is, what it is, how sure, how large; pixels where no spacing is known."""
    digital = run_over([(digital_header(), [disc_detection()])])
    film = run_over([(film_header(), [box_detection()])])
    assert (
        finding_sentence(track(digital)[0], digital.scores)
        == "Finding 1 (left MLO): Mass, detection score 87 %, 4.1 mm."
    )
    assert (
        finding_sentence(track(film)[0], film.scores) == "Finding 1 (left MLO): Mass, detection score 55 %, 50 pixels."
    )


def test_a_probability_of_cancer_is_in_the_line() -> None:
    """Where a site has it stated, whoever reads only words reads it; elsewhere there is none."""
    study = forms()["calibrated"]
    line = finding_sentence(track(study)[0], study.scores)
    assert line == "Finding 1 (left CC): Mass, detection score 30 %, probability of cancer 6 %, 4.1 mm."
    assert "probability" not in finding_sentence(track(study)[0], ScoreMeaning())


def test_an_unknown_label_is_an_error() -> None:
    """A label without a code cannot be reported, and must not be reported as something else."""
    study = run_over([(digital_header(), [disc_detection()])])
    bare = run_over([])
    assert track(bare) == []
    object.__setattr__(study, "labels", ())
    with pytest.raises(KeyError):
        track(study)
