"""What of an examination went unseen."""

from collections.abc import Sequence

import pytest
from pydicom import Dataset

from dicomnode.reading.findings import NotAnalysed, ResultKind
from dicomnode.results.build import build_results
from dicomnode.results.coverage import coverage
from dicomnode.results.wording import verdict
from tests.dicomnode.results.samples import VIEWS, digital_header, film_header, four_views, run_over


def headers_of(views: Sequence[tuple[str, str]]) -> list[Dataset]:
    """Mammograms of these sides and views."""
    return [digital_header(side, view, number) for number, (side, view) in enumerate(views, start=1)]


@pytest.mark.parametrize(
    ("views", "absent"),
    [
        (VIEWS, ()),
        ((("L", "CC"), ("L", "MLO")), ()),
        ((("L", "CC"),), (("L", "MLO"),)),
        (VIEWS[:3], (("L", "MLO"),)),
        ((("R", "CC"), ("L", "MLO")), (("R", "MLO"), ("L", "CC"))),
    ],
)
def test_both_views_are_expected_of_each_breast(
    views: Sequence[tuple[str, str]], absent: tuple[tuple[str, str], ...]
) -> None:
    """One breast alone is a whole examination, half of a breast is not."""
    seen = coverage(run_over([(header, []) for header in headers_of(views)]))
    assert seen.absent == absent
    assert seen.complete == (not absent)


def test_an_image_that_failed_is_missed_and_not_absent() -> None:
    """It was sent; the report names it with its reason, and does not ask for it again."""
    *rest, last = four_views()
    failed = NotAnalysed(last, "It broke.", excluded_by_rule=False)
    seen = coverage(run_over([(header, []) for header in rest], [failed]))
    assert (seen.missed, seen.absent, seen.complete) == ((failed,), (), False)


def test_an_excluded_image_can_add_a_breast() -> None:
    """A spot view of the other breast shows that this breast was examined, and not by the views expected of it."""
    spot = NotAnalysed(digital_header("R", "CC", 5), "Spot compression views are not analysed.", excluded_by_rule=True)
    seen = coverage(run_over([(header, []) for header in headers_of((("L", "CC"), ("L", "MLO")))], [spot]))
    assert seen.sides == ("R", "L")
    assert seen.absent == (("R", "MLO"),)
    assert seen.missed == (spot,)


def test_a_side_that_is_not_stated_matters_only_while_one_may_be_missing() -> None:
    """With both breasts seen in full, one more image of unknown side takes nothing away."""
    nameless = digital_header("L", "CC", 9)
    del nameless.ImageLaterality
    one_breast = headers_of((("L", "CC"), ("L", "MLO")))
    assert coverage(run_over([(header, []) for header in (*one_breast, nameless)])).sideless == 1
    assert coverage(run_over([(header, []) for header in (*four_views(), nameless)])).complete


def test_another_examination_in_the_study_is_no_missing_view() -> None:
    """Ultrasound beside four views is told, and the mammograms are complete all the same; alone it is all there is."""
    ultrasound = digital_header("R", "CC", 9)
    ultrasound.Modality, ultrasound.SOPClassUID = "US", "1.2.840.10008.5.1.4.1.1.6.1"
    beside = NotAnalysed(ultrasound, "Images of modality US are not analysed.", excluded_by_rule=True)
    study = run_over([(header, []) for header in four_views()], [beside])
    assert coverage(study).complete
    assert "Not analysed: right CC, series 1 image 9. Images of modality US are not analysed." in verdict(study).remarks
    assert coverage(run_over([], [beside], failure="Nothing.")).missed == (beside,)
    broken = NotAnalysed(ultrasound, "It cannot be decoded.", excluded_by_rule=False)
    assert not coverage(run_over([(header, []) for header in four_views()], [broken])).complete


def test_pictures_that_a_node_drew_are_no_images_of_the_study() -> None:
    """They come back with the study by an auto-route, and neither their sides nor their absence says anything."""
    study = run_over([(header, []) for header in headers_of((("L", "CC"), ("L", "MLO")))])
    drawn = [result.dataset for result in build_results(study, frozenset({ResultKind.CAPTURE}))]
    back = [NotAnalysed(item, "Images of modality OT are not analysed.", excluded_by_rule=True) for item in drawn]
    again = run_over([(header, []) for header in headers_of((("L", "CC"), ("L", "MLO")))], back)
    assert coverage(again) == coverage(study)
    assert verdict(again) == verdict(study)


def test_film_counts_as_mammography() -> None:
    """Laterality and view of film are read where CBIS-DDSM has them."""
    assert coverage(run_over([(film_header("R", "CC"), [])])).absent == (("R", "MLO"),)


def test_other_images_have_no_expected_views() -> None:
    """A chest radiograph is a whole examination."""
    header = digital_header()
    header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    header.Modality = "DX"
    assert coverage(run_over([(header, [])])).complete
