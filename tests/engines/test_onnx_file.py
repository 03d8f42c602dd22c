"""Weights beside a network's file, where no checksum sees them, are found without the library that writes them."""

import hashlib
import json
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="onnx is not installed (extra train)")

import onnx

from engines.errors import PackageError
from engines.onnx_file import outside_files
from engines.package import load_package
from tests.support.small_network import write_package


def _seal(folder: Path) -> None:
    """Give the manifest the digest of the network as it is now."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["weights"][0]["sha256"] = hashlib.sha256((folder / "network.onnx").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_weights_beside_the_network_are_refused_and_put_inside(tmp_path: Path) -> None:
    """The file is named; what the message advises makes the package whole."""
    folder = write_package(tmp_path / "mine")
    file = folder / "network.onnx"
    beside = {"save_as_external_data": True, "location": "network.data", "size_threshold": 0}
    onnx.save(onnx.load(file), file, **beside)
    _seal(folder)
    assert outside_files(file) == {"network.data"}
    with pytest.raises(PackageError, match=r"network\.onnx keeps weights in network\.data, .* put them inside"):
        load_package(folder)
    onnx.save(onnx.load(file), file)
    _seal(folder)
    assert outside_files(file) == set()
    assert load_package(folder).name == "my-mass"


def test_weights_of_inner_networks_are_seen(tmp_path: Path) -> None:
    """Tensors lie in nodes' attributes and in the branches of an If, too."""
    tensor = onnx.TensorProto(name="t", data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="far.bin")
    branch = onnx.GraphProto(node=[onnx.helper.make_node("Constant", [], ["t"], value=tensor)])
    node = onnx.helper.make_node("If", ["c"], ["t"], then_branch=branch)
    file = tmp_path / "network.onnx"
    file.write_bytes(onnx.ModelProto(graph=onnx.GraphProto(node=[node])).SerializeToString())
    assert outside_files(file) == {"far.bin"}


@pytest.mark.parametrize("content", [b"", b"hello" * 99, b"\xff" * 99, b"\x3a\x05ab", b"\x3a\xff\xff\xff\xff\x0f"])
def test_what_is_no_network_names_none(tmp_path: Path, content: bytes) -> None:
    """Whoever loads it says what it is."""
    file = tmp_path / "network.onnx"
    file.write_bytes(content)
    assert outside_files(file) == set()
