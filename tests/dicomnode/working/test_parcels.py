"""What goes to which destination, and that one UID never has two contents."""

from itertools import product
from typing import get_args

import pytest
from pydicom import dcmread

from dicomnode.assembly import Stores
from dicomnode.config.sections import DestinationKind, DestinationSettings
from dicomnode.errors import ResultConflict
from dicomnode.reading.findings import ResultKind, StudyAnalysis
from dicomnode.results.build import ResultObject, build_results
from dicomnode.results.options import Options
from dicomnode.working import parcels
from dicomnode.working.parcels import Parcel, pack
from tests.dicomnode.results.samples import forms
from tests.support.located import located

EVERYTHING = tuple(kind.value for kind in ResultKind)


def destination(name: str, **settings: object) -> DestinationSettings:
    """A destination that is never called."""
    return DestinationSettings.model_validate(
        {"name": name, "ae_title": "PACS", "host": "127.0.0.1", "port": 104, **settings}
    )


def packed(stores: Stores, *destinations: DestinationSettings, form: str = "several") -> dict[str, Parcel]:
    """Parcels by destination."""
    return {parcel.destination: parcel for parcel in pack(forms()[form], "1.2.3.4", destinations, stores.archive)}


def test_every_destination_gets_what_it_wants(stores: Stores) -> None:
    """In the order of the kinds, whatever the others want; what is wanted alike is the same file."""
    found = packed(
        stores, destination("all", objects=["seg", "sc", "sr"]), destination("sr", objects=["sr"]), destination("plain")
    )
    modalities = {
        name: [dcmread(located(stores.archive, item.object_key)).Modality for item in parcel.objects]
        for name, parcel in found.items()
    }
    assert modalities["sr"] == ["SR"]
    assert modalities["plain"] == ["SR", "SEG", "SEG"]
    assert modalities["all"] == ["SR", "SEG", "SEG", "OT", "OT", "OT", "OT"]
    assert found["sr"].objects[0] == found["all"].objects[0]


def test_nothing_for_nobody(stores: Stores) -> None:
    """A destination that wants only what this run does not have gets no parcel."""
    assert packed(stores, destination("seg", objects=["seg"]), form="none") == {}


@pytest.mark.parametrize("form", list(forms()))
def test_one_uid_never_has_two_contents(stores: Stores, form: str) -> None:
    """Over all kinds of destination and all their options at once; `pack` itself would say so."""
    choices = product(get_args(DestinationKind), ["binary", "fractional", "labelmap"], [False, True])
    destinations = [
        destination(str(number), kind=kind, objects=EVERYTHING, segmentation_form=written, invented_geometry=geometry)
        for number, (kind, written, geometry) in enumerate(choices)
    ]
    found = packed(stores, *destinations, form=form)
    contents = {(item.sop_instance_uid, item.object_key) for parcel in found.values() for item in parcel.objects}
    assert len(contents) == len({uid for uid, _ in contents})


def test_a_choice_without_a_uid_of_its_own_is_not_sent(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that differs between destinations under one UID stops the job; neither leaves."""

    def careless(study: StudyAnalysis, kinds: frozenset[ResultKind], options: Options) -> list[ResultObject]:
        results = build_results(study, kinds, options)
        results[0].dataset.SeriesDescription = str(options)[:64]
        return results

    monkeypatch.setattr(parcels, "build_results", careless)
    with pytest.raises(ResultConflict, match="two contents"):
        packed(stores, destination("one"), destination("other", segmentation_form="fractional"))
