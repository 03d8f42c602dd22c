"""`dicomnode engine`: build TensorRT engines ahead of time, show those that are kept, compare and time all backends."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from dicomnode import logs
from dicomnode.complaints import errors_are_messages
from engines.annotations import TABLE_NAME, read_annotations
from engines.comparison import Timed, Verified, bench, candidates, close, verify
from engines.cuda_probe import missing_gpu
from engines.factory import OPENERS, PRECISION
from engines.package import find_package, load_package
from engines.tensorrt import build_ahead
from engines.triton.repository import export_repository
from engines.trt.cache import EngineCache, Entry
from engines.trt.settings import BUILD_LIMIT_S, CACHE, MemoryName, TensorRtSettings

app = typer.Typer(
    add_completion=False,  # the whole command's own
    help="Engines: build them ahead of time, show the cache, compare every backend with the reference, time them.",
    no_args_is_help=True,
)

PackageOption = Annotated[str, typer.Option(help="Name of a shipped model package, or a package's folder.")]
CacheOption = Annotated[Path, typer.Option(help="The folder of engines, `cache` in the section `tensorrt`.")]
LimitOption = Annotated[float, typer.Option(min=1, help="A build that takes longer is ended, in seconds.")]
MemoryOption = Annotated[str, typer.Option(help="auto, cuda-bindings, pycuda.")]
BackendOption = Annotated[list[str] | None, typer.Option(help="Only this backend; may be given again.")]
ThreadsOption = Annotated[int, typer.Option(min=0, help="Of a processor; 0 lets the backend choose.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


@app.command("build")
def build_command(
    package: PackageOption = "mammo-mass",
    precision: Annotated[str, typer.Option(help="Of the weights, as fp32 or fp16.")] = PRECISION,
    cache: CacheOption = CACHE,
    limit_s: LimitOption = BUILD_LIMIT_S,
    memory: MemoryOption = "auto",
) -> None:
    """Build the engine that a worker on this machine will use, and check its answers where there is a GPU."""
    with errors_are_messages():
        logs.configure("auto", "INFO")
        settings = TensorRtSettings(cache, limit_s, _memory(memory))
        entry = build_ahead(load_package(find_package(package)), precision, settings)
    typer.echo(f"{entry.file}: {entry.size_bytes / 1e6:.1f} MB, {_answers(entry)}")


@app.command("list")
def list_command(cache: CacheOption = CACHE, *, as_json: JsonOption = False) -> None:
    """Show the engines that are kept. Exit code 1 where one is damaged; a worker builds it again."""
    entries = list(EngineCache(cache).entries())
    if as_json:
        typer.echo(json.dumps([asdict(entry) | {"file": str(entry.file)} for entry in entries], indent=2))
    else:
        table = Table("package", "precision", "built by", "for", "MB", "answers")
        for entry in entries:
            table.add_row(*_row(entry))
        Console().print(table)
    if any(entry.damage for entry in entries):
        raise typer.Exit(1)


def _row(entry: Entry) -> tuple[str, ...]:
    if not entry.key:
        return (entry.file.name, "", "", "", "", entry.damage)
    gpu = entry.key["gpu"]
    target = f"{gpu['name']} ({gpu['compute_capability']}), CUDA {gpu['cuda']}" if gpu else "any GPU that it knows"
    key = entry.key
    return (key["package"], key["precision"], key["builder"], target, f"{entry.size_bytes / 1e6:.1f}", _answers(entry))


def _answers(entry: Entry) -> str:
    if entry.damage:
        return f"damaged: {entry.damage}"
    if entry.differences is None:
        return "built, never executed"
    return f"largest difference from the reference {max(entry.differences.values()):.2g}"


@app.command("verify")
def verify_command(
    package: PackageOption = "mammo-mass",
    images: Annotated[
        Path | None, typer.Option(help="An annotated folder, as of `python -m engines.evaluate`.")
    ] = None,
    backend: BackendOption = None,
    threads: ThreadsOption = 0,
    cache: CacheOption = CACHE,
    limit_s: LimitOption = BUILD_LIMIT_S,
    memory: MemoryOption = "auto",
    *,
    as_json: JsonOption = False,
) -> None:
    """Compare every backend that runs here with ONNX Runtime: golden inputs, and areas under the ROC curve.

    Exit code 1 where one answers something else, or where a backend that was asked for does not run.
    """
    with errors_are_messages():
        logs.configure("auto", "WARNING")
        model = load_package(find_package(package))
        cases = (
            [case for case in read_annotations(images / TABLE_NAME, images) if case.kind != "other"] if images else []
        )
        found = list(candidates(model, _backends(backend), threads, TensorRtSettings(cache, limit_s, _memory(memory))))
        verified = verify(model, found, cases, lambda text: typer.echo(text, err=True))
        close(found)
    if as_json:
        typer.echo(json.dumps([_verified_json(item) for item in verified], indent=2))
    else:
        _show_verified(verified)
    if not all(item.holds and not (backend and item.missing) for item in verified):
        raise typer.Exit(1)


def _verified_json(item: Verified) -> dict[str, Any]:
    return asdict(item) | {"holds": item.holds}


def _show_verified(verified: list[Verified]) -> None:
    table = Table("backend", "precision", "largest difference by output", "AUC: image, malignancy", "holds")
    for item in verified:
        if item.agreement is None:
            continue
        listed = "\n".join(f"{name} {value:.2g}" for name, value in item.agreement.differences.items())
        changes = () if item.changes is None else (item.changes.image, item.changes.malignancy)
        said = ", ".join("not shown" if change is None else f"{change:+.4f}" for change in changes) or "not measured"
        table.add_row(item.backend, item.precision, listed, said, "yes" if item.holds else "NO")
    Console().print(table)
    for item in verified:
        if item.agreement is None:  # it cannot run here, or broke while it ran
            typer.echo(f"{item.backend} {item.precision} does not run: {item.missing or item.failed}")


@app.command("bench")
def bench_command(
    package: PackageOption = "mammo-mass",
    backend: BackendOption = None,
    threads: ThreadsOption = 0,
    cache: CacheOption = CACHE,
    limit_s: LimitOption = BUILD_LIMIT_S,
    memory: MemoryOption = "auto",
    rounds: Annotated[int, typer.Option(min=1, help="The fastest of so many counts.")] = 10,
    *,
    as_json: JsonOption = False,
) -> None:
    """Time every backend that runs here, network only: one view, and the four views of a study."""
    with errors_are_messages():
        logs.configure("auto", "WARNING")
        model = load_package(find_package(package))
        found = list(candidates(model, _backends(backend), threads, TensorRtSettings(cache, limit_s, _memory(memory))))
        timed = bench(model, found, rounds)
        close(found)
    if as_json:
        typer.echo(json.dumps([asdict(item) for item in timed], indent=2))
    else:
        _show_timed(timed)
    if reason := missing_gpu():
        typer.echo(f"no figure here is of a GPU: {reason}", err=True)


def _show_timed(timed: list[Timed]) -> None:
    table = Table("backend", "precision", "one view, ms", "four views, ms", "CUDA graph gain")
    for item in timed:
        if item.one_view_ms is not None and item.study_ms is not None:
            gain = ", ".join(f"{views}: {value:.2f}" for views, value in (item.graph_gain or {}).items())
            table.add_row(item.backend, item.precision, f"{item.one_view_ms:.2f}", f"{item.study_ms:.2f}", gain)
    Console().print(table)
    for item in timed:
        if item.missing:
            typer.echo(f"{item.backend} {item.precision} does not run: {item.missing}")


def _backends(given: list[str] | None) -> tuple[str, ...]:
    unknown = sorted(set(given or ()) - set(OPENERS))
    if unknown:
        raise typer.BadParameter(f"there is no backend {', '.join(unknown)}; there are {', '.join(OPENERS)}")
    return tuple(given or ())


def _memory(given: str) -> MemoryName:
    match given:
        case "auto" | "cuda-bindings" | "pycuda":
            return given
        case unknown:
            raise typer.BadParameter(f"there is no memory {unknown!r}; there are auto, cuda-bindings, pycuda")


@app.command("export-triton")
def export_triton(
    repository: Annotated[Path, typer.Argument(help="The server's model repository; made where there is none.")],
    package: Annotated[str, typer.Option(help="A model package, by name or path.")] = "mammo-mass",
    precision: Annotated[str, typer.Option(help="Of the weights to export.")] = "fp32",
) -> None:
    """Write a package into a model repository of Triton Inference Server, for `backend = "triton"`."""
    with errors_are_messages():
        folder = export_repository(load_package(find_package(package)), precision, repository)
        typer.echo(f'{folder}: set backend = "triton" for the package, and url under [triton]')
