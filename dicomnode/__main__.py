"""`python -m dicomnode` is the same as `dicomnode`."""

from dicomnode.cli import app

app()
