"""Networks are parsed and built by the real builder of TensorRT-RTX, which needs no GPU. Nothing is executed here."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from engines.errors import BackendUnavailable, PackageError
from engines.factory import Options
from engines.package import ModelPackage, find_package, load_package
from engines.tensorrt import kept_engine
from engines.trt.bindings import load_bindings
from engines.trt.builder import _read_timings
from engines.trt.cache import EngineCache, Entry
from engines.trt.process import run_child
from engines.trt.settings import ONE_VIEW, STUDY, BuildSettings, TensorRtSettings, profile_of, profiles_for

pytest.importorskip("tensorrt_rtx", reason="not installed: tensorrt-rtx")
LIMIT_S = 240.0


def _shipped() -> list[str]:
    """Precisions of the shipped package, without those that are another's file computed differently."""
    weights = load_package(find_package("mammo-mass")).manifest.weights
    files = [item.file for item in weights]
    return [item.precision for index, item in enumerate(weights) if item.file not in files[:index]]


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    """The shipped one."""
    return load_package(find_package("mammo-mass"))


def _request(onnx: Path, engine: Path) -> dict[str, Any]:
    settings = asdict(BuildSettings())
    return {
        "task": "build",
        "bindings": "tensorrt_rtx",
        "onnx": str(onnx),
        "engine": str(engine),
        "timing_cache": None,
        "settings": settings,
    }


@pytest.mark.parametrize("precision", _shipped())
def test_every_shipped_variant_is_built(package: ModelPackage, precision: str, tmp_path: Path) -> None:
    """Parsed and built in a child process, kept, found again without building, and built again where it is damaged."""
    settings = TensorRtSettings(cache=tmp_path / "engines", build_limit_s=LIMIT_S)
    bindings = load_bindings("tensorrt_rtx")
    entry = kept_engine(bindings, package, precision, settings)
    assert entry.size_bytes > package.weights(precision).size_bytes / 4
    assert entry.differences is None
    assert entry.key["weights_sha256"] == package.weights(precision).sha256
    again = kept_engine(bindings, package, precision, TensorRtSettings(settings.cache, build_limit_s=0.001))
    assert again.sha256 == entry.sha256
    assert not [item for item in settings.cache.iterdir() if item.name.startswith(".build-")]
    _damage(entry)
    (seen,) = EngineCache(settings.cache).entries()
    assert "checksum differs" in seen.damage
    kept_engine(bindings, package, precision, settings)
    (seen,) = EngineCache(settings.cache).entries()
    assert not seen.damage


def _damage(entry: Entry) -> None:
    """One bit in the middle of the engine changes."""
    content = bytearray(entry.file.read_bytes())
    content[len(content) // 2] ^= 1
    entry.file.write_bytes(content)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorRT-RTX says that its timing caches hold nothing
@pytest.mark.parametrize("before", [None, b"", b"rubbish" * 100])
def test_timings_are_read(tmp_path: Path, before: bytes | None) -> None:
    """By the real bindings called as TensorRT's: no file, an empty one and a damaged one all give a whole cache."""
    file = tmp_path / "gpu.timing"
    if before is not None:
        file.write_bytes(before)
    bindings = replace(load_bindings("tensorrt_rtx"), name="tensorrt")
    config = (builder := bindings.module.Builder(bindings.module.Logger())).create_builder_config()
    timings = _read_timings(config, file)
    assert timings is not None
    assert timings.serialize().nbytes > 0
    del builder


def test_what_tensorrt_does_not_take_is_left_to_other_backends(tmp_path: Path) -> None:
    """The child says what the parser said; whether the file is damaged its checksum has told before."""
    rubbish = tmp_path / "rubbish.onnx"
    rubbish.write_bytes(b"rubbish" * 100)
    with pytest.raises(BackendUnavailable, match=r"does not take the network rubbish\.onnx"):
        run_child(_request(rubbish, tmp_path / "engine"), LIMIT_S)


def test_weights_that_are_rounded_on_the_way_are_refused(package: ModelPackage, tmp_path: Path) -> None:
    """TensorRT computes as a file is typed, and bfloat16 here is the float32 file."""
    if "bf16" not in [item.precision for item in package.manifest.weights]:
        pytest.skip("the shipped package has no bf16 variant")
    with pytest.raises(BackendUnavailable, match="computes as a file is typed"):
        kept_engine(load_bindings("tensorrt_rtx"), package, "bf16", TensorRtSettings(tmp_path))


def test_a_cache_that_cannot_be_written_is_said(package: ModelPackage, tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendUnavailable, match="cannot be written"):
        kept_engine(load_bindings("tensorrt_rtx"), package, "fp32", TensorRtSettings(tmp_path / "file"))


def test_profiles_follow_the_network() -> None:
    """Any number of views: one for a single view, one for a study; a fixed number: only that."""
    assert profiles_for(-1) == (ONE_VIEW, STUDY)
    assert [profile_of(profiles_for(-1), views) for views in (1, 2, 4, 16)] == [0, 1, 1, 1]
    assert [(item.least, item.most) for item in profiles_for(1)] == [(1, 1)]
    for views in (0, 17):
        with pytest.raises(PackageError, match="at most 16"):
            profile_of(profiles_for(-1), views)
    with pytest.raises(PackageError, match="takes 0 images"):
        profiles_for(0)


def test_settings_survive_the_way_to_the_child() -> None:
    """They travel as JSON and come back equal, and the node's defaults are these."""
    settings = BuildSettings(workspace_bytes=5, optimization_level=1, tf32=True)
    assert BuildSettings(**json.loads(json.dumps(asdict(settings)))) == settings
    assert Options().tensorrt.build == BuildSettings()
