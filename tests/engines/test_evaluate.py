import subprocess
import sys

import pytest


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_what_is_not_installed_is_named_with_its_extra(library: str) -> None:
    """The node itself needs neither library, so their absence is told and not traced."""
    code = f"import sys; sys.modules[{library!r}] = None; from engines.evaluate import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"error: {library} is not installed: pip install 'dicomnode[evaluate]'\n"
