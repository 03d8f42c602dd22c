"""Commands whose libraries come with an extra: what to install in place of a trace."""

import sys
from importlib import import_module


def command(module: str, extra: str) -> int:
    """Run main() of a module; exit code 1 and a message where one of its libraries is not installed."""
    try:
        main = import_module(module).main
    except ModuleNotFoundError as error:
        library = (error.name or "a library").partition(".")[0]
        sys.stderr.write(f"error: {library} is not installed: pip install 'dicomnode[{extra}]'\n")
        return 1
    return int(main())
