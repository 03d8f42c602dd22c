"""From an ONNX file to an engine. Runs in a child process: TensorRT's builder is large, slow, and may crash."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engines.errors import BackendUnavailable, PackageError
from engines.signature import INPUT_NAME
from engines.trt.bindings import Bindings
from engines.trt.settings import BuildSettings, Profile, profiles_for

Tell = Callable[[str], None]


def build_engine(
    bindings: Bindings, onnx: Path, settings: BuildSettings, timing_cache: Path | None, tell: Tell
) -> tuple[bytes, tuple[Profile, ...]]:
    """A serialised engine and its profiles, in their order. tell: gets a line for each phase of the build.

    timing_cache: a file with what earlier builds measured, read where it is there and written anew; None without.
    Raises BackendUnavailable where TensorRT does not take the network or the build fails: other backends may do it;
    PackageError where the network's input is none that we know.
    """
    trt = bindings.module
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    shape = _parse(trt, network, logger, onnx)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_bytes)
    config.builder_optimization_level = settings.optimization_level
    if not settings.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    config.progress_monitor = monitor = progress_monitor(trt, tell)
    profiles = profiles_for(shape[0])
    if shape[0] == -1:
        _add_profiles(builder, config, profiles, shape[1:])
    # TensorRT-RTX times nothing while it builds.
    timings = None if timing_cache is None or bindings.portable else _read_timings(config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    del monitor  # lived as long as the build: the configuration holds no reference to it
    if plan is None:
        raise BackendUnavailable(f"TensorRT did not build an engine from {onnx.name}; its own lines in the log say why")
    if timings is not None and timing_cache is not None:
        part = timing_cache.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(timings.serialize())
        part.replace(timing_cache)
    return bytes(plan), profiles


def _read_timings(config: Any, file: Path) -> Any:
    """The timing cache of a build, with what the file holds where TensorRT takes it; lives as long as it is held."""
    for known in (file.read_bytes(), b"") if file.is_file() else (b"",):
        timings = config.create_timing_cache(known)
        if timings is not None and config.set_timing_cache(timings, False):  # False: only of this very device
            return timings
    return None


def _parse(trt: Any, network: Any, logger: Any, onnx: Path) -> tuple[int, ...]:
    """Read the file into the network. Returns the input's shape, -1 where any length goes."""
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        found = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
        raise BackendUnavailable(f"TensorRT does not take the network {onnx.name}: {found}")
    names = [network.get_input(index).name for index in range(network.num_inputs)]
    if names != [INPUT_NAME]:
        raise PackageError(f"the network {onnx.name} has the inputs {names}; one named {INPUT_NAME!r} is needed")
    return tuple(network.get_input(0).shape)


def _add_profiles(builder: Any, config: Any, profiles: Sequence[Profile], rest: tuple[int, ...]) -> None:
    for item in profiles:
        profile = builder.create_optimization_profile()
        profile.set_shape(INPUT_NAME, *((views, *rest) for views in (item.least, item.typical, item.most)))
        config.add_optimization_profile(profile)


def progress_monitor(trt: Any, tell: Tell) -> Any:
    """A monitor that tells each outermost phase. Made here because its base class comes with the bindings."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the bindings ship no stubs
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)  # pybind11 wants the base by name
            self._depth = 0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            del parent_phase
            self._depth += 1
            if self._depth <= 2:  # noqa: PLR2004 - the whole build and its parts; below come thousands of layers
                tell(f"{phase_name} ({num_steps} steps)")

        def step_complete(self, phase_name: str, step: int) -> bool:
            del phase_name, step
            return True

        def phase_finish(self, phase_name: str) -> None:
            del phase_name
            self._depth -= 1

    return Monitor()
