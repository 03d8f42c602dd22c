import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from engines.errors import PackageError
from engines.manifest import GuardFile
from engines.package import find_package, load_package
from engines.training.amend import amend, with_section, with_weights

CARD = "# name\n\ntext\n\n## Measured\n\nfigures\n\n## Limits\n\n- none\n"


def test_a_section_goes_before_the_limits_and_replaces_itself() -> None:
    """Once in its place, with other words in the same place, and never twice."""
    once = with_section(CARD, "## Guard\n\nfirst words\n")
    assert once.index("figures") < once.index("first words") < once.index("## Limits")
    twice = with_section(once, "## Guard\n\nother words\n")
    assert "first words" not in twice
    assert twice == once.replace("first words", "other words")


def test_a_card_without_limits_gets_it_at_the_end() -> None:
    """A package of somebody else may have any headings."""
    assert with_section("# name\n", "## Guard\n\nwords\n") == "# name\n\n## Guard\n\nwords\n\n"


def test_an_amended_package_is_valid_and_an_unfit_one_is_refused(tmp_path: Path) -> None:
    """Figures, card and manifest change together; a manifest that names a missing file is an error."""
    folder = tmp_path / "package"
    shutil.copytree(find_package("mammo-mass"), folder)
    package = load_package(folder)
    offered = with_weights(package.manifest, replace(package.weights(), precision="bf16"))
    amended = amend(package, offered, {"variants": {"bf16": 1}}, "## Speed variants\n\nwords\n")
    assert amended.weights("bf16").file == amended.weights("fp32").file
    assert json.loads((folder / "evaluation.json").read_text())["variants"] == {"bf16": 1}
    assert "## Speed variants\n\nwords\n" in amended.model_card.read_text()
    absent = replace(package.manifest, guard=GuardFile("absent.npz", "0" * 64, 1.0))
    with pytest.raises(PackageError, match=r"absent\.npz"):
        amend(package, absent, {}, "## Input guard\n")
