"""The shipped package for tests that are about the node and send phantoms."""

import json
import shutil
from pathlib import Path

from engines.package import MANIFEST_NAME, find_package


def without_guard(folder: Path) -> str:
    """A copy that takes what no real mammogram is like, too; the path for a configuration."""
    copy = Path(shutil.copytree(find_package("mammo-mass"), folder / "mammo-mass"))
    manifest = json.loads((copy / MANIFEST_NAME).read_text())
    manifest["guard"] = None
    (copy / MANIFEST_NAME).write_text(json.dumps(manifest))
    return str(copy)
