"""Engines on disk. An engine is there when its description is: that file is written last, and has the checksum."""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from engines.cuda_probe import Gpu
from engines.errors import BackendUnavailable
from engines.trt.bindings import Bindings
from engines.trt.settings import BuildSettings

FORMAT = 1
BUILD_PREFIX = ".build-"
LEFT_OVER_S = 86400.0


@dataclass(frozen=True, slots=True)
class EngineKey:
    """Everything that an engine depends on. gpu: None where it was built for no one GPU (TensorRT-RTX).

    package, precision: for people who read the list. builder: as "tensorrt 11.4.0.106".
    """

    package: str
    precision: str
    weights_sha256: str
    builder: str
    gpu: Gpu | None
    settings: BuildSettings

    @property
    def digest(self) -> str:
        """Hex digest, the name of the files."""
        parts = asdict(self) | {"format": FORMAT}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def key_of(
    bindings: Bindings, gpu: Gpu | None, settings: BuildSettings, package: str, precision: str, sha256: str
) -> EngineKey:
    """The key on this machine."""
    builder = f"{bindings.name} {bindings.version}"
    return EngineKey(package, precision, sha256, builder, None if bindings.portable else gpu, settings)


@dataclass(frozen=True, slots=True)
class Entry:
    """A kept engine. differences: largest by output from the reference, None where it never ran.

    damage: why it cannot be used, empty where it can.
    """

    file: Path
    key: Mapping[str, Any]
    size_bytes: int
    sha256: str
    differences: Mapping[str, float] | None
    damage: str = ""


@dataclass(frozen=True, slots=True)
class EngineCache:
    """A folder of engines, shared by all workers of a machine."""

    folder: Path

    def find(self, key: EngineKey) -> Entry | None:
        """The engine of that key, None where there is none that is whole; a damaged one is taken away."""
        description = self.folder / f"{key.digest}.json"
        if not description.is_file():
            return None
        entry = _read(description)
        if entry.damage:
            self.remove(entry)
            return None
        return entry

    def entries(self) -> Iterator[Entry]:
        """All of them, damaged ones too."""
        for description in sorted(self.folder.glob("*.json")):
            yield _read(description)

    def store(self, key: EngineKey, engine: Path, differences: Mapping[str, float] | None) -> Entry:
        """Keep a built engine, which is moved, and what was measured. Raises BackendUnavailable."""
        target = self.folder / f"{key.digest}.engine"
        try:
            with engine.open("rb+") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
                os.fsync(stream.fileno())
            engine.replace(target)
            entry = Entry(target, asdict(key), target.stat().st_size, digest, differences)
            self._describe(entry)
        except OSError as error:
            raise BackendUnavailable(f"an engine cannot be kept in {self.folder}: {error.strerror}") from error
        return entry

    def measured(self, entry: Entry, differences: Mapping[str, float]) -> Entry:
        """Note how a kept engine answered."""
        noted = replace(entry, differences=differences)
        self._describe(noted)
        return noted

    def remove(self, entry: Entry) -> None:
        """Forget an engine: its description first."""
        entry.file.with_suffix(".json").unlink(missing_ok=True)
        entry.file.unlink(missing_ok=True)

    def work_folder(self) -> "tempfile.TemporaryDirectory[str]":
        """A place for a build on the same file system. Raises BackendUnavailable where there is no room to be had."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            return tempfile.TemporaryDirectory(prefix=BUILD_PREFIX, dir=self.folder)
        except OSError as error:
            raise BackendUnavailable(f"the engine cache {self.folder} cannot be written: {error.strerror}") from error

    def _sweep(self) -> None:
        """Take away what builds left that were killed: no build is that old and still runs."""
        for left in self.folder.glob(f"{BUILD_PREFIX}*"):
            if time.time() - left.stat().st_mtime > LEFT_OVER_S:
                shutil.rmtree(left, ignore_errors=True)

    def timing_cache(self, key: EngineKey) -> Path:
        """What builds on this GPU with this TensorRT have measured."""
        gpu = asdict(key.gpu) if key.gpu else None
        digest = hashlib.sha256(json.dumps([key.builder, gpu], sort_keys=True).encode()).hexdigest()
        return self.folder / f"{digest}.timing"

    def _describe(self, entry: Entry) -> None:
        text = json.dumps(
            {
                "format": FORMAT,
                "key": entry.key,
                "size_bytes": entry.size_bytes,
                "sha256": entry.sha256,
                "differences": entry.differences,
            },
            indent=2,
        )
        with tempfile.NamedTemporaryFile(
            "w", dir=self.folder, suffix=".part", delete=False, encoding="utf-8"
        ) as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(stream.name).replace(entry.file.with_suffix(".json"))


def _read(description: Path) -> Entry:
    """An entry with its damage, where there is any."""
    engine = description.with_suffix(".engine")
    try:
        facts = json.loads(description.read_text(encoding="utf-8"))
        entry = Entry(engine, facts["key"], facts["size_bytes"], facts["sha256"], facts["differences"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Entry(engine, {}, 0, "", None, f"its description cannot be read ({type(error).__name__})")
    return replace(entry, damage=_damage(entry))


def _damage(entry: Entry) -> str:
    try:
        with entry.file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return f"the engine cannot be read ({error.strerror})"
    return "" if digest == entry.sha256 else "the engine is not the one that was stored (its checksum differs)"
