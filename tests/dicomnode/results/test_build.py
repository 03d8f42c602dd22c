"""The one door of the results room."""

from typing import Literal

import pytest

from dicomnode.reading.findings import EarlierObject, ResultKind
from dicomnode.results.build import BUILDERS, KINDS, build_results
from dicomnode.results.options import Options
from dicomnode.results.segmentation import SegmentationVariant
from tests.dicomnode.results.samples import forms


def test_every_kind_has_its_builder() -> None:
    """A kind that a destination can ask for is a kind that can be made, and the report is made first."""
    assert set(BUILDERS) == set(ResultKind)
    assert next(iter(BUILDERS)) is ResultKind.REPORT


@pytest.mark.parametrize("kind", list(ResultKind))
def test_only_what_is_wanted_is_built(kind: ResultKind) -> None:
    """Asked for one kind, the door hands out no other, and no two objects share a UID."""
    earlier = EarlierObject("1.2.840.10008.5.1.4.1.1.88.34", "1.2.3.6", "1.2.3.7")
    results = build_results(forms()["several"], frozenset({kind}), Options(rejected=(earlier,)))
    assert {result.kind for result in results} == {kind}
    uids = [str(result.dataset.SOPInstanceUID) for result in results]
    assert len(set(uids)) == len(uids)


@pytest.mark.parametrize("form", ["binary", "fractional", "labelmap"])
def test_a_result_tells_its_kind(form: Literal["binary", "fractional", "labelmap"]) -> None:
    """By its SOP class alone, whatever form a destination wants its segmentations in."""
    earlier = EarlierObject("1.2.840.10008.5.1.4.1.1.88.34", "1.2.3.6", "1.2.3.7")
    options = Options(SegmentationVariant(form), (earlier,))
    results = build_results(forms()["several"], frozenset(ResultKind), options)
    assert {result.kind for result in results} == set(ResultKind)
    assert [KINDS[str(result.dataset.SOPClassUID)] for result in results] == [result.kind for result in results]
