import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from engines.cuda_probe import Gpu
from engines.errors import BackendUnavailable
from engines.trt.cache import EngineCache, EngineKey
from engines.trt.settings import BuildSettings

GPU = Gpu("NVIDIA RTX A4000", "8.6", 48, 16 << 30, "13.0")
KEY = EngineKey("mammo-mass", "fp32", "a" * 64, "tensorrt 11.4.0.106", GPU, BuildSettings())


def _engine(folder: Path, content: bytes = b"an engine") -> Path:
    file = folder / "built"
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, weights_sha256="b" * 64),
        replace(KEY, builder="tensorrt 11.4.0.107"),
        replace(KEY, gpu=replace(GPU, cuda="13.1")),
        replace(KEY, gpu=replace(GPU, multiprocessors=46)),
        replace(KEY, gpu=None),
        replace(KEY, settings=BuildSettings(tf32=True)),
        replace(KEY, precision="fp16"),
    ],
    ids=["weights", "tensorrt", "cuda", "gpu", "no gpu", "settings", "precision"],
)
def test_an_engine_is_found_under_its_own_key_only(other: EngineKey, tmp_path: Path) -> None:
    """Whatever an engine depends on, another of it is another engine."""
    cache = EngineCache(tmp_path)
    kept = cache.store(KEY, _engine(tmp_path), None)
    assert cache.find(KEY) == replace(kept, key=json.loads(json.dumps(kept.key)))
    assert cache.find(other) is None


def test_what_was_measured_is_kept(tmp_path: Path) -> None:
    """How the engine answered stands beside it, and an engine that never ran says so."""
    cache = EngineCache(tmp_path)
    entry = cache.store(KEY, _engine(tmp_path), None)
    assert entry.differences is None
    cache.measured(entry, {"boxes": 0.25})
    (found,) = cache.entries()
    assert found.differences == {"boxes": 0.25}
    assert found.key["gpu"]["name"] == GPU.name


@pytest.mark.parametrize("part", ["engine", "description", "no engine", "half a description"])
def test_what_is_damaged_is_listed_and_never_found(part: str, tmp_path: Path) -> None:
    """It is told what is wrong; a look-up takes it away, so that it is built again."""
    cache = EngineCache(tmp_path)
    entry = cache.store(KEY, _engine(tmp_path), None)
    description = entry.file.with_suffix(".json")
    match part:
        case "engine":
            entry.file.write_bytes(b"an enginE")
        case "description":
            description.write_text("[]")
        case "no engine":
            entry.file.unlink()
        case _:
            description.write_text(description.read_text()[:40])
    (listed,) = cache.entries()
    assert listed.damage
    assert cache.find(KEY) is None
    assert list(cache.entries()) == []
    assert not entry.file.exists()


def test_an_engine_without_its_description_is_not_there(tmp_path: Path) -> None:
    """A process that died between the two files leaves nothing that would be used."""
    cache = EngineCache(tmp_path)
    entry = cache.store(KEY, _engine(tmp_path), None)
    entry.file.with_suffix(".json").unlink()
    assert cache.find(KEY) is None
    assert cache.store(KEY, _engine(tmp_path), None) == entry


def test_timings_belong_to_a_builder_and_a_gpu(tmp_path: Path) -> None:
    """Another package shares them, another GPU does not."""
    cache = EngineCache(tmp_path)
    assert cache.timing_cache(KEY) == cache.timing_cache(replace(KEY, package="other", weights_sha256="b" * 64))
    assert cache.timing_cache(KEY) != cache.timing_cache(replace(KEY, gpu=replace(GPU, name="other")))


def test_what_a_killed_build_left_is_taken_away(tmp_path: Path) -> None:
    """After a day; a build that runs now keeps its folder."""
    cache = EngineCache(tmp_path)
    with cache.work_folder() as running:
        old = tmp_path / ".build-old"
        old.mkdir()
        (old / "engine").write_bytes(b"half")
        os.utime(old, (0, 0))
        with cache.work_folder():
            assert not old.exists()
            assert Path(running).is_dir()


def test_no_room_is_said(tmp_path: Path) -> None:
    """A folder that is none: the message names it."""
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(BackendUnavailable, match="cannot be written"):
        EngineCache(file).work_folder()
