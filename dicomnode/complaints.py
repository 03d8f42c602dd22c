"""What a command says when it cannot do what it was asked: one line, and exit code 1."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from dicomnode.errors import DicomnodeError
from engines.errors import EngineError
from storage.errors import StorageError


@contextmanager
def errors_are_messages() -> Iterator[None]:
    """Foreseen errors become their message on standard error."""
    try:
        yield
    except (DicomnodeError, EngineError, StorageError, OSError) as error:
        typer.echo(f"dicomnode: {error}", err=True)
        raise typer.Exit(1) from None
