"""Which files with secrets every user of the machine may read."""

import stat
from pathlib import Path

from dicomnode.config.settings import Settings
from storage.urls import parse, secrets_of

OPEN_TO_ALL = "every user of this machine may read a secret in this file: chmod o-r"


def open_to_all(settings: Settings, path: Path) -> list[Path]:
    """Those that exist. path: of the configuration, which counts where it holds a password itself.

    Raises UnsupportedDatabase.
    """
    keys = [settings.tls.private_key, settings.triton.private_key]
    own = [path] if _holds_a_password(settings, path) else []
    return [file for file in dict.fromkeys([*own, *filter(None, keys)]) if _others_may_read(file)]


def _holds_a_password(settings: Settings, path: Path) -> bool:
    """One that comes by an environment variable stands in no file."""
    written = [settings.database.url] if secrets_of(parse(settings.database.url)) else []
    if settings.pull.password is not None:
        written.append(settings.pull.password.get_secret_value())
    text = path.read_text()
    return any(secret in text for secret in written)


def _others_may_read(file: Path) -> bool:
    return file.is_file() and bool(file.stat().st_mode & stat.S_IROTH)
