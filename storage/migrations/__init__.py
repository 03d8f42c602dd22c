"""Alembic's folder: `env` runs a script, `versions` holds them in order."""
