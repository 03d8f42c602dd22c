"""Database URLs: reading them, and showing them without their secrets."""

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from storage.errors import UnsupportedDatabase

DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
SECRET_OPTIONS = ("password", "sslpassword")


def parse(url: str) -> URL:
    """Read a URL. Raises UnsupportedDatabase, whose message never holds a part of the URL but its scheme."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None:  # outside the handler: a chained error would carry the URL, and the password in it
        raise UnsupportedDatabase("the database URL cannot be read; special characters in a password are written %xx")
    if parsed.drivername not in DRIVERS:
        raise UnsupportedDatabase(f"{parsed.drivername!r} is not supported, use sqlite:///path or postgresql://…")
    return parsed.set(drivername=DRIVERS[parsed.drivername])


def secrets_of(url: URL) -> list[str]:
    """Whatever in the URL must not be shown."""
    options = [url.query.get(name, "") for name in SECRET_OPTIONS]
    values = [str(url.password or ""), *(value if isinstance(value, str) else ",".join(value) for value in options)]
    return [value for value in values if value]


def shown(url: URL) -> str:
    """The URL with its secrets replaced."""
    masked = url.set(query={name: "***" if name in SECRET_OPTIONS else value for name, value in url.query.items()})
    return masked.render_as_string(hide_password=True)
