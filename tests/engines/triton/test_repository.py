from dataclasses import replace
from pathlib import Path

import pytest

from engines.errors import PackageError
from engines.package import ModelPackage, find_package, load_package
from engines.triton.repository import DIGEST, export_repository, model_config

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra train)")
text_format = pytest.importorskip("google.protobuf.text_format", reason="protobuf is not installed (extra triton)")
model_config_pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="the extra triton is not installed")


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    """The shipped one."""
    return load_package(find_package("mammo-mass"))


def _with_network(package: ModelPackage, folder: Path, batch: int | str) -> ModelPackage:
    """The package with a small network instead, of a fixed or free batch size."""
    kind = onnx.TensorProto.FLOAT
    images = onnx.helper.make_tensor_value_info("images", kind, [batch, 3, 64, 32])
    heat = onnx.helper.make_tensor_value_info("heat", kind, [batch, 3, 64, 32])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["images"], ["heat"])], "g", [images], [heat])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "small.onnx")
    weights = replace(package.weights(), file="small.onnx")
    return ModelPackage(folder, replace(package.manifest, weights=(weights,)))


def test_the_configuration_is_one_by_tritons_protobufs(package: ModelPackage) -> None:
    """Every field exists there; the network's input, outputs and weights are the package's."""
    config = text_format.Parse(model_config(package, "fp32"), model_config_pb2.ModelConfig())
    assert (config.name, config.backend) == (f"mammo-mass-{package.version}-fp32", "onnxruntime")
    assert config.parameters[DIGEST].string_value == package.weights().sha256
    assert [item.name for item in config.input] == ["images"]
    assert list(config.input[0].dims)[-3:] == [3, package.preprocess.rows, package.preprocess.columns]
    assert config.input[0].data_type == model_config_pb2.TYPE_FP32
    assert "embedding" in {item.name for item in config.output}
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_AUTO


@pytest.mark.parametrize(("batch", "most", "dims"), [(1, 0, [1, 3, 64, 32]), ("views", 16, [3, 64, 32])])
def test_the_server_makes_batches_where_the_network_takes_them(
    package: ModelPackage, tmp_path: Path, batch: int | str, most: int, dims: list[int]
) -> None:
    """A free first dimension is the server's; a fixed one is part of the shape."""
    text = model_config(_with_network(package, tmp_path, batch), "fp32")
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert (config.max_batch_size, list(config.input[0].dims), list(config.output[0].dims)) == (most, dims, dims)
    assert config.HasField("dynamic_batching") == (most > 0)


def test_a_repository_holds_the_weights_once(package: ModelPackage, tmp_path: Path) -> None:
    """The layout is Triton's; a second export changes nothing and says why."""
    folder = export_repository(package, "fp32", tmp_path / "models")
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) == [
        "1",
        "1/model.onnx",
        "config.pbtxt",
    ]
    assert (folder / "1/model.onnx").read_bytes() == (package.folder / package.weights().file).read_bytes()
    with pytest.raises(PackageError, match="is there already"):
        export_repository(package, "fp32", tmp_path / "models")
    assert [path.name for path in (tmp_path / "models").iterdir()] == [folder.name]


def test_weights_that_a_backend_rounds_are_not_exported(package: ModelPackage, tmp_path: Path) -> None:
    """bf16 that is the float32 file would be float32 there, under a wrong name."""
    rounded = replace(package.weights(), precision="bf16")
    manifest = replace(package.manifest, weights=(package.weights(), rounded))
    with pytest.raises(PackageError, match="export fp32"):
        export_repository(replace(package, manifest=manifest), "bf16", tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_network_that_cannot_be_loaded_leaves_nothing(package: ModelPackage, tmp_path: Path) -> None:
    """Neither half a model nor a hidden folder."""
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    weights = replace(package.weights(), file="broken.onnx")
    broken = ModelPackage(tmp_path, replace(package.manifest, weights=(weights,)))
    with pytest.raises(PackageError, match="cannot load"):
        export_repository(broken, "fp32", tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []
