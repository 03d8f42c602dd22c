import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [
        ("engines.evaluate", "jinja2", "evaluate"),
        ("engines.evaluate", "matplotlib", "evaluate"),
        ("engines.training", "torch", "train"),
    ],
)
def test_what_is_not_installed_is_named_with_its_extra(module: str, library: str, extra: str) -> None:
    """The node itself needs none of these libraries, so their absence is told and not traced."""
    code = f"import sys, runpy; sys.modules[{library!r}] = None; runpy.run_module({module!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"error: {library} is not installed: pip install 'dicomnode[{extra}]'\n"
