"""What a package says of where it comes from: what is not known is not claimed."""

import json
from argparse import ArgumentTypeError, Namespace
from pathlib import Path

import pytest

from engines.errors import DataError
from engines.package import find_package, load_package
from engines.training.card import model_card
from engines.training.origin import NAME, Origin, origin_of, word
from engines.training.recipe import Recipe

SHIPPED = find_package("mammo-mass")


def _given(data: str, *start: Path, name: str | None = None, licence: str | None = None) -> Origin:
    options = Namespace(data=Path("/data") / data, start=list(start), name=name, version="1", licence=licence)
    return origin_of(options)


def test_a_package_made_from_another_takes_neither_its_name_nor_a_licence() -> None:
    """Two models of one name could not be told apart in a report; what the start allows is handed on."""
    origin = _given("our-mammograms", SHIPPED)
    assert origin.name == f"{NAME}-tuned"
    assert origin.licence.startswith("Not decided (--licence")
    assert f"the weights of mammo-mass {load_package(SHIPPED).version}, whose licence is: Research" in origin.licence
    assert _given("cbis-ddsm-mass", SHIPPED).licence.startswith("Not decided")


def test_only_of_the_known_set_the_terms_are_known() -> None:
    """From ImageNet on CBIS-DDSM it is free; on other data nobody knows."""
    assert _given("cbis-ddsm-mass").licence.startswith("Apache-2.0")
    assert _given("our-mammograms").licence.startswith("Not decided")
    assert _given("our-mammograms", Path("best.pt")).start == "the weights of an earlier training"


def test_what_is_said_counts() -> None:
    """Name and licence of one's own."""
    origin = _given("our-mammograms", SHIPPED, name="our-mass", licence="ours")
    assert (origin.name, origin.licence) == ("our-mass", "ours")


def test_a_start_that_is_no_valid_package_is_told(tmp_path: Path) -> None:
    """Before anything is trained."""
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match=r"--from .*not a valid manifest"):
        _given("our-mammograms", tmp_path)


@pytest.mark.parametrize("given", ["", "our mass", "our/mass", ".mass", "m" * 65])
def test_a_name_that_no_manifest_takes_is_no_option(given: str) -> None:
    """It would be refused after hours of training."""
    assert word("our-mass_1.0+b") == "our-mass_1.0+b"
    with pytest.raises(ArgumentTypeError, match="letters, digits"):
        word(given)


def test_the_card_of_other_data_claims_nothing_of_cbis_ddsm() -> None:
    """Neither its source, nor its terms, nor its limits."""
    package = load_package(SHIPPED)
    evaluation = json.loads((package.folder / "evaluation.json").read_text())
    recipe = Recipe("train", (("one-stage", 2, 1),), 8, 0, 1.0, by_clock=False)
    card = model_card(package.manifest, evaluation, recipe, _given("our-mammograms", SHIPPED))
    assert "CBIS" not in card.replace(package.manifest.licence, "")
    assert "annotated images of the folder our-mammograms" in card
    assert "Began at the weights of mammo-mass" in card
    assert "| figure | validation (chosen on) | test |" in card
