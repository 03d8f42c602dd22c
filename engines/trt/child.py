"""The child process: python -m engines.trt.child REQUEST. What it says is one JSON object a line on standard output.

Lines {"tell": ...} are progress; the last line is {"done": {...}} or {"error": {"kind": ..., "text": ...}}.
"""

import json
import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from engines.errors import EngineError
from engines.golden import answers
from engines.trt.bindings import load_bindings
from engines.trt.builder import build_engine
from engines.trt.settings import BuildSettings


def main(request: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked. Raises EngineError."""
    match request["task"]:
        case "build":
            return _build(request)
        case "run":
            return _run(request)
        case unknown:
            raise ValueError(f"no task {unknown!r}")


def _build(request: dict[str, Any]) -> dict[str, Any]:
    """Build, and leave the engine in the file that is asked for."""
    timings = Path(request["timing_cache"]) if request["timing_cache"] else None
    settings = BuildSettings(**request["settings"])
    plan, profiles = build_engine(load_bindings(request["bindings"]), Path(request["onnx"]), settings, timings, tell)
    Path(request["engine"]).write_bytes(plan)
    return {"profiles": [asdict(item) for item in profiles]}


def _run(request: dict[str, Any]) -> dict[str, Any]:
    """Run an engine once, and leave its outputs in the file that is asked for."""
    from engines.trt.execute import load_engine  # noqa: PLC0415 - a build needs no GPU

    bindings = load_bindings(request["bindings"])
    backend = load_engine(bindings, Path(request["engine"]), request["precision"], request["memory"])
    outputs = answers(backend, np.load(request["inputs"]))
    np.savez(request["outputs"], allow_pickle=False, **outputs)
    return {"memory": backend.memory}


def tell(text: str) -> None:
    """One line of progress for the parent."""
    say({"tell": text})


def say(message: dict[str, Any]) -> None:
    """One message for the parent."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def end_with_parent() -> None:
    """End this process when the parent is gone: nobody waits for an engine any more."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    try:
        say({"done": main(json.loads(sys.argv[1]))})
    except EngineError as error:
        say({"error": {"kind": type(error).__name__, "text": str(error)}})
        raise SystemExit(1) from None
