"""The order of a study's images."""

import random

from pydicom import Dataset

from dicomnode.reading.order import in_reading_order
from dicomnode.results.naming import image_name
from tests.dicomnode.results.samples import digital_header

HUNG = (("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))


def numbered(series: str, instance: str) -> Dataset:
    """An image that is no mammogram."""
    header = Dataset()
    header.SOPInstanceUID = f"1.2.{series or 0}.{instance or 0}"
    header.SeriesNumber, header.InstanceNumber = series, instance
    return header


def test_views_are_in_the_order_in_which_they_are_hung() -> None:
    """Whatever their UIDs are and however they came: CC before MLO, right before left, then the rest."""
    headers = [digital_header(side, view, 9 - number) for number, (side, view) in enumerate(HUNG)]
    lateral, sideless = digital_header("L", "CC", 1), digital_header("R", "CC", 2)
    lateral.ViewCodeSequence[0].CodeValue = "399260004"
    del sideless.ImageLaterality
    expected = ["right CC", "left CC", "CC, side unknown", "right MLO", "left MLO", "left ML"]
    mixed = [*headers, lateral, sideless]
    random.Random(1).shuffle(mixed)  # noqa: S311  a fixed order that is not theirs
    assert [image_name(header) for header in in_reading_order(mixed)] == expected


def test_images_without_a_view_are_in_the_order_of_their_numbers() -> None:
    """As numbers and not as text; those without come last, by UID."""
    headers = [numbered("10", "1"), numbered("2", "11"), numbered("2", "3"), numbered("", "7"), numbered("", "")]
    ordered = [header.SOPInstanceUID for header in in_reading_order(headers[::-1])]
    assert ordered == ["1.2.2.3", "1.2.2.11", "1.2.10.1", "1.2.0.7", "1.2.0.0"]
