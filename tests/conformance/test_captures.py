"""A validator that accepts every capture must be one that can refuse one."""

from pathlib import Path

from dicomnode.reading.findings import ResultKind
from dicomnode.results.build import build_results, encode
from tests.dicomnode.results.samples import forms
from tests.support.validators import complaints


def test_dciodvfy_rejects_a_broken_capture(tmp_path: Path) -> None:
    """A picture that does not say how it was captured, nor how its colours are stored, must not pass."""
    (capture,) = build_results(forms()["finding"], frozenset({ResultKind.CAPTURE}))
    path = tmp_path / "capture.dcm"
    path.write_bytes(encode(capture.dataset))
    assert complaints("dciodvfy", path) == []
    del capture.dataset.ConversionType
    del capture.dataset.PlanarConfiguration
    path.write_bytes(encode(capture.dataset))
    said = "\n".join(complaints("dciodvfy", path))
    assert "ConversionType" in said
    assert "PlanarConfiguration" in said
